//! A fleet that comes back all at once.

use std::time::Duration;

use crate::server::{Server, Writer};
use crate::subscriber::{Fleet, Options};
use crate::table::{Target, row};

const SUBSCRIBERS: usize = 2000;
/// What they missed, within what is kept.
const MISSED: u64 = 100;

/// 2,000 reconnect within the retention.
pub(crate) fn reconnects() {
    let server = Server::real();
    let mut writer = Writer::to(&server);
    writer.write_times(10, 1);
    let held = {
        let first = Fleet::live(server.address, 1);
        std::thread::sleep(Duration::from_millis(1500));
        first.held()
    };
    writer.write_times(MISSED, 1);
    let options = Options { count: SUBSCRIBERS, at_once: SUBSCRIBERS, held: Some(held), ..Options::default() };
    let fleet = Fleet::connect(server.address, options);
    let took = fleet.until_live(Duration::from_secs(60)).as_secs_f64();
    row("2,000 reconnect at once, all live", took, " s", Target::AtMost(5.0));
    row("  snapshots sent", fleet.snapshots() as f64, "", Target::AtMost(0.0));
    row("  connections lost", fleet.gone() as f64, "", Target::AtMost(0.0));
}
