//! The authority's decisions against a naive model that keeps every revocation, and through a real journal.

mod audit;
mod backed_up;
mod credentials;
mod durable;
mod guarded;
mod model;
mod policies;
mod restored;
mod upgraded;
