//! The words of JSON: strings, numbers and literals, and the white space between them.

use super::{JsonError, JsonProblem};

/// A place in a JSON text.
pub(super) struct Lexer<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(json: &'a str) -> Self {
        Self { json, at: 0 }
    }

    /// The whole of the input.
    pub(super) fn text(&self) -> &'a str {
        self.json
    }

    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// Skips white space; the byte that follows, or `None` at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other,
            }
        }
    }

    /// Like [`Lexer::peek`], where the text must not end.
    #[inline]
    pub(super) fn require(&mut self) -> Result<u8, JsonError> {
        self.peek().ok_or(JsonProblem::UnexpectedEnd.at(self.at))
    }

    /// Steps over the (ASCII) byte that [`Lexer::peek`] returned.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    /// Steps over one of the three literals.
    pub(super) fn literal(&mut self, literal: &str) -> Result<(), JsonError> {
        if !self.rest().starts_with(literal.as_bytes()) {
            return Err(JsonProblem::UnexpectedByte.at(self.at));
        }
        self.at += literal.len();
        Ok(())
    }

    /// The number (RFC 8259 §6) that starts here, as written.
    pub(super) fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        self.skip_if(b"-");
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.skip_if(b".") {
            self.digits()?;
        }
        if self.skip_if(b"eE") {
            self.skip_if(b"+-");
            self.digits()?;
        }
        if let Some(b'0'..=b'9') = self.byte() {
            return Err(JsonProblem::InvalidNumber.at(self.at));
        }
        Ok(&self.json[start..self.at])
    }

    /// The string that starts here with its quote, unescaped: a part of the input, or of `scratch` if it has escapes.
    #[inline]
    pub(super) fn string<'s>(&mut self, scratch: &'s mut String) -> Result<&'s str, JsonError>
    where
        'a: 's,
    {
        self.at += 1;
        let plain = self.plain();
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(plain);
        }
        scratch.clear();
        scratch.push_str(plain);
        loop {
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => scratch.push(self.escape()?),
                Some(_) => return Err(JsonProblem::ControlCharacter.at(self.at)),
                None => return Err(JsonProblem::UnexpectedEnd.at(self.at)),
            }
            scratch.push_str(self.plain());
        }
        self.at += 1;
        Ok(scratch)
    }

    /// Steps over the bytes that stand for themselves in a string.
    #[inline]
    fn plain(&mut self) -> &'a str {
        let start = self.at;
        self.at += plain_length(self.rest());
        &self.json[start..self.at]
    }

    /// The character that an escape stands for; the backslash is next.
    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        self.at += 1;
        let byte = self.byte().ok_or(JsonProblem::UnexpectedEnd.at(self.at))?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.escaped_unit(start),
            _ => return Err(JsonProblem::InvalidEscape.at(start)),
        })
    }

    /// The character of a `\uXXXX` or of a pair of them (RFC 8259 §7) that began at `start`; the digits are next.
    fn escaped_unit(&mut self, start: usize) -> Result<char, JsonError> {
        let first = self.hex4(start)?;
        if let Some(char) = char::from_u32(first) {
            return Ok(char);
        }
        let lone = JsonProblem::LoneSurrogate.at(start);
        if first >= 0xdc00 || !self.rest().starts_with(b"\\u") {
            return Err(lone);
        }
        let second_start = self.at;
        self.at += 2;
        let second = self.hex4(second_start)?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(lone);
        }
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(lone)
    }

    fn hex4(&mut self, escape_start: usize) -> Result<u32, JsonError> {
        let digits = self.rest().get(..4).ok_or(JsonProblem::UnexpectedEnd.at(self.json.len()))?;
        let unit = digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?));
        self.at += 4;
        unit.ok_or(JsonProblem::InvalidEscape.at(escape_start))
    }

    /// Steps over one or more digits.
    fn digits(&mut self) -> Result<(), JsonError> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return Err(JsonProblem::InvalidNumber.at(self.at));
        }
        self.at += count;
        Ok(())
    }

    fn skip_if(&mut self, any_of: &[u8]) -> bool {
        let found = self.byte().is_some_and(|byte| any_of.contains(&byte));
        self.at += usize::from(found);
        found
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.json.as_bytes().get(self.at..).unwrap_or_default()
    }
}

/// How many bytes come before the first quote, backslash or control character; eight are looked at at once.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES * 0x80;
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // A byte's high bit gets set if a subtraction underflows in it; `!word` rules out bytes above ASCII. A borrow
        // can set bits above a true one, never below it, so the lowest is exact.
        let control = word.wrapping_sub(ONES * 0x20);
        let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
        let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
        let special = (control | quote | backslash) & !word & HIGHS;
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let plain = |byte: &&u8| !matches!(byte, 0..0x20 | b'"' | b'\\');
    words.len() * 8 + tail.iter().take_while(plain).count()
}
