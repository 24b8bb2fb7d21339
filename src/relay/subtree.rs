//! What lies below a relay, summed up for the next one above.

use crate::hub::SubscriberStatus;
use crate::replication::frames::{LAGGARDS_MAX, NAME_BYTES_MAX, PolicyInForce, Subtree};
use crate::revocation::Revision;

/// Everybody below: those connected here, and what they report of those below them. The lowest revision is
/// that of those who are ready; who is not has applied nothing yet.
#[must_use]
pub fn subtree_of(subscribers: &[SubscriberStatus]) -> Subtree {
    let mut sum = Subtree { applied_min: Revision(u64::MAX), ..Subtree::default() };
    for subscriber in subscribers {
        sum.subscribers += 1;
        sum.ready += u64::from(subscriber.ready);
        if subscriber.ready {
            sum.applied_min = sum.applied_min.min(subscriber.acked);
        }
        sum.loosest_policy = loosest(sum.loosest_policy, subscriber.policy);
        if let Some(below) = &subscriber.subtree {
            sum.subscribers += below.subscribers;
            sum.ready += below.ready;
            if below.ready > 0 {
                sum.applied_min = sum.applied_min.min(below.applied_min);
            }
            sum.loosest_policy = loosest(sum.loosest_policy, below.loosest_policy);
        }
    }
    if sum.ready == 0 {
        sum.applied_min = Revision(0);
    }
    sum.laggards = laggards(subscribers);
    sum
}

/// The names of those furthest behind, of those behind at all.
fn laggards(subscribers: &[SubscriberStatus]) -> Vec<String> {
    let head = subscribers.iter().map(|subscriber| subscriber.acked).max().unwrap_or_default();
    let mut behind: Vec<(Revision, String)> = Vec::new();
    for subscriber in subscribers {
        if !subscriber.ready || subscriber.acked < head {
            behind.push((subscriber.acked, subscriber.name.clone()));
        }
        let below = subscriber.subtree.iter().flat_map(|below| {
            below.laggards.iter().map(|name| {
                let path = format!("{}/{name}", subscriber.name);
                (below.applied_min, path[..path.floor_char_boundary(NAME_BYTES_MAX)].to_owned())
            })
        });
        behind.extend(below);
    }
    behind.sort();
    behind.truncate(LAGGARDS_MAX);
    behind.into_iter().map(|(_, name)| name).collect()
}

fn loosest(a: Option<PolicyInForce>, b: Option<PolicyInForce>) -> Option<PolicyInForce> {
    match (a, b) {
        (Some(a), Some(b)) => Some(PolicyInForce {
            max_staleness: a.max_staleness.max(b.max_staleness),
            when_stale: a.when_stale.min(b.when_stale),
        }),
        (a, b) => a.or(b),
    }
}
