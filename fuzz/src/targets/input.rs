//! Choices taken off the front of an input; zeros once it is used up.

/// What is left of an input.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn coin(&mut self) -> bool {
        self.byte().is_multiple_of(2)
    }

    pub fn u64(&mut self) -> u64 {
        self.take(8).iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    }

    /// At most so many bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(count.min(self.0.len()));
        self.0 = tail;
        head
    }

    /// Bytes behind their length, one byte.
    pub fn block(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.take(length)
    }

    /// Bytes behind their length, two bytes.
    pub fn long_block(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()) | usize::from(self.byte()) << 8;
        self.take(length)
    }

    /// Changes some bytes: as many as the next one says, at most three.
    pub fn spoil(&mut self, bytes: &mut [u8]) {
        for _ in 0..self.byte() % 4 {
            let (at, value) = (usize::from(self.byte()) | usize::from(self.byte()) << 8, self.byte());
            if !bytes.is_empty() {
                let at = at % bytes.len();
                bytes[at] ^= value;
            }
        }
    }
}
