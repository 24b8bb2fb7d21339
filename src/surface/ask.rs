//! Extract, ask, answer: what every surface does between its own form of a request and of an answer.

use std::sync::Arc;

use super::asker::Asker;
use super::connections::TooManyConnections;
use super::parse::{self, Issuers, TOKENS_MAX, with_scratch};
use super::violations::{Path, Violations};
use crate::revocation::Verdict;
use crate::revocation::ports::{
    Checks, CredentialError, Credentials, FindError, Finds, OperateError, Operates, Policies, PolicyError, Propagates,
    PropagationError, Reports, VerificationPolicies, WriteError, Writes,
};
use crate::security::access::Denial;
use crate::security::call::Call;
use crate::token::Verifier;
use crate::wire::{self, pb};

/// Tokens checked before other tasks of the thread get a turn: about 100 µs of work.
const CHECKS_PER_TURN: usize = 64;

/// What a node answers with.
#[derive(Clone)]
pub struct Node {
    /// Checks.
    pub checks: Arc<dyn Checks>,
    /// Writes.
    pub writes: Arc<dyn Writes>,
    /// Searches.
    pub finds: Arc<dyn Finds>,
    /// Its condition.
    pub reports: Arc<dyn Reports>,
    /// What operators ask for.
    pub operates: Arc<dyn Operates>,
    /// Its subscribers, and what they have applied.
    pub propagates: Arc<dyn Propagates>,
    /// Its API credentials; `None`: it keeps none.
    pub credentials: Option<Arc<dyn Credentials>>,
    /// Decides about tokens, by the verification policy; `None`: it knows no such policy.
    pub verifier: Option<Verifier>,
    /// Applies verification policies; `None`: it follows them.
    pub policies: Option<Arc<dyn Policies>>,
    /// The verification policy in force.
    pub verification: Arc<dyn VerificationPolicies>,
}

/// Why a request is refused, whatever form it came in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request is wrong, field by field.
    #[error("{0}")]
    Invalid(Violations),
    /// The node did not accept the write.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The node could not search.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The node did not do what an operator asked for.
    #[error(transparent)]
    Operate(#[from] OperateError),
    /// The caller may not do that.
    #[error("{0}")]
    Denied(Box<Denial>),
    /// The caller has too many connections.
    #[error(transparent)]
    TooManyConnections(#[from] TooManyConnections),
    /// The node could not tell about its subscribers.
    #[error(transparent)]
    Propagation(#[from] PropagationError),
    /// The credential was not created or revoked.
    #[error(transparent)]
    Credential(CredentialError),
    /// A secret would be answered where others can read it.
    #[error("a credential's secret is not sent in clear beyond this machine; use TLS, or ask on the server itself")]
    Exposed,
    /// The verification policy was not applied.
    #[error(transparent)]
    Policy(PolicyError),
    /// There is no verification policy.
    #[error("no verification policy is in force")]
    NoPolicy,
    /// There is no such revocation.
    #[error("the revocation is unknown, or was pruned")]
    NotFound,
}

impl From<CredentialError> for Refusal {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Write(error) => Self::Write(error),
            CredentialError::NotFound | CredentialError::TooMany => Self::Credential(error),
        }
    }
}

impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Write(error) => Self::Write(error),
            PolicyError::OtherVersion { .. } | PolicyError::NoSuchVersion { .. } | PolicyError::LeavesBehind { .. } => {
                Self::Policy(error)
            }
        }
    }
}

impl From<Violations> for Refusal {
    fn from(violations: Violations) -> Self {
        Self::Invalid(violations)
    }
}

/// A node together with what this server's configuration says about it.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) node: Node,
    pub(super) issuers: Issuers,
    pub(super) insecure: bool,
    pub(super) authentication: bool,
    pub(super) tls: bool,
    pub(super) data_dir: String,
}

impl Desk {
    pub(super) async fn revoke(
        &self,
        message: pb::RevokeRequest,
        asker: &Asker,
    ) -> Result<pb::RevokeResponse, Refusal> {
        let request = parse::revoke_request(message, asker.caller(), self.issuers)?;
        if !request.dry_run {
            asker.count_writes(request.items.len(), Call::Revoke)?;
        }
        let reply = self.node.writes.revoke(request).await;
        if let Err(WriteError::NotPermitted { .. }) = reply {
            asker.note_out_of_scope(Call::Revoke);
        }
        Ok(wire::revoke_response(&reply?))
    }

    pub(super) async fn reinstate(
        &self,
        message: pb::ReinstateRequest,
        asker: &Asker,
    ) -> Result<pb::ReinstateResponse, Refusal> {
        let tokens: Vec<(usize, String)> = named_tokens(&message);
        let request = parse::reinstate_request(message, asker.caller())?;
        let dry_run = request.dry_run;
        if !dry_run {
            asker.count_writes(request.items.len(), Call::Reinstate)?;
        }
        let reply = self.node.writes.reinstate(request).await?;
        let mut response = wire::reinstate_response(&reply);
        if !dry_run {
            for (index, token) in tokens {
                if let Some(outcome) = response.outcomes.get_mut(index) {
                    outcome.still_revoked_by = self.revoked_by(token);
                }
            }
        }
        Ok(response)
    }

    pub(super) async fn find(&self, message: &pb::GetRevocationRequest) -> Result<pb::GetRevocationResponse, Refusal> {
        let (id, at_least) = parse::id_query(message)?;
        let found = self.node.finds.find(id, at_least).await?;
        wire::found_record(&found).ok_or(Refusal::NotFound)
    }

    pub(super) async fn list(
        &self,
        message: pb::ListRevocationsRequest,
    ) -> Result<pb::ListRevocationsResponse, Refusal> {
        let query = parse::list_query(message)?;
        let found = self.node.finds.list(query).await?;
        Ok(wire::page(&found))
    }

    pub(super) fn check(&self, message: &pb::CheckTokenRequest) -> Result<pb::CheckTokenResponse, Refusal> {
        let mut violations = Violations::default();
        let at_least = parse::position(message.at_least.as_ref(), &mut violations);
        let response = with_scratch(|scratch| {
            let claims = parse::presented(scratch, message.token.as_ref(), &Path::root("token"), &mut violations)?;
            violations.is_empty().then(|| wire::check_response(&self.node.checks.check(claims, at_least)))
        });
        Ok(violations.or(response)?)
    }

    pub(super) async fn check_many(&self, message: pb::CheckTokensRequest) -> Result<pb::CheckTokensResponse, Refusal> {
        let mut violations = Violations::default();
        let at_least = parse::position(message.at_least.as_ref(), &mut violations);
        let count = message.tokens.len();
        if count == 0 || count > TOKENS_MAX {
            violations.add("tokens", format_args!("holds 1 to {TOKENS_MAX}, {count} given"));
        }
        violations.clone().or(Some(()))?;
        let mut responses = Vec::with_capacity(count);
        for (index, token) in message.tokens.iter().enumerate() {
            let answer = with_scratch(|scratch| {
                parse::presented(scratch, Some(token), &Path::element("tokens", index), &mut violations)
                    .map(|claims| self.node.checks.check(claims, at_least))
            });
            responses.extend(answer.as_ref().map(wire::check_response));
            if index % CHECKS_PER_TURN == CHECKS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        Ok(violations.or(Some(pb::CheckTokensResponse { responses }))?)
    }

    pub(super) async fn await_propagation(
        &self,
        message: &pb::AwaitPropagationRequest,
    ) -> Result<pb::AwaitPropagationResponse, Refusal> {
        let (position, timeout) = parse::await_propagation(message)?;
        let reply = self.node.propagates.await_propagation(position, timeout).await?;
        Ok(wire::propagation(reply))
    }

    pub(super) async fn forget(&self, message: pb::ForgetRequest) -> Result<pb::ForgetResponse, Refusal> {
        let member = parse::forget(message)?;
        let forgotten = self.node.propagates.forget(member).await?;
        Ok(pb::ForgetResponse { forgotten })
    }

    pub(super) fn status(&self) -> pb::GetStatusResponse {
        pb::GetStatusResponse {
            insecure: self.insecure,
            authentication: self.authentication,
            tls: self.tls,
            data_dir: self.data_dir.clone(),
            ..wire::status_response(&self.node.reports.status())
        }
    }

    /// What revokes a token that was just reinstated, as far as one check tells.
    fn revoked_by(&self, token: String) -> Vec<String> {
        let presented = pb::PresentedToken { presented: Some(pb::presented_token::Presented::Token(token)) };
        let answer = with_scratch(|scratch| {
            parse::presented(scratch, Some(&presented), &Path::root("token"), &mut Violations::default())
                .map(|claims| self.node.checks.check(claims, None))
        });
        match answer.map(|answer| answer.verdict) {
            Some(Verdict::Revoked(hit)) => vec![hit.shape.to_string()],
            _ => Vec::new(),
        }
    }
}

/// The tokens among what is to be reinstated, with their places.
fn named_tokens(message: &pb::ReinstateRequest) -> Vec<(usize, String)> {
    let token = |item: &pb::Reinstatement| match &item.target {
        Some(pb::reinstatement::Target::Token(token)) => Some(token.clone()),
        _ => None,
    };
    message.reinstatements.iter().enumerate().filter_map(|(index, item)| Some((index, token(item)?))).collect()
}
