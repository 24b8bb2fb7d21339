//! What callers see: extract, ask, answer.
//!
//! ```text
//! socket ── listener ──▶ guard ──▶ door ──▶ gRPC ────────▶ message ─┐
//!                                      └──▶ JSON ─ decode ▶ message ─┴▶ parse ──▶ ports ──▶ the node
//! ```
//!
//! Decides nothing about revocations: requests become the core's types or are refused with everything that is wrong
//! with them, answers become messages. Knows the node by the traits of [`crate::revocation::ports`] only.

mod address;
mod ask;
mod asker;
mod authz;
mod budget;
mod connections;
mod credentials;
mod door;
mod grpc;
mod guard;
mod handshake;
pub mod http;
mod listener;
mod log_limit;
pub mod ops;
pub(crate) mod parse;
mod peer;
mod policies;
mod policy_file;
mod preface;
mod reason;
mod socket;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod violations;

use ::http::StatusCode;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

pub use address::{Address, AddressError};
pub use ask::{Node, Refusal};
pub use budget::{Budget, CLASSES, REQUESTS_MAX};
pub use connections::{CLOSED, CONNECTIONS_MAX, Connections, Limits, Proof, REFUSED, TooManyConnections};
pub use door::Door;
pub use grpc::{SentAway, SubscribeService, subscribe_service};
pub use handshake::{CurrentTls, HandshakeFailure};
#[doc(hidden)]
pub use listener::{Accept, serve_from};
pub use listener::{BindError, Bounds, Listener};
pub use peer::{Encrypted, Peer};
pub use policy_file::{PolicyTextError, parse_policy, render_policy};
pub use violations::Violations;

/// The `ErrorInfo.reason` of a write that may or may not have been accepted.
pub use reason::OUTCOME_UNKNOWN;

use ask::Desk;
use parse::Issuers;

/// How requests are taken and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The configured issuers. With more than one, a selector on a claim that is unique within an issuer only must say
    /// which issuer it means.
    pub issuers: Vec<String>,
    /// Names, beside IP addresses and `localhost`, that HTTP callers may put into `Host`.
    pub hosts: Vec<String>,
    /// The HTTP status of a check that cannot tell: 503 by default.
    pub unknown_status: StatusCode,
    /// The bounds of the listener.
    pub bounds: Bounds,
    /// Whether the server is exposed without authentication: told in its status.
    pub insecure: bool,
    /// Whether the callers' port speaks TLS: told in its status.
    pub tls: bool,
    /// Where the node keeps its data: told in its status.
    pub data_dir: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            hosts: Vec::new(),
            unknown_status: StatusCode::SERVICE_UNAVAILABLE,
            bounds: Bounds::connections(CONNECTIONS_MAX),
            insecure: false,
            tls: false,
            data_dir: String::new(),
        }
    }
}

/// Everything that is answered on the callers' port, and the hand that turns its gRPC health.
#[derive(Clone)]
pub struct Surface {
    /// What [`Listener::serve`] answers with.
    pub app: Router,
    health: HealthReporter,
}

impl Surface {
    /// The surface of `node`: gRPC, JSON, health and reflection, together with the services already in `routes`. It asks
    /// nobody who he is.
    #[must_use]
    pub fn new(node: Node, options: &Options, routes: Routes) -> Self {
        Self::behind(Door::default(), node, options, routes)
    }

    /// The same behind a door.
    #[must_use]
    pub fn behind(door: Door, node: Node, options: &Options, routes: Routes) -> Self {
        let several = options.issuers.len() > 1;
        let desk = Desk {
            node,
            issuers: if several { Issuers::Several } else { Issuers::One },
            insecure: options.insecure,
            authentication: door.asks(),
            tls: options.tls,
            data_dir: options.data_dir.clone(),
        };
        let asks = door.asks();
        let (routes, health) = grpc::routes(&desk, routes);
        let routes = routes.add_service(authz::service(desk.clone(), options.unknown_status));
        let forward_auth = authz::router(desk.clone(), options.unknown_status);
        let twins = http::Twins { desk, unknown_status: options.unknown_status };
        let app = routes
            .prepare()
            .into_axum_router()
            .merge(http::router(twins))
            .merge(forward_auth)
            .fallback(http::fallback)
            .layer(from_fn_with_state(door, door::door));
        // Where callers are asked who they are, the door knows whom to trust.
        let app = if asks { app } else { app.layer(from_fn(connections::prove_who_is_answered)) };
        let app = app.layer(from_fn_with_state(options.hosts.clone().into(), guard::guard));
        Self { app, health }
    }

    /// Tells gRPC health checks that requests are answered, or no longer.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        grpc::set_health(&self.health, status).await;
    }
}
