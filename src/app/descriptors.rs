//! File descriptors: every connection needs one, and a shell gives a process 1,024.
//!
//! A process that runs out of them can accept nobody, whoever it would send away for it. So the limit is raised as far as
//! the system lets it be, and where that is too little fewer connections are let in.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::surface::{Bounds, Limits};

/// Descriptors for everything else: listeners, the journal and its readers, the index, snapshots, the operators' port, and
/// connections that are about to close.
const OTHERS: u64 = 512;

/// The bounds of a listener with as many connections as there are descriptors for. Raises the limit of this process.
#[must_use]
pub fn within_descriptors(bounds: Bounds) -> Bounds {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of file descriptors stays as it is");
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let fitting = fitting(bounds, descriptors);
    if fitting != bounds {
        let (configured, connections) = (bounds.connections.total, fitting.connections.total);
        tracing::warn!(
            descriptors,
            configured,
            connections,
            "there are too few file descriptors for limits.connections; raise the hard limit (ulimit -Hn, LimitNOFILE)"
        );
    }
    fitting
}

fn fitting(bounds: Bounds, descriptors: u64) -> Bounds {
    let most = usize::try_from(descriptors.saturating_sub(OTHERS).max(descriptors / 2)).unwrap_or(usize::MAX);
    let configured = bounds.connections;
    if configured.total <= most {
        return bounds;
    }
    let total = most;
    // The parts shrink with the whole: else there would be room for strangers only, or for one address.
    let part = |of: usize| (of * total).div_ceil(configured.total).clamp(1, total.max(1));
    let connections = Limits {
        total,
        unproven: part(configured.unproven),
        per_address: part(configured.per_address),
        per_principal: part(configured.per_principal),
    };
    Bounds { connections, ..bounds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_connections_are_let_in_than_there_are_descriptors_for() {
        let total = |descriptors| fitting(Bounds::connections(10_000), descriptors).connections.total;
        assert_eq!((total(20_000), total(u64::MAX)), (10_000, 10_000));
        assert_eq!(total(4096), 4096 - 512);
        assert_eq!(total(256), 128, "a few descriptors are shared");
    }

    #[test]
    fn strangers_and_one_address_get_no_larger_part_of_fewer_connections() {
        assert_eq!(fitting(Bounds::connections(10_000), 4096).connections, Limits::of(4096 - 512));
        let connections = Limits { total: 10_000, unproven: 1, per_address: 10_000, per_principal: 5_000 };
        let bounds = Bounds { connections, ..Bounds::connections(10_000) };
        let expected = Limits { total: 3584, unproven: 1, per_address: 3584, per_principal: 1792 };
        assert_eq!(fitting(bounds, 4096).connections, expected, "as they were configured");
    }

    #[test]
    fn the_soft_limit_is_raised() {
        assert_eq!(within_descriptors(Bounds::connections(1)), Bounds::connections(1));
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
