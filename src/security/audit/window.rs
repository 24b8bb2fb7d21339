//! What is the same within a window, as one tally.

use std::collections::BTreeMap;

use super::Noted;
use super::line::Line;
use crate::revocation::UnixMillis;
use crate::security::access::{Claimed, DenialReason};

/// The most tallies of one window; whatever else is denied in it is one more, which names nobody.
const TALLIES_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Window {
    tallies: BTreeMap<Key, Tally>,
    others: Option<Tally>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    principal: Option<String>,
    credential: Option<String>,
    peer: String,
    call: Option<&'static str>,
    reason: &'static str,
    needs: Option<String>,
}

#[derive(Clone, Copy)]
struct Tally {
    first: UnixMillis,
    last: UnixMillis,
    count: u64,
}

impl Window {
    pub(super) fn note(&mut self, noted: Noted) {
        let Noted { at, denial, peer } = noted;
        let (principal, credential) = match denial.claimed {
            Claimed::Nobody => (None, None),
            Claimed::Credential(id) => (None, Some(id.to_string())),
            Claimed::Principal(principal) => (Some(principal.name.clone()), None),
        };
        let needs = match denial.reason {
            DenialReason::Role { need } => Some(need.to_string()),
            _ => None,
        };
        let (call, reason) = (denial.call.map(|call| call.name()), denial.reason.name());
        let key = Key { principal, credential, peer, call, reason, needs };
        if self.tallies.len() >= TALLIES_MAX && !self.tallies.contains_key(&key) {
            self.others.get_or_insert(Tally::beginning(at)).add(at);
        } else {
            self.tallies.entry(key).or_insert(Tally::beginning(at)).add(at);
        }
    }

    /// The lines of this window, and how many denials they tell of. The next one is empty.
    pub(super) fn take(&mut self) -> (Vec<Line>, u64) {
        let mut lines: Vec<Line> = std::mem::take(&mut self.tallies)
            .into_iter()
            .map(|(key, tally)| Line {
                principal: key.principal,
                credential: key.credential,
                peer: Some(key.peer),
                call: key.call,
                needs: key.needs,
                ..tally.line(key.reason)
            })
            .collect();
        lines.extend(self.others.take().map(|tally| tally.line("others")));
        lines.sort_by_key(|line| line.at);
        let denials = lines.iter().map(|line| line.count).sum();
        (lines, denials)
    }
}

impl Tally {
    fn beginning(at: UnixMillis) -> Self {
        Self { first: at, last: at, count: 0 }
    }

    fn add(&mut self, at: UnixMillis) {
        (self.first, self.last) = (self.first.min(at), self.last.max(at));
        self.count = self.count.saturating_add(1);
    }

    fn line(self, reason: &'static str) -> Line {
        Line {
            at: self.first,
            until: self.last,
            count: self.count,
            principal: None,
            credential: None,
            peer: None,
            call: None,
            needs: None,
            reason,
        }
    }
}
