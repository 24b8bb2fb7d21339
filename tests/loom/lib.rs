//! What threads do to each other, tried in every order that the memory model allows (up to a bound on preemptions).
//!
//! `set` runs the product's own set, its writer and its rebuild. `orders` runs the product's filter and map in the orders that
//! the product keeps and in those that it must not have: each wrong one must be found out, or the models prove nothing.
//! `log` runs the product's shared log under the lock and the wake-ups of the hub, which itself needs a runtime.
#![cfg(all(loom, test))]

mod log;
mod orders;
mod set;
