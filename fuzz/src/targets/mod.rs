//! Every decoder of outside bytes, as a function over bytes that panics when a property does not hold.
//!
//! Shared by the coverage-guided fuzzer (`fuzz/`, on nightly) and by the replay on stable (`tests/fuzz_replay.rs`). Beyond
//! "no panic" each target states what must be true of whatever was accepted: written again it gives the same bytes, it keeps
//! its limits, and no frame takes a live revocation away.

use std::cell::Cell;

mod access;
mod authority;
mod core;
mod files;
mod fleet;
mod follower;
mod frames;
mod input;
mod journal;
mod requests;
pub mod seeds;
mod subscription;
mod text;
mod token;

/// A decoder under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// Names it, and its folder in the corpus.
    pub name: &'static str,
    /// Judges one input.
    pub run: fn(&[u8]),
    /// The longest input that says something new, in bytes.
    pub bytes_max: usize,
}

const fn target(name: &'static str, run: fn(&[u8]), bytes_max: usize) -> Target {
    Target { name, run, bytes_max }
}

/// All of them.
pub const TARGETS: [Target; 39] = [
    target("subscriber_frame", frames::from_subscriber, 4096),
    target("sender_frame", frames::from_sender, 4096),
    target("follower", follower::follower, 512),
    target("subscription", subscription::subscription, 512),
    target("fleet", fleet::fleet, 2048),
    target("delta", self::core::delta, 2048),
    target("policy", self::core::policy, 96),
    target("verification", self::core::verification, 1024),
    target("snapshot", self::core::snapshot, 2048),
    target("shape", self::core::shape, 512),
    target("selector", self::core::selector, 2048),
    target("scalar", self::core::scalar, 64),
    target("position", self::core::position, 64),
    target("record", journal::record, 4096),
    target("carried", journal::carried, 2048),
    target("identity", journal::identity, 1024),
    target("member", journal::member, 256),
    target("page_token", journal::page_token, 96),
    target("authority_snapshot", files::authority_snapshot, 4096),
    target("replica_cache", files::replica_cache, 4096),
    target("manifest", files::manifest, 1024),
    target("token", token::token, 2048),
    target("claims", token::claims, 2048),
    target("opaque_token", token::opaque, 256),
    target("json_revoke", requests::json_revoke, 2048),
    target("json_reinstate", requests::json_reinstate, 1024),
    target("json_list", requests::json_list, 1024),
    target("json_check", requests::json_check, 1024),
    target("grpc_revoke", requests::grpc_revoke, 2048),
    target("grpc_reinstate", requests::grpc_reinstate, 1024),
    target("grpc_query", requests::grpc_query, 1024),
    target("config_server", text::config_server, 2048),
    target("config_agent", text::config_agent, 2048),
    target("time", text::time, 64),
    target("url", text::url, 256),
    target("address", text::address, 256),
    target("credential", access::credential, 160),
    target("principals", access::principals, 1024),
    target("policy_text", text::policy_text, 2048),
];

thread_local! {
    static ACCEPTED: Cell<u64> = const { Cell::new(0) };
}

/// Notes that an input got past the decoder: a target that accepts nothing tests nothing.
fn note_accepted() {
    ACCEPTED.set(ACCEPTED.get() + 1);
}

/// How often that happened on this thread.
pub fn accepted() -> u64 {
    ACCEPTED.get()
}

/// The target of this name.
pub fn named(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
