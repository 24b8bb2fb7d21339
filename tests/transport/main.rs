//! The transport under a simulated network and virtual time: the real gRPC surface over hyper, the real replica's
//! driver and upstream over tonic, on [turmoil](https://docs.rs/turmoil)'s TCP. Hosts crash and come back, links are cut
//! and hold what was sent, readers are slow; what must hold is judged at every tick.
//!
//! The seed decides the network's delays and the faults; tasks within a host are scheduled by tokio, so that a seed
//! repeats the story, not every step of it. `SEED=17` runs one, `SEEDS=100` that many.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "a test tells its seed")]

mod authority;
mod faults;
mod fleet;
mod network;
mod node;
mod reader;
mod world;
