//! Verify, then check: the one decision that the library, gateways and OAuth endpoints share.
//!
//! Follows the policy in force: a policy that was applied holds from the next token on. Waits only when a token names a key that
//! is not known, at most [`KEYS_WITHIN`], and for all who wait together.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::TokenParser;
use super::decision::{Allowed, Decision, Denied, Reason, Tally, Unclear};
use super::keys::KeyRing;
use super::verify::{Refused, Rules, Verified, authenticate, claimed_issuer, judge_class, judge_proven};
use crate::clock::Clock;
use crate::revocation::ports::{Checks, VerificationPolicies};
use crate::revocation::verification::{RouteClass, VersionedPolicy};
use crate::revocation::{Claims, UnixSeconds, Verdict};

/// How long a token waits for keys that are not known yet.
pub const KEYS_WITHIN: Duration = Duration::from_secs(2);

/// What a request brought for a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bearer<'a> {
    /// Nothing.
    Missing,
    /// Something that is no token, or several.
    Unreadable,
    /// A token, to be verified.
    Token(&'a str),
    /// The payload of a token that a trusted proxy verified, as JSON. Revocations of a key, or of a token by its hash, cannot be
    /// seen in it: while there are any, what is not revoked otherwise is unclear.
    Verified(&'a str),
}

/// Decides. Clones share everything.
#[derive(Clone)]
pub struct Verifier {
    policies: Arc<dyn VerificationPolicies>,
    checks: Arc<dyn Checks>,
    keys: KeyRing,
    clock: Clock,
    followed: Arc<Followed>,
    tally: Arc<Tally>,
}

/// What the keys follow.
#[derive(Default)]
struct Followed {
    policy: ArcSwapOption<VersionedPolicy>,
    /// Held while they are made to follow another, so that nobody takes them back to an older one.
    turn: Mutex<()>,
}

thread_local! {
    static SCRATCH: RefCell<(TokenParser, Claims)> = RefCell::default();
}

/// Lends the thread's buffers to `work`, which must not call this again.
fn with_scratch<T>(work: impl FnOnce(&mut TokenParser, &mut Claims) -> T) -> T {
    SCRATCH.with_borrow_mut(|(parser, claims)| {
        let result = work(parser, claims);
        claims.clear();
        result
    })
}

impl<'a> Bearer<'a> {
    /// What the values of all `Authorization` headers of a request bring (RFC 6750 §2.1).
    pub fn of(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        let Some(first) = values.next() else { return Self::Missing };
        if values.next().is_some() {
            return Self::Unreadable;
        }
        let Ok(text) = std::str::from_utf8(first) else { return Self::Unreadable };
        let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
        // Another scheme is not for us: as if nothing had been brought (§3.1).
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Self::Missing;
        }
        let token = token.trim_matches(' ');
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_token { Self::Token(token) } else { Self::Unreadable }
    }
}

impl Verifier {
    /// A verifier by the policies of one node and its set.
    #[must_use]
    pub fn new(policies: Arc<dyn VerificationPolicies>, checks: Arc<dyn Checks>, keys: KeyRing, clock: Clock) -> Self {
        Self { policies, checks, keys, clock, followed: Arc::default(), tally: Arc::default() }
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Option<Arc<VersionedPolicy>> {
        let current = self.policies.current()?;
        if self.followed.is(&current) { Some(current) } else { self.follow() }
    }

    /// Whoever comes first has the keys of new issuers fetched.
    fn follow(&self) -> Option<Arc<VersionedPolicy>> {
        let _turn = self.followed.turn.lock();
        // Once more: somebody may have followed a newer one since.
        let current = self.policies.current()?;
        if !self.followed.is(&current) {
            self.keys.follow(&current.policy);
            self.followed.policy.store(Some(Arc::clone(&current)));
        }
        Some(current)
    }

    /// What was decided so far, by all clones.
    #[must_use]
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Follows the policy for ever, so that the keys of new issuers are fetched before a token needs them.
    pub async fn keep_following(self) {
        let mut seen = None;
        loop {
            seen = self.policies.changed(seen).await;
            let _ = self.policy();
        }
    }

    /// The keys, and how their sources are.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// What becomes of a request to a class of routes; `None`: to one of which nothing is asked but a good token.
    pub async fn decide(&self, bearer: Bearer<'_>, class: Option<&str>) -> Decision {
        let decision = self.decide_uncounted(bearer, class).await;
        self.tally.note(&decision);
        decision
    }

    async fn decide_uncounted(&self, bearer: Bearer<'_>, class: Option<&str>) -> Decision {
        if let Bearer::Missing = bearer {
            return Decision::Denied(Denied::missing());
        }
        if let Bearer::Unreadable = bearer {
            return Decision::Denied(Denied::unreadable());
        }
        let Some(current) = self.policy() else { return Decision::Unclear(Unclear::NoPolicy) };
        let class = match class.map(|name| current.policy.class(name)) {
            Some(None) => return Decision::Unclear(Unclear::NoSuchClass),
            Some(Some(class)) => Some(class),
            None => None,
        };
        let rules = Rules { policy: &current.policy, class, now: self.now() };
        let first = self.judge(bearer, &rules);
        let wants_keys = matches!(
            &first,
            Decision::Unclear(Unclear::NoKeys)
                | Decision::Denied(Denied { reason: Reason::Refused(Refused::UnknownKey), .. })
        );
        let Bearer::Token(token) = bearer else { return first };
        let claimed =
            || with_scratch(|parser, claims| claimed_issuer(parser, claims, token.as_bytes(), &current.policy));
        match wants_keys.then(claimed).flatten() {
            None => first,
            Some(issuer) => {
                self.keys.newer(&issuer.iss, KEYS_WITHIN).await;
                self.judge(bearer, &Rules { now: self.now(), ..rules })
            }
        }
    }

    fn judge(&self, bearer: Bearer<'_>, rules: &Rules<'_>) -> Decision {
        with_scratch(|parser, claims| {
            let proven = match bearer {
                Bearer::Token(token) => {
                    authenticate(parser, claims, token.as_bytes(), rules, |issuer| self.keys.keys(&issuer.iss))
                }
                Bearer::Verified(payload) => parser
                    .parse_claims(claims, payload.as_bytes(), None)
                    .map_err(Refused::from)
                    .and_then(|()| judge_proven(parser, claims, payload.as_bytes(), rules)),
                Bearer::Missing => return Decision::Denied(Denied::missing()),
                Bearer::Unreadable => return Decision::Denied(Denied::unreadable()),
            };
            match proven {
                Ok(proven) => self.check(claims, &proven, rules, || payload_of(parser, bearer)),
                Err(Refused::NoKeys) => Decision::Unclear(Unclear::NoKeys),
                Err(refused) => Decision::Denied(Denied::refused(refused, scopes_of(rules.class))),
            }
        })
    }

    /// Revoked comes before insufficient: what it would have reached is nobody's business any more.
    fn check(
        &self,
        claims: &Claims,
        verified: &Verified<'_>,
        rules: &Rules<'_>,
        payload: impl FnOnce() -> String,
    ) -> Decision {
        let answer = self.checks.check(claims, None);
        match (answer.verdict, judge_class(claims, rules.class)) {
            (Verdict::Revoked(hit), _) => Decision::Denied(Denied::revoked(hit)),
            (_, Err(refused)) => Decision::Denied(Denied::refused(refused, scopes_of(rules.class))),
            (Verdict::Unknown(cause), Ok(())) if answer.deny => Decision::Unclear(Unclear::Verdict(cause)),
            // What policy serves although it cannot be told is counted where it is decided.
            (Verdict::NotRevoked | Verdict::Unknown(_), Ok(())) => {
                Decision::Allowed(Box::new(Allowed::of(claims, verified, payload())))
            }
        }
    }

    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.clock.wall().0 / 1000)
    }
}

impl Followed {
    /// By what it says too: after a restore another policy may have the same version.
    fn is(&self, current: &Arc<VersionedPolicy>) -> bool {
        let followed = self.policy.load();
        followed.as_ref().is_some_and(|followed| Arc::ptr_eq(followed, current) || followed == current)
    }
}

fn scopes_of(class: Option<&RouteClass>) -> &[String] {
    class.map_or(&[], |class| &class.scopes)
}

/// The payload of a token that was verified, as JSON.
fn payload_of(parser: &mut TokenParser, bearer: Bearer<'_>) -> String {
    match bearer {
        Bearer::Verified(payload) => payload.to_owned(),
        Bearer::Token(token) => parser.payload(token).unwrap_or_default(),
        Bearer::Missing | Bearer::Unreadable => String::new(),
    }
}

/// Hides the token.
impl fmt::Debug for Bearer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "Missing",
            Self::Unreadable => "Unreadable",
            Self::Token(_) => "Token(hidden)",
            Self::Verified(_) => "Verified(hidden)",
        })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("keys", &self.keys).finish_non_exhaustive()
    }
}
