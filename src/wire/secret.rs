//! Messages that hold a secret, as `Debug` shows them: without it.

use std::fmt;

use super::pb::welcome::Ancestor;
use super::pb::{CreateCredentialResponse, Welcome};

const HIDDEN: fmt::Arguments<'static> = format_args!("(hidden)");

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By name, so that a field that is new must be thought of here.
        let Self {
            protocol,
            epoch,
            ancestors,
            set_key: _,
            mode,
            head_revision,
            oldest_revision,
            source_time_millis,
            source_age_millis,
            heartbeat_interval_millis,
            dead_after_millis,
            policy,
            path,
            public_key,
            lineage_signature,
        } = self;
        f.debug_struct("Welcome")
            .field("protocol", protocol)
            .field("epoch", epoch)
            .field("ancestors", ancestors)
            .field("set_key", &HIDDEN)
            .field("mode", mode)
            .field("head_revision", head_revision)
            .field("oldest_revision", oldest_revision)
            .field("source_time_millis", source_time_millis)
            .field("source_age_millis", source_age_millis)
            .field("heartbeat_interval_millis", heartbeat_interval_millis)
            .field("dead_after_millis", dead_after_millis)
            .field("policy", policy)
            .field("path", path)
            .field("public_key", public_key)
            .field("lineage_signature", lineage_signature)
            .finish()
    }
}

/// No secret, but what is inside a message goes with it.
impl fmt::Debug for Ancestor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, last_revision } = self;
        f.debug_struct("Ancestor").field("epoch", epoch).field("last_revision", last_revision).finish()
    }
}

impl fmt::Debug for CreateCredentialResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { credential, text: _, position } = self;
        f.debug_struct("CreateCredentialResponse")
            .field("credential", credential)
            .field("text", &HIDDEN)
            .field("position", position)
            .finish()
    }
}
