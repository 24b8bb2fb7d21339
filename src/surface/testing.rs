//! A node that answers as it is told, and remembers what it was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::ask::Node;
use crate::revocation::ports::{
    AcceptLossError, Answer, AppliedPolicy, ApplyPolicy, AuditHead, BackupPart, BackupParts, Caller, Checks,
    Credential, CredentialError, CredentialId, Credentials, ExportPart, ExportParts, FindError, Finds, Found,
    NotAuthority, OperateError, Operates, Page, Pending, Policies, PolicyApplied, PolicyChoice, PolicyError, Preview,
    Query, Record, RecordState, ReinstateReply, ReinstateRequest, Reports, RevokeReply, RevokeRequest, Revoked, Status,
    VerificationPolicies, WriteError, Writes,
};
use crate::revocation::{
    Claims, Cutoff, Digest, Epoch, Minute, Policy, Position, Revision, RevocationId, Selector, TestedClaim, UnixMillis,
    UnixSeconds, Verdict, VersionedPolicy,
};

pub(crate) const EPOCH: Epoch = Epoch { generation: 1, id: [0xab; 16] };
pub(crate) const HERE: Position = Position { epoch: EPOCH.id, revision: Revision(42) };
pub(crate) const ID: RevocationId = RevocationId { epoch_prefix: 0xabab_abab, revision: Revision(42), index: 0 };

/// What the fake answers, and what it was asked.
pub(crate) struct FakeNode {
    pub(crate) verdict: Mutex<Verdict>,
    pub(crate) beyond_horizon: AtomicBool,
    pub(crate) write_error: Mutex<Option<WriteError>>,
    pub(crate) find_error: Mutex<Option<FindError>>,
    pub(crate) writes_refused: Mutex<Option<String>>,
    pub(crate) members_trouble: Mutex<Option<String>>,
    /// Writes take a permit.
    pub(crate) gate: Semaphore,
    waiting: AtomicUsize,
    pub(crate) checked_subjects: Mutex<Vec<Option<String>>>,
    pub(crate) revokes: Mutex<Vec<RevokeRequest>>,
    pub(crate) reinstates: Mutex<Vec<ReinstateRequest>>,
    pub(crate) queries: Mutex<Vec<Query>>,
    pub(crate) export: Mutex<Vec<Result<ExportPart, OperateError>>>,
    pub(crate) exported_from: Mutex<Option<Revision>>,
    pub(crate) credentials: Mutex<Vec<Credential>>,
    credential_changes: AtomicU64,
    pub(crate) policies: Mutex<Vec<Arc<AppliedPolicy>>>,
    pub(crate) policy_error: Mutex<Option<PolicyError>>,
    pub(crate) backup: Mutex<Vec<Result<BackupPart, OperateError>>>,
}

impl FakeNode {
    /// Finds nothing revoked and accepts every write.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            verdict: Mutex::new(Verdict::NotRevoked),
            beyond_horizon: AtomicBool::default(),
            write_error: Mutex::default(),
            find_error: Mutex::default(),
            writes_refused: Mutex::default(),
            members_trouble: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            waiting: AtomicUsize::new(0),
            checked_subjects: Mutex::default(),
            revokes: Mutex::default(),
            reinstates: Mutex::default(),
            queries: Mutex::default(),
            export: Mutex::default(),
            exported_from: Mutex::default(),
            credentials: Mutex::default(),
            credential_changes: AtomicU64::default(),
            policies: Mutex::default(),
            policy_error: Mutex::default(),
            backup: Mutex::default(),
        })
    }

    /// Whether a write has come as far as the gate.
    pub(crate) fn waits_at_gate(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn node(self: &Arc<Self>) -> Node {
        Node {
            checks: self.clone(),
            writes: self.clone(),
            finds: self.clone(),
            reports: self.clone(),
            operates: self.clone(),
            propagates: Arc::new(NotAuthority),
            credentials: Some(self.clone()),
            verifier: None,
            policies: Some(self.clone()),
            verification: self.clone(),
        }
    }
}

impl Policies for FakeNode {
    fn apply(&self, request: ApplyPolicy) -> Pending<'_, Result<PolicyApplied, PolicyError>> {
        Box::pin(async move {
            if let Some(error) = self.policy_error.lock().clone() {
                return Err(error);
            }
            let mut policies = self.policies.lock();
            let version = policies.len() as u64 + 1;
            let (policy, source, reverts_to) = match request.choice {
                PolicyChoice::Text(policy, source) => (policy, source, None),
                PolicyChoice::Version(version) => {
                    let earlier = &policies[version as usize - 1];
                    (earlier.policy.policy.clone(), earlier.source.clone(), Some(version))
                }
            };
            if request.dry_run {
                return Ok(PolicyApplied { position: None, version, unchanged: false });
            }
            policies.push(Arc::new(AppliedPolicy {
                policy: Arc::new(VersionedPolicy { version, policy }),
                source,
                principal: request.caller.principal,
                peer: request.caller.peer,
                applied_at: UnixMillis(60_000),
                reason: request.reason,
                reverts_to,
            }));
            Ok(PolicyApplied { position: Some(HERE), version, unchanged: false })
        })
    }

    fn history(&self) -> Vec<Arc<AppliedPolicy>> {
        self.policies.lock().clone()
    }
}

impl VerificationPolicies for FakeNode {
    fn current(&self) -> Option<Arc<VersionedPolicy>> {
        self.policies.lock().last().map(|applied| Arc::clone(&applied.policy))
    }

    fn changed(&self, _: Option<Arc<VersionedPolicy>>) -> Pending<'_, Option<Arc<VersionedPolicy>>> {
        Box::pin(std::future::pending())
    }
}

impl Checks for FakeNode {
    fn check(&self, claims: &Claims, at_least: Option<Position>) -> Answer {
        self.checked_subjects.lock().push(claims.value("sub").map(str::to_owned));
        let verdict = self.verdict.lock().clone();
        let deny = verdict != Verdict::NotRevoked;
        Answer {
            verdict,
            deny,
            position: at_least.unwrap_or(HERE),
            staleness: Duration::from_millis(1500),
            beyond_horizon: self.beyond_horizon.load(Ordering::SeqCst),
            untimed: false,
        }
    }
}

impl Writes for FakeNode {
    fn revoke(&self, request: RevokeRequest) -> Pending<'_, Result<RevokeReply, WriteError>> {
        Box::pin(async move {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.expect("the gate is never closed").forget();
            let outcome = |(index, item): (usize, &crate::revocation::ports::Revoke)| Revoked {
                id: (!request.dry_run).then_some(RevocationId { index: index as u32, ..ID }),
                selector: item.target.selector().clone(),
                cutoff: Cutoff::at(UnixSeconds(1_767_225_600)).unwrap(),
                expiry: Minute::ceil(UnixSeconds(1_767_312_000)).unwrap(),
                already_expired: false,
                merged: false,
                preview: request.dry_run.then(|| Preview {
                    merges_with: vec![ID],
                    merges_with_more: 3,
                    cutoff: Cutoff::UNBOUNDED,
                    expiry: Minute::NEVER,
                }),
            };
            let outcomes = request.items.iter().enumerate().map(outcome).collect();
            let position = (!request.dry_run).then_some(HERE);
            self.revokes.lock().push(request);
            let error = self.write_error.lock().clone();
            error.map_or(Ok(RevokeReply { position, outcomes, repeated: false }), Err)
        })
    }

    fn reinstate(&self, request: ReinstateRequest) -> Pending<'_, Result<ReinstateReply, WriteError>> {
        Box::pin(async move {
            let undone = request.items.iter().map(|_| vec![ID]).collect();
            let position = (!request.dry_run).then_some(HERE);
            self.reinstates.lock().push(request);
            let error = self.write_error.lock().clone();
            error.map_or(Ok(ReinstateReply { position, undone, repeated: false }), Err)
        })
    }
}

impl Finds for FakeNode {
    fn find(&self, id: RevocationId, _: Option<Position>) -> Pending<'_, Result<Found<Option<Record>>, FindError>> {
        let value = (id == ID).then(record);
        let error = self.find_error.lock().clone();
        Box::pin(async move { error.map_or(Ok(Found { value, indexed_through: HERE }), Err) })
    }

    fn list(&self, query: Query) -> Pending<'_, Result<Found<Page>, FindError>> {
        self.queries.lock().push(query);
        let value = Page { records: vec![record()], next: Some("next".into()) };
        let error = self.find_error.lock().clone();
        Box::pin(async move { error.map_or(Ok(Found { value, indexed_through: HERE }), Err) })
    }
}

impl Operates for FakeNode {
    fn backup(&self) -> Result<BackupParts, OperateError> {
        Ok(Box::new(self.backup.lock().clone().into_iter()))
    }

    fn export(&self, from: Revision) -> Result<ExportParts, OperateError> {
        *self.exported_from.lock() = Some(from);
        Ok(Box::new(self.export.lock().clone().into_iter()))
    }

    fn accept_loss(&self, _: Caller, generation: u64) -> Pending<'_, Result<Position, AcceptLossError>> {
        let current = EPOCH.generation;
        let past = (1..current + 1).contains(&generation);
        Box::pin(async move { if past { Ok(HERE) } else { Err(AcceptLossError::NotPast { generation, current }) } })
    }
}

impl Credentials for FakeNode {
    fn find(&self, id: CredentialId) -> Option<Credential> {
        self.credentials.lock().iter().find(|credential| credential.id == id).cloned()
    }

    fn changes(&self) -> u64 {
        self.credential_changes.load(Ordering::Relaxed)
    }

    fn list(&self) -> Vec<Credential> {
        self.credentials.lock().clone()
    }

    fn create(&self, _: Caller, credential: Credential) -> Pending<'_, Result<Position, CredentialError>> {
        self.credentials.lock().push(credential);
        self.credential_changes.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(HERE) })
    }

    fn revoke(&self, _: Caller, id: CredentialId) -> Pending<'_, Result<Position, CredentialError>> {
        let mut all = self.credentials.lock();
        let before = all.len();
        all.retain(|credential| credential.id != id);
        let gone = all.len() < before;
        self.credential_changes.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { if gone { Ok(HERE) } else { Err(CredentialError::NotFound) } })
    }
}

impl Reports for FakeNode {
    fn status(&self) -> Status {
        Status {
            version: "0.0.0",
            epoch: EPOCH,
            revision: HERE.revision,
            digest: Digest::default(),
            live_entries: 1 << 60,
            policy: Policy::default(),
            shapes: vec![],
            floor: Minute::default(),
            staleness: Duration::from_millis(1500),
            uptime: Duration::from_secs(3),
            indexed_through: Revision(40),
            oldest: Revision(1),
            subscribers: 2,
            history_lost: 0,
            members_cut_off: 0,
            members_trouble: self.members_trouble.lock().clone(),
            writes_refused: self.writes_refused.lock().clone(),
            clock_alarm: None,
            index_trouble: None,
            public_key: [7; 32],
            audit_head: Some(AuditHead { revision: HERE.revision, checksum: [0xcd; 32] }),
            now: UnixMillis(1_767_225_600_000),
            following: None,
        }
    }
}

fn record() -> Record {
    let at = UnixMillis(1_767_225_600_042);
    Record {
        id: ID,
        selector: Selector::new([("sub", "alice")], TestedClaim::AuthTime).unwrap(),
        cutoff: Cutoff::UNBOUNDED,
        expiry: Minute::NEVER,
        exceptions: vec![Selector::new([("sid", "s1")], TestedClaim::Iat).unwrap()],
        reason: "lost phone".into(),
        actor: "anonymous@127.0.0.1".into(),
        accepted_at: at,
        state: RecordState::Reinstated { actor: "somebody".into(), at, reason: String::new() },
    }
}
