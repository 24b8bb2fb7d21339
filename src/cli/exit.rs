//! How a command ends.

use std::process::ExitCode;

use tonic::Code;
use tonic_types::StatusExt;

use crate::surface::OUTCOME_UNKNOWN;

/// The exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    Negative = 1,
    CannotTell = 2,
    NotEverywhere = 3,
    Unreachable = 4,
    Denied = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was told: one line for people, and the exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) message: String,
}

impl Failure {
    /// Bad input, or something that this machine cannot do.
    pub(super) fn cannot(message: impl Into<String>) -> Self {
        Self { exit: Exit::CannotTell, message: message.into() }
    }

    /// No server was reached.
    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self { exit: Exit::Unreachable, message: message.into() }
    }

    /// A server was reached, and refuses this caller.
    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self { exit: Exit::Denied, message: message.into() }
    }

    /// The same for `check`, which has two outcomes beside "cannot tell".
    pub(super) fn cannot_tell(self) -> Self {
        Self { exit: Exit::CannotTell, ..self }
    }

    /// The same with the way to retry, if nothing is known of a write.
    pub(super) fn of_write(self, request_id: &str) -> Self {
        if self.exit != Exit::Unreachable {
            return self;
        }
        let message = format!("{}; a retry with --request-id {request_id} is safe", self.message);
        Self { message, ..self }
    }
}

/// What a server's refusal means here.
impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let exit = match status.code() {
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
            | Code::Aborted
            | Code::DataLoss => Exit::Unreachable,
            Code::PermissionDenied | Code::Unauthenticated => Exit::Denied,
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented => Exit::CannotTell,
        };
        Self { exit, message: describe(&status) }
    }
}

/// All that the server said, on one line.
fn describe(status: &tonic::Status) -> String {
    let details = status.get_error_details();
    if details.error_info().is_some_and(|info| info.reason == OUTCOME_UNKNOWN) {
        return status.message().to_owned();
    }
    let fields = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
    if fields.len() < 2 {
        return status.message().to_owned();
    }
    let fields: Vec<String> = fields.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
    fields.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_with_the_status_that_scripts_expect() {
        for (code, exit) in [
            (Code::InvalidArgument, Exit::CannotTell),
            (Code::ResourceExhausted, Exit::CannotTell),
            (Code::AlreadyExists, Exit::CannotTell),
            (Code::Unavailable, Exit::Unreachable),
            (Code::DeadlineExceeded, Exit::Unreachable),
            (Code::PermissionDenied, Exit::Denied),
            (Code::Unauthenticated, Exit::Denied),
        ] {
            let failure = Failure::from(tonic::Status::new(code, "why"));
            assert_eq!((failure.exit, failure.message.as_str()), (exit, "why"), "{code:?}");
        }
    }

    #[test]
    fn only_a_write_of_unknown_outcome_names_its_request_id() {
        let unknown = Failure::from(tonic::Status::unavailable("gone")).of_write("r1");
        assert_eq!(unknown.message, "gone; a retry with --request-id r1 is safe");
        let refused = Failure::from(tonic::Status::invalid_argument("wrong")).of_write("r1");
        assert_eq!(refused.message, "wrong");
    }
}
