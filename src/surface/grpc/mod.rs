//! gRPC, package `rescind.v1`, with health and reflection.

mod admin;
mod check;
mod errors;
mod replication;
mod revocation;

pub(super) use errors::status;
pub use replication::{SentAway, SubscribeService, subscribe_service};

use tonic::server::NamedService as _;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::ask::Desk;
use crate::wire::pb::admin_service_server::AdminServiceServer;
use crate::wire::pb::check_service_server::CheckServiceServer;
use crate::wire::pb::revocation_service_server::RevocationServiceServer;
use crate::wire::{self, pb};

/// The largest message that is read, in bytes. Four times the largest acceptable request, so that one somewhat too large
/// is refused with the limit that it breaks, and enough for a thousand tokens of 4 KiB to be checked at once.
const MESSAGE_BYTES_MAX: usize = 4 * crate::revocation::ports::REQUEST_BYTES_MAX;

/// The services of this server added to `routes`, and the hand that turns their health.
pub(super) fn routes(desk: &Desk, routes: Routes) -> (Routes, HealthReporter) {
    let revocation =
        RevocationServiceServer::new(revocation::Service(desk.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let check = CheckServiceServer::new(check::Service(desk.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let admin = AdminServiceServer::new(admin::Service(desk.clone()));
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut routes = routes.add_service(revocation).add_service(check).add_service(admin).add_service(health);
    match reflection().build_v1() {
        Ok(service) => routes = routes.add_service(service),
        Err(error) => tracing::warn!(%error, "reflection is off"),
    }
    match reflection().build_v1alpha() {
        Ok(service) => routes = routes.add_service(service),
        Err(error) => tracing::warn!(%error, "reflection v1alpha is off"),
    }
    (routes, reporter)
}

/// Sets the health of the server and of each service.
pub(super) async fn set_health(reporter: &HealthReporter, status: ServingStatus) {
    use pb::admin_service_server::SERVICE_NAME as ADMIN;
    use pb::check_service_server::SERVICE_NAME as CHECK;
    use pb::revocation_service_server::SERVICE_NAME as REVOCATION;
    for service in ["", REVOCATION, CHECK, ADMIN, SubscribeService::NAME] {
        reporter.set_service_status(service, status).await;
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
