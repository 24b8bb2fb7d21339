//! How old the last word of the authority is: its age, never the age of the last byte from a relay.

use std::time::Duration;

use crate::replication::moment::Moment;
use crate::revocation::{Revision, UnixMillis};

/// The last signed word about the state that was held when it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Freshness {
    word: Option<Word>,
}

/// A word, and what is known of its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    revision: Revision,
    pub(super) source_time: UnixMillis,
    /// Boot time from which its age counts.
    base: Duration,
    /// Its age at `base`, at least.
    age_at_base: Duration,
}

/// What the Welcome said of the sender's own freshness.
#[derive(Clone, Copy, Debug)]
pub(super) struct SenderFreshness {
    pub(super) source_time: UnixMillis,
    pub(super) age: Duration,
    /// When it said so, boot time.
    pub(super) at: Duration,
}

impl Freshness {
    pub(super) fn word(&self) -> Option<Word> {
        self.word
    }

    /// A signed word that fits what is held. Whether it is news: a later time, or a later revision (the authority's clock
    /// may step back, and an old word must not look new by being repeated).
    pub(super) fn handle_word(
        &mut self,
        now: Moment,
        revision: Revision,
        source_time: UnixMillis,
        sender: SenderFreshness,
    ) -> bool {
        let is_news = self.word.is_none_or(|word| source_time > word.source_time || revision > word.revision);
        if is_news {
            // What the sender knew already at Welcome is as old as it was there, and older by what lay between.
            let (base, age_at_base) = if source_time > sender.source_time {
                (now.boot, Duration::ZERO)
            } else {
                let before = Duration::from_millis(sender.source_time.0 - source_time.0);
                (sender.at, sender.age.saturating_add(before))
            };
            self.word = Some(Word { revision, source_time, base, age_at_base });
        }
        is_news
    }

    /// Another epoch counts from its own first word.
    pub(super) fn forget(&mut self) {
        self.word = None;
    }
}

impl Word {
    /// The larger of its age by the boot-time clock and by the wall clock, the latter less the accepted skew.
    pub(super) fn staleness(&self, now: Moment, clock_skew_max: Duration) -> Duration {
        let by_boot = now.since(self.base).saturating_add(self.age_at_base);
        let by_wall = Duration::from_millis(now.wall.0.saturating_sub(self.source_time.0));
        by_boot.max(by_wall.saturating_sub(clock_skew_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKEW: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Moment {
        Moment { boot: Duration::from_secs(seconds), wall: UnixMillis(seconds * 1000) }
    }

    fn sender(source_seconds: u64, age_seconds: u64, at_seconds: u64) -> SenderFreshness {
        SenderFreshness {
            source_time: UnixMillis(source_seconds * 1000),
            age: Duration::from_secs(age_seconds),
            at: Duration::from_secs(at_seconds),
        }
    }

    #[test]
    fn a_word_later_than_the_welcome_is_fresh_when_it_comes() {
        let mut freshness = Freshness::default();
        assert!(freshness.handle_word(at(100), Revision(1), UnixMillis(99_000), sender(90, 9, 99)));
        let word = freshness.word().unwrap();
        assert_eq!(word.staleness(at(100), SKEW), Duration::ZERO);
        assert_eq!(word.staleness(at(107), SKEW), Duration::from_secs(7));
    }

    #[test]
    fn a_word_the_sender_already_had_is_as_old_as_the_sender_said() {
        let mut freshness = Freshness::default();
        freshness.handle_word(at(100), Revision(1), UnixMillis(85_000), sender(90, 9, 99));
        // 9 s at Welcome, 1 s since, 5 s between the word and the sender's last.
        assert_eq!(freshness.word().unwrap().staleness(at(100), SKEW), Duration::from_secs(15));
    }

    #[test]
    fn repeating_old_words_does_not_freshen() {
        let mut freshness = Freshness::default();
        let none = sender(0, 0, 0);
        assert!(freshness.handle_word(at(100), Revision(1), UnixMillis(100_000), none));
        assert!(!freshness.handle_word(at(101), Revision(1), UnixMillis(99_000), none));
        assert!(!freshness.handle_word(at(102), Revision(1), UnixMillis(100_000), none));
        assert_eq!(freshness.word().unwrap().staleness(at(102), SKEW), Duration::from_secs(2));
    }

    #[test]
    fn a_clock_that_stepped_back_is_news_with_the_next_revision() {
        let mut freshness = Freshness::default();
        let none = sender(0, 0, 0);
        freshness.handle_word(at(100), Revision(1), UnixMillis(100_000), none);
        assert!(freshness.handle_word(at(101), Revision(2), UnixMillis(90_000), none));
        assert!(freshness.handle_word(at(102), Revision(2), UnixMillis(91_000), none));
    }

    #[test]
    fn a_relay_that_delays_is_caught_by_the_wall_clock() {
        let mut freshness = Freshness::default();
        freshness.handle_word(at(1000), Revision(1), UnixMillis(400_000), sender(0, 0, 999));
        assert_eq!(freshness.word().unwrap().staleness(at(1000), SKEW), Duration::from_secs(570));
    }
}
