//! What a request leaves open, decided: the cutoff and the expiry of one revocation.
//!
//! A cutoff is natural where the issuer sets the time a token was issued; whoever stole a token, session or key may mint
//! any. An expiry is natural where the matching tokens are a closed set when the revocation is accepted.

use crate::journal::ExpiryBasis;
use crate::revocation::ports::{CutoffChoice, ExpiryChoice, Revoke, Target};
use crate::revocation::{Cutoff, Minute, Policy, Selector, TOKEN_SHA256, TestedClaim, UnixSeconds, names_a_key};

/// How far beyond the authority's now a cutoff may lie.
pub const CUTOFF_AHEAD_SECONDS_MAX: u64 = 5;
/// How far beyond the authority's now a handed-in token's `exp` counts, and how long a revocation may be kept without being
/// confirmed: 400 days.
pub const TOKEN_EXP_SECONDS_MAX: u64 = 400 * 24 * 3600;

/// Cutoff and expiry of one revocation, as they go into the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Which tokens.
    pub cutoff: Cutoff,
    /// Until when.
    pub expiry: Minute,
    /// Where the expiry comes from.
    pub basis: ExpiryBasis,
    /// The handed-in token is dead already: nothing needs to be written.
    pub already_expired: bool,
}

/// Why a cutoff or expiry cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// The cutoff lies too far ahead.
    #[error("a cutoff may lie at most {CUTOFF_AHEAD_SECONDS_MAX} s beyond the authority's now ({now}), {given} given")]
    CutoffAhead {
        /// The authority's now.
        now: UnixSeconds,
        /// The cutoff asked for.
        given: UnixSeconds,
    },
    /// `auth_time` is tested, but there is no cutoff to test it against.
    #[error("testing auth_time needs a cutoff that is a time; this selector has none by default")]
    TestedWithoutCutoff,
    /// The expiry does not lie ahead.
    #[error("an expiry must lie beyond the authority's now ({now}), {given} given")]
    ExpiryPast {
        /// The authority's now.
        now: UnixSeconds,
        /// The expiry asked for.
        given: UnixSeconds,
    },
    /// The expiry lies beyond what an entry can hold.
    #[error("an expiry may lie in the year 2480 at the latest")]
    ExpiryTooLate,
}

impl TermsError {
    /// The field of the request that is wrong.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::CutoffAhead { .. } => "cutoff_seconds",
            Self::TestedWithoutCutoff => "cutoff_on",
            Self::ExpiryPast { .. } | Self::ExpiryTooLate => "expires_at_seconds",
        }
    }
}

/// The times that terms are decided by.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The authority's now: never behind the log.
    pub now: UnixSeconds,
    /// The wall clock. What would make a revocation do nothing is judged by the earlier of the two.
    pub wall: UnixSeconds,
    /// The expiry floor: an entry must expire beyond it to be there at all.
    pub floor: Minute,
}

/// The terms of `revoke`, accepted at `times` under `policy`.
///
/// # Errors
/// Everything a [`TermsError`] can say.
pub fn terms(revoke: &Revoke, times: Times, policy: &Policy) -> Result<Terms, TermsError> {
    let now = times.now;
    let earliest = now.min(times.wall);
    let selector = revoke.target.selector();
    let cutoff = match revoke.cutoff {
        CutoffChoice::At(given) if given > now.plus(CUTOFF_AHEAD_SECONDS_MAX) => {
            return Err(TermsError::CutoffAhead { now, given });
        }
        CutoffChoice::At(given) => Cutoff::at(given).ok_or(TermsError::CutoffAhead { now, given })?,
        CutoffChoice::Unbounded => Cutoff::UNBOUNDED,
        CutoffChoice::Natural if names_a_secret(selector) => Cutoff::UNBOUNDED,
        CutoffChoice::Natural => Cutoff::at(now).unwrap_or(Cutoff::UNBOUNDED),
    };
    if selector.tested() == TestedClaim::AuthTime && cutoff == Cutoff::UNBOUNDED {
        return Err(TermsError::TestedWithoutCutoff);
    }
    let (end, basis) = match revoke.expiry {
        ExpiryChoice::Never => (None, ExpiryBasis::Never),
        ExpiryChoice::At(given) if given <= earliest => return Err(TermsError::ExpiryPast { now: earliest, given }),
        ExpiryChoice::At(given) => (Some(given), ExpiryBasis::Given),
        ExpiryChoice::In(duration) if duration.is_zero() => return Err(TermsError::ExpiryPast { now, given: now }),
        ExpiryChoice::In(duration) => (Some(now.plus(duration.as_secs())), ExpiryBasis::Given),
        ExpiryChoice::Natural => natural_expiry(&revoke.target, cutoff, now, policy),
    };
    let expiry = match end {
        None => Minute::NEVER,
        // A clock that was ahead once has left the floor ahead: the entry must outlast that, too.
        Some(end) => Minute::ceil(end).ok_or(TermsError::ExpiryTooLate)?.max(beyond(times.floor)),
    };
    let already_expired = matches!(&revoke.target, Target::Token { exp: Some(exp), .. }
        if exp.plus(policy.expiry_leeway.as_secs()) <= earliest);
    Ok(Terms { cutoff, expiry, basis, already_expired })
}

/// Whether these terms keep a revocation until it is reinstated, or for longer than any token lives, although what it names does
/// not ask for that by nature, as a key does, or a token without an `exp`. An expiry in the year 2480 is one in name only.
pub fn kept_forever_by_choice(revoke: &Revoke, terms: &Terms, now: UnixSeconds) -> bool {
    let endless = matches!(revoke.target, Target::Token { exp: None, .. });
    let longest = Minute::ceil(now.plus(TOKEN_EXP_SECONDS_MAX)).unwrap_or(Minute::NEVER);
    let is_far = terms.basis == ExpiryBasis::Given && terms.expiry > longest;
    let is_never = terms.expiry == Minute::NEVER && !endless;
    (is_far || is_never) && !terms.already_expired
}

/// The first minute, an hour past the floor, at which an entry may expire.
fn beyond(floor: Minute) -> Minute {
    Minute::at(floor.bits().saturating_add(60)).unwrap_or(Minute::NEVER)
}

/// Whoever holds what this selector names can mint or keep tokens of any issue time.
fn names_a_secret(selector: &Selector) -> bool {
    selector.pairs().any(|(name, _)| matches!(name, "jti" | "sid") || name == TOKEN_SHA256 || names_a_key(name))
}

fn natural_expiry(
    target: &Target,
    cutoff: Cutoff,
    now: UnixSeconds,
    policy: &Policy,
) -> (Option<UnixSeconds>, ExpiryBasis) {
    let leeway = policy.expiry_leeway.as_secs();
    if let Target::Token { exp, .. } = target {
        return match exp {
            Some(exp) => (Some((*exp).min(now.plus(TOKEN_EXP_SECONDS_MAX)).plus(leeway)), ExpiryBasis::TokenExp),
            None => (None, ExpiryBasis::Never),
        };
    }
    let selector = target.selector();
    let from = cutoff.seconds().map_or(now, |cutoff| cutoff.max(now));
    let token = (Some(from.plus(policy.max_token_lifetime.as_secs() + leeway)), ExpiryBasis::TokenLifetime);
    if selector.value("jti").is_some() || selector.value(TOKEN_SHA256).is_some() {
        token
    } else if selector.pairs().any(|(name, _)| names_a_key(name)) {
        (None, ExpiryBasis::Never)
    } else if selector.value("sid").is_some() || selector.tested() == TestedClaim::AuthTime {
        (Some(now.plus(policy.max_session_lifetime.as_secs() + leeway)), ExpiryBasis::SessionLifetime)
    } else if cutoff == Cutoff::UNBOUNDED {
        (None, ExpiryBasis::Never)
    } else {
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
    const DAY: u64 = 86_400;
    const LEEWAY: u64 = 900;
    const TIMES: Times = Times { now: NOW, wall: NOW, floor: Minute::from_bits((NOW.0 / 60 - 60) as u32) };

    fn revoke(names: &[&str], tested: TestedClaim) -> Revoke {
        let selector = Selector::new(names.iter().map(|name| (*name, "v")), tested).unwrap();
        Revoke {
            target: Target::Selector(selector),
            cutoff: CutoffChoice::Natural,
            expiry: ExpiryChoice::Natural,
            exceptions: vec![],
            reason: String::new(),
        }
    }

    fn natural(names: &[&str]) -> (Option<u64>, Option<u64>) {
        let terms = terms(&revoke(names, TestedClaim::Iat), TIMES, &Policy::default()).unwrap();
        (terms.cutoff.seconds().map(|c| c.0), terms.expiry.seconds().map(|e| e.0 - NOW.0))
    }

    fn minutes_up(seconds: u64) -> u64 {
        (NOW.0 + seconds).div_ceil(60) * 60 - NOW.0
    }

    #[test]
    fn defaults_follow_what_the_selector_names() {
        let token = Some(minutes_up(7 * DAY + LEEWAY));
        let session = Some(minutes_up(30 * DAY + LEEWAY));
        assert_eq!(natural(&["jti"]), (None, token));
        assert_eq!(natural(&["jti", "header.kid"]), (None, token));
        assert_eq!(natural(&["token_sha256"]), (None, token));
        assert_eq!(natural(&["sid"]), (None, session));
        assert_eq!(natural(&["header.kid"]), (None, None));
        assert_eq!(natural(&["cnf.jkt", "sub"]), (None, None));
        assert_eq!(natural(&["sub"]), (Some(NOW.0), token));
        assert_eq!(natural(&["iss", "tenant_id"]), (Some(NOW.0), token));
    }

    #[test]
    fn auth_time_cutoffs_last_a_session_and_need_a_time() {
        let policy = Policy::default();
        let terms_of = |r: &Revoke| terms(r, TIMES, &policy);
        let t = terms_of(&revoke(&["sub"], TestedClaim::AuthTime)).unwrap();
        assert_eq!(t.basis, ExpiryBasis::SessionLifetime);
        assert_eq!(terms_of(&revoke(&["jti"], TestedClaim::AuthTime)), Err(TermsError::TestedWithoutCutoff));
        let unbounded = Revoke { cutoff: CutoffChoice::Unbounded, ..revoke(&["sub"], TestedClaim::AuthTime) };
        assert_eq!(terms_of(&unbounded), Err(TermsError::TestedWithoutCutoff));
    }

    #[test]
    fn an_unbounded_cutoff_on_an_open_set_never_expires_by_itself() {
        let unbounded = Revoke { cutoff: CutoffChoice::Unbounded, ..revoke(&["sub"], TestedClaim::Iat) };
        assert_eq!(terms(&unbounded, TIMES, &Policy::default()).unwrap().expiry, Minute::NEVER);
    }

    #[test]
    fn a_handed_in_token_lends_its_own_exp() {
        let token = |exp: Option<u64>| Revoke {
            target: Target::Token {
                selector: Selector::new([("jti", "v")], TestedClaim::Iat).unwrap(),
                exp: exp.map(UnixSeconds),
            },
            ..revoke(&["jti"], TestedClaim::Iat)
        };
        let terms = |exp| terms(&token(exp), TIMES, &Policy::default()).unwrap();
        assert_eq!(terms(Some(NOW.0 + 100)).expiry.seconds().unwrap().0 - NOW.0, minutes_up(100 + LEEWAY));
        assert_eq!(terms(None).expiry, Minute::NEVER);
        assert!(terms(Some(NOW.0 - LEEWAY)).already_expired);
        assert!(!terms(Some(NOW.0 - LEEWAY + 1)).already_expired, "the laxest verifier still accepts it");
        let far = terms(Some(NOW.0 + 500 * DAY)).expiry.seconds().unwrap().0 - NOW.0;
        assert_eq!(far, minutes_up(400 * DAY + LEEWAY));
    }

    #[test]
    fn a_clock_that_was_ahead_neither_unrevokes_nor_blocks() {
        let ahead =
            Times { now: NOW.plus(1000 * DAY), wall: NOW, floor: Minute::at((NOW.0 / 60) as u32 + 9999).unwrap() };
        let policy = Policy::default();
        let selector = Selector::new([("jti", "v")], TestedClaim::Iat).unwrap();
        let target = Target::Token { selector, exp: Some(NOW.plus(100)) };
        let token = terms(&Revoke { target, ..revoke(&["jti"], TestedClaim::Iat) }, ahead, &policy).unwrap();
        assert!(!token.already_expired);
        assert!(token.expiry > ahead.floor);
        let given = Revoke { expiry: ExpiryChoice::At(NOW.plus(60)), ..revoke(&["sub"], TestedClaim::Iat) };
        assert!(terms(&given, ahead, &policy).unwrap().expiry > ahead.floor);
    }

    #[test]
    fn bounds_are_inclusive() {
        let at =
            |cutoff| Revoke { cutoff: CutoffChoice::At(UnixSeconds(cutoff)), ..revoke(&["sub"], TestedClaim::Iat) };
        let policy = Policy::default();
        assert!(terms(&at(NOW.0 + 5), TIMES, &policy).is_ok());
        assert!(matches!(terms(&at(NOW.0 + 6), TIMES, &policy), Err(TermsError::CutoffAhead { .. })));
        let until = |expiry| Revoke { expiry, ..revoke(&["sub"], TestedClaim::Iat) };
        for past in [ExpiryChoice::At(NOW), ExpiryChoice::In(std::time::Duration::ZERO)] {
            assert!(matches!(terms(&until(past), TIMES, &policy), Err(TermsError::ExpiryPast { .. })));
        }
        let late = ExpiryChoice::At(UnixSeconds(u64::MAX));
        assert_eq!(terms(&until(late), TIMES, &policy), Err(TermsError::ExpiryTooLate));
    }
}
