//! Waiting until a revision has come everywhere, and looking at who ought to follow.
//!
//! # Invariants
//! - W1. Everybody is asked together, by what stands in the shared log; nobody is asked alone.
//! - W2. One that goes is cut off before its seat is empty: whoever looks in between finds it behind or cut off.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::Authority;
use super::members::{Forgot, Roster, RosterMember};
use crate::clock::Clock;
use crate::hub::{Hub, SubscriberStatus};
use crate::replication::fleet::Place;
use crate::replication::frames::{NodeId, PolicyInForce, Role};
use crate::replication::propagation::{Counted, Named, Report, Standing};
use crate::replication::subscription::Mode;
use crate::replication::{Feed as _, Source as _};
use crate::revocation::ports::{
    MemberChoice, PROPAGATION_WAIT_MAX, Pending, Propagates, Propagation, PropagationError, Reports as _,
    SUBSCRIBERS_PAGE_MAX, SubscriberPage, SubscriberRow, Violation,
};
use crate::revocation::{Position, Revision, UnixMillis, UnixSeconds, WhenStale};

/// The most that wait at once; more are refused. Each looks at all members after each ack.
const WAITING_MAX: usize = 256;
/// With more subscribers than this, looks are this far apart: an ack of each would otherwise be a look at all.
const LOOK_ALWAYS_MAX: usize = 64;
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// So often all are counted although one seems behind: it may be a seat whose member has taken another.
const COUNT_INTERVAL: Duration = Duration::from_millis(50);

/// The authority's knowledge of its subscribers.
pub struct Propagator {
    authority: Arc<Authority>,
    hub: Arc<Hub>,
    roster: Arc<Roster>,
    clock: Clock,
    waiting: Semaphore,
}

impl Propagator {
    /// Of these. The hub must tell `roster` of its subscribers.
    #[must_use]
    pub fn new(authority: Arc<Authority>, hub: Arc<Hub>, roster: Arc<Roster>, clock: Clock) -> Self {
        Self { authority, hub, roster, clock, waiting: Semaphore::new(WAITING_MAX) }
    }

    async fn wait(&self, position: Position, timeout: Duration) -> Result<Propagation, PropagationError> {
        self.validate(position, timeout)?;
        let _place = self.waiting.try_acquire().map_err(|_| PropagationError::Overloaded)?;
        let begun = self.clock.boot();
        let deadline = sleep(timeout);
        tokio::pin!(deadline);
        let _asking = self.hub.ask_for_acks(position.revision);
        let mut counted_at = begun;
        let found = loop {
            let progress = self.hub.progress();
            tokio::pin!(progress);
            progress.as_mut().enable();
            // The cheap look first: as long as one is behind, the others need not be counted.
            let now = self.clock.boot();
            if !self.hub.has_laggard(position.revision) || now.since(counted_at) > COUNT_INTERVAL {
                counted_at = now;
                let found = self.look(position.revision);
                // Nobody, or everybody: what else is missing is not for a subscriber to mend.
                if found.total == found.applied {
                    break found;
                }
            }
            tokio::select! {
                () = &mut deadline => break self.look(position.revision),
                () = progress => {}
            }
            if self.hub.subscriber_count() > LOOK_ALWAYS_MAX {
                sleep(LOOK_INTERVAL).await;
            }
        };
        if found.is_complete() {
            // One that joined below a relay a moment ago may still be on its way to the disk.
            self.roster.durable().await;
        }
        let elapsed = self.clock.boot().since(begun);
        Ok(self.answer(&found, position.revision, elapsed).await)
    }

    fn validate(&self, position: Position, timeout: Duration) -> Result<(), PropagationError> {
        let head = self.hub.head(self.hub.now()).revision;
        let mut violations = Vec::new();
        let mut wrong = |field: &str, description: String| {
            violations.push(Violation { field: field.into(), description });
        };
        if position.epoch != self.hub.origin().epoch.id {
            wrong("position.epoch", "is of another epoch than this server's".into());
        } else if position.revision > head {
            wrong(
                "position.revision",
                format!("is at most {head}, the last revision here, {} given", position.revision),
            );
        }
        if timeout > PROPAGATION_WAIT_MAX {
            let (max, given) = (PROPAGATION_WAIT_MAX.as_millis(), timeout.as_millis());
            wrong("timeout_millis", format!("is at most {max}, {given} given"));
        }
        if violations.is_empty() { Ok(()) } else { Err(PropagationError::Invalid(violations)) }
    }

    fn look(&self, revision: Revision) -> Report {
        let others = self.others().into_iter().filter_map(|status| {
            let policy = status.policy.unwrap_or_else(|| self.logged());
            Some(Counted { id: status.id?, standing: Standing::Connected(status.acked), policy })
        });
        self.roster.report(revision, others.collect())
    }

    /// Those that are served and are no members, since there are too many.
    fn others(&self) -> Vec<SubscriberStatus> {
        let seats = self.roster.unlisted_seats();
        if seats.is_empty() {
            return Vec::new();
        }
        self.hub.subscribers().into_iter().filter(|status| seats.contains(&status.seat)).collect()
    }

    fn logged(&self) -> PolicyInForce {
        PolicyInForce::of(&self.authority.set().policy())
    }

    fn names(&self, named: &Named) -> Vec<String> {
        named.ids.iter().map(|id| self.roster.name_of(*id)).collect()
    }

    async fn answer(&self, found: &Report, revision: Revision, elapsed: Duration) -> Propagation {
        let trouble = self.roster.trouble();
        let incomplete = match (&trouble, found.total, found.cut_off.count) {
            (Some(trouble), ..) => Some(trouble.clone()),
            (None, 0, _) => Some("there are no subscribers".to_owned()),
            (None, _, 0) => None,
            (None, _, cut_off) => Some(format!("{cut_off} subscribers are cut off and may serve what they held")),
        };
        let no_subscribers = trouble.is_none() && found.total == 0;
        let in_doubt = trouble.is_some() || self.authority.status().clock_alarm.is_some();
        let bounded = found.loosest.filter(|_| found.serve_stale == 0 && !in_doubt);
        let dead_everywhere_by = match bounded {
            Some(loosest) if loosest.when_stale == WhenStale::Deny => {
                let committed = self.authority.committed_at(revision).await.unwrap_or_else(|| self.clock.wall());
                let skew = self.authority.set().policy().clock_skew_max;
                Some(dead_by(committed, loosest.max_staleness, skew))
            }
            _ => None,
        };
        Propagation {
            complete: found.is_complete() && incomplete.is_none(),
            total: found.total,
            applied: found.applied,
            laggards: self.names(&found.laggards),
            laggards_more: found.laggards.more(),
            cut_off: found.cut_off.count,
            cut_off_names: self.names(&found.cut_off),
            incomplete,
            elapsed,
            dead_everywhere_by,
            unbounded_members: found.serve_stale,
            no_subscribers,
        }
    }
}

fn member_row(member: RosterMember, head: Revision, now: UnixMillis) -> SubscriberRow {
    let RosterMember { id, place, parent, about, below } = member;
    let connected = place != Place::CutOff;
    // From where it was connected says nothing of one that is not.
    let address = if connected { about.address } else { String::new() };
    SubscriberRow {
        id: id.0,
        parent: parent.map(|parent| parent.0),
        name: about.name,
        relay: about.role == Role::Relay,
        acked: about.acked,
        lag: head.0.saturating_sub(about.acked.0),
        ready: about.ready,
        mode: about.mode.map_or("", Mode::name),
        max_staleness: about.policy.max_staleness,
        when_stale: about.policy.when_stale,
        since: about.since,
        connected,
        below: below.0,
        below_ready: below.1,
        staleness: staleness(about.source_time, now),
        address,
        version: about.version,
        reconnect_reason: about.reconnect_reason,
    }
}

fn other_row(
    status: SubscriberStatus,
    logged: PolicyInForce,
    head: Revision,
    now: UnixMillis,
) -> Option<SubscriberRow> {
    let policy = status.policy.unwrap_or(logged);
    Some(SubscriberRow {
        id: status.id?.0,
        parent: None,
        name: status.name,
        relay: status.role == Role::Relay,
        acked: status.acked,
        lag: head.0.saturating_sub(status.acked.0),
        ready: status.ready,
        mode: status.mode.name(),
        max_staleness: policy.max_staleness,
        when_stale: policy.when_stale,
        since: status.since,
        connected: true,
        below: 0,
        below_ready: 0,
        staleness: staleness(status.source_time, now),
        address: status.address,
        version: status.version,
        reconnect_reason: status.reconnect_reason,
    })
}

/// The age of a word that states this time, by the clock it was stated by.
fn staleness(source_time: UnixMillis, now: UnixMillis) -> Option<Duration> {
    (source_time.0 > 0).then(|| Duration::from_millis(now.0.saturating_sub(source_time.0)))
}

/// When the last checker denies what it can no longer be sure of, rounded up.
fn dead_by(committed: UnixMillis, max_staleness: Duration, skew: Duration) -> UnixSeconds {
    let allowed = max_staleness.saturating_add(skew.saturating_mul(2));
    let allowed = u64::try_from(allowed.as_millis()).unwrap_or(u64::MAX);
    UnixSeconds(committed.0.saturating_add(allowed).div_ceil(1000))
}

impl Propagates for Propagator {
    fn await_propagation(
        &self,
        position: Position,
        timeout: Duration,
    ) -> Pending<'_, Result<Propagation, PropagationError>> {
        Box::pin(self.wait(position, timeout))
    }

    fn forget(&self, member: MemberChoice) -> Pending<'_, Result<u64, PropagationError>> {
        Box::pin(async move {
            let (id, name) = match member {
                MemberChoice::Id(id) => (Some(NodeId(id)), String::new()),
                MemberChoice::Name(name) => (None, name),
            };
            match self.roster.forget(id, &name).await {
                Forgot::Members(count) => {
                    tracing::warn!(id = ?id, name, count, "members are forgotten: what they still serve is not waited for");
                    Ok(count)
                }
                Forgot::Connected => Err(PropagationError::MemberConnected),
                Forgot::Nobody => Err(PropagationError::UnknownMember),
            }
        })
    }

    fn subscribers(&self, after: Option<[u8; 16]>, page_size: usize) -> Result<SubscriberPage, PropagationError> {
        let moment = self.hub.now();
        let (head, now) = (self.hub.head(moment).revision, moment.wall);
        let size = page_size.min(SUBSCRIBERS_PAGE_MAX);
        let members =
            self.roster.list(after.map(NodeId), size + 1).into_iter().map(|member| member_row(member, head, now));
        let others = self.others().into_iter().filter_map(|status| other_row(status, self.logged(), head, now));
        let others = others.filter(|row| after.is_none_or(|after| row.id > after));
        let mut rows: Vec<SubscriberRow> = members.chain(others).collect();
        rows.sort_by_key(|row| row.id);
        let more = rows.len() > size;
        rows.truncate(size);
        Ok(SubscriberPage { rows, more })
    }
}

impl Authority {
    /// The time that a revision states; `None` when its record is gone or cannot be read.
    async fn committed_at(&self, revision: Revision) -> Option<UnixMillis> {
        let record = self.read(move |reader| reader.record(revision)).await.ok()?;
        record.map(|record| record.source_time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_checker_denies_after_its_staleness_and_twice_the_skew() {
        let by = dead_by(UnixMillis(1_000_001), Duration::from_secs(300), Duration::from_secs(30));
        assert_eq!(by, UnixSeconds(1_361));
        assert!(dead_by(UnixMillis(1), Duration::MAX, Duration::MAX).0 > 1 << 50);
    }
}
