//! Small frames that are ready together leave as one chunk, which HTTP/2 sends as one DATA frame.
//!
//! Whoever catches up gets thousands of small frames. Clients count what a DATA frame costs them beside its bytes, and
//! some hang up over a few hundred small ones that they have not read yet; here each takes a place in a queue as well.
//!
//! A frame alone stays the buffer that all subscribers share. Joining copies, for this subscriber only: that is the price
//! of being behind by several frames, bounded by one chunk, and nobody who is live pays it.

use bytes::Bytes;

use crate::replication::Step;

/// The most that is joined, in bytes: many small frames, and little for a subscriber that stalls, which holds three chunks:
/// on its way, handed over, and waiting for that.
const CHUNK_BYTES: usize = 4 << 10;

/// Joins `first` with the frames that `next` has ready. Returns with the chunk the step that was come to, unless it is to
/// wait: waiting begins with looking again.
pub(super) fn pack(first: Bytes, mut next: impl FnMut() -> Step) -> (Bytes, Option<Step>) {
    let mut bytes = first.len();
    let mut more = Vec::new();
    while bytes < CHUNK_BYTES {
        match next() {
            Step::Send(frame) if bytes + frame.len() <= CHUNK_BYTES => {
                bytes += frame.len();
                more.push(frame);
            }
            Step::Wait { .. } => break,
            step => return (join(first, &more, bytes), Some(step)),
        }
    }
    (join(first, &more, bytes), None)
}

fn join(first: Bytes, more: &[Bytes], bytes: usize) -> Bytes {
    if more.is_empty() {
        return first;
    }
    let mut joined = Vec::with_capacity(bytes);
    joined.extend_from_slice(&first);
    more.iter().for_each(|frame| joined.extend_from_slice(frame));
    joined.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WAIT: Step = Step::Wait { until: Duration::ZERO };

    fn of(bytes: usize) -> Bytes {
        vec![bytes as u8; bytes].into()
    }

    /// The lengths of frames that are ready, and of the chunk they become; whether a step is left over.
    fn check(first: usize, ready: &[usize], chunk: usize, left: Option<Step>) {
        let mut steps = ready.iter().map(|bytes| Step::Send(of(*bytes))).chain([WAIT]);
        let (packed, next) = pack(of(first), || steps.next().unwrap());
        assert_eq!((packed.len(), next), (chunk, left), "{first} {ready:?}");
    }

    #[test]
    fn small_frames_are_joined_up_to_a_chunk_and_large_ones_are_left_alone() {
        check(100, &[], 100, None);
        check(100, &[200, 300], 600, None);
        check(100, &[CHUNK_BYTES - 100, 1], CHUNK_BYTES, None);
        check(100, &[CHUNK_BYTES], 100, Some(Step::Send(of(CHUNK_BYTES))));
        check(CHUNK_BYTES + 1, &[1], CHUNK_BYTES + 1, None);
    }

    #[test]
    fn frames_keep_their_order_and_what_is_no_frame_is_handed_back() {
        let read = Step::ReadHistory { from: crate::revocation::Revision(7), bytes_max: 1 };
        let mut steps = [Step::Send("b".into()), Step::Send("c".into()), read.clone()].into_iter();
        assert_eq!(pack("a".into(), || steps.next().unwrap()), ("abc".into(), Some(read)));
        assert_eq!(pack("a".into(), || Step::Close), ("a".into(), Some(Step::Close)));
    }

    #[test]
    fn a_frame_alone_is_not_copied() {
        let shared = of(100);
        let (packed, _) = pack(shared.clone(), || WAIT);
        assert_eq!(packed.as_ptr(), shared.as_ptr());
    }
}
