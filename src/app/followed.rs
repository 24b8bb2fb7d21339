//! Which upstream an agent follows, and why it does not.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::replica::Event;
use crate::replication::{FollowerState, FollowerStatus};
use crate::security::credential::without_credentials;

/// The longest reason that is told, in characters: an upstream may have said it.
const TROUBLE_CHARS_MAX: usize = 300;

/// What an agent's reports tell of its upstream.
#[derive(Debug)]
pub(super) struct Followed(Mutex<Now>);

#[derive(Debug)]
struct Now {
    upstream: String,
    trouble: Option<String>,
}

impl Followed {
    /// Tries this one first.
    pub(super) fn new(first: String) -> Self {
        Self(Mutex::new(Now { upstream: first, trouble: None }))
    }

    /// The upstream that is followed, or was tried last, by URL.
    pub(super) fn upstream(&self) -> String {
        self.0.lock().upstream.clone()
    }

    /// Why the last attempt failed, on one line, until one succeeds.
    pub(super) fn trouble(&self) -> Option<String> {
        self.0.lock().trouble.clone()
    }

    /// Something happened.
    pub(super) fn handle_event(&self, event: &Event<'_>, state: FollowerState) {
        let mut now = self.0.lock();
        if let Event::Connected { server } | Event::Disconnected { server, .. } = event
            && now.upstream != *server
        {
            (*server).clone_into(&mut now.upstream);
        }
        match event {
            Event::Disconnected { reason, .. } => now.trouble = Some(on_one_line(reason)),
            // Not Connected: whether it is let in is still open then.
            _ if state == FollowerState::Live => now.trouble = None,
            _ => {}
        }
    }

    /// The same as an observer of the replica.
    pub(super) fn observe(self: Arc<Self>) -> impl FnMut(Event<'_>, &FollowerStatus) + Send {
        move |event, status| self.handle_event(&event, status.state)
    }
}

/// Bounded, without control characters, and without credentials, which an upstream has seen.
fn on_one_line(reason: &str) -> String {
    let reason = without_credentials(reason);
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TROUBLE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::security::credential::mint;

    fn disconnected(reason: &str) -> Event<'_> {
        Event::Disconnected { server: "https://a:1", reason, retry_in: Duration::ZERO }
    }

    #[test]
    fn the_trouble_lasts_until_it_follows() {
        let followed = Followed::new("https://b:1".to_owned());
        assert_eq!(followed.trouble(), None);
        followed.handle_event(&disconnected("refused: no"), FollowerState::Connecting);
        assert_eq!(followed.upstream(), "https://a:1");
        followed.handle_event(&Event::Connected { server: "https://a:1" }, FollowerState::Resuming);
        assert_eq!(followed.trouble().as_deref(), Some("refused: no"), "it may be refused again");
        followed.handle_event(&Event::Status, FollowerState::Live);
        assert_eq!(followed.trouble(), None);
    }

    #[test]
    fn what_an_upstream_says_is_one_short_line_without_secrets() {
        let followed = Followed::new(String::new());
        let secret = mint().unwrap().text;
        let said = format!("refused:\n\u{1b}[31m{} {}", secret.as_str(), "x".repeat(10_000));
        followed.handle_event(&disconnected(&said), FollowerState::Connecting);
        let trouble = followed.trouble().unwrap();
        assert!(trouble.starts_with("refused:  [31mrsc_(hidden) xxx"), "{trouble}");
        assert_eq!(trouble.chars().count(), TROUBLE_CHARS_MAX);
    }
}
