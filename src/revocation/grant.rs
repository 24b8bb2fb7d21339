//! What a principal may do: roles, and for those who revoke, how far.

mod permit;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::codec::DecodeError;

pub use permit::{Caution, Denial, Intent, Part, USUAL_CLAIMS};

/// What a principal is trusted with. Which calls each allows is the table in `docs/access.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Asks whether tokens are revoked.
    Check,
    /// Holds a replica: gets the set key and every change.
    Subscribe,
    /// Holds a replica, serves it again, and speaks for those below.
    Relay,
    /// Asks the introspection endpoint (RFC 7662).
    Introspect,
    /// Revokes, within its [`Grant`].
    Revoke,
    /// Reads whole records of the journal.
    Peer,
    /// Everything.
    Admin,
}

impl Role {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Check, Self::Subscribe, Self::Relay, Self::Introspect, Self::Revoke, Self::Peer, Self::Admin];

    /// How it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Subscribe => "subscribe",
            Self::Relay => "relay",
            Self::Introspect => "introspect",
            Self::Revoke => "revoke",
            Self::Peer => "peer",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no role; there are check, subscribe, relay, introspect, revoke, peer and admin")]
pub struct RoleError {
    /// What was given.
    pub given: String,
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| RoleError { given: text.to_owned() })
    }
}

/// A set of roles; empty by default.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Roles(u16);

impl Roles {
    /// Whether `role` is among them, or [`Role::Admin`], which holds all others.
    #[must_use]
    pub fn allow(self, role: Role) -> bool {
        self.0 & (role.bit() | Role::Admin.bit()) != 0
    }

    /// Those that were given, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.0 & role.bit() != 0)
    }

    /// Their bits, for the disk.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.0
    }

    /// The inverse of [`Roles::bits`].
    ///
    /// # Errors
    /// When a bit stands for no role.
    pub fn from_bits(bits: u16) -> Result<Self, DecodeError> {
        let known: u16 = Role::ALL.iter().map(|role| role.bit()).sum();
        if bits & !known == 0 { Ok(Self(bits)) } else { Err(DecodeError::Invalid("roles")) }
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The most issuers, and the most claim names, in one grant.
pub const GRANT_NAMES_MAX: usize = 32;

/// Roles, and the bounds of [`Role::Revoke`]. The default allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// What it is trusted with.
    pub roles: Roles,
    /// Selectors written must hold `iss` with one of these values; `None`: with any, or none.
    pub issuers: Option<Vec<String>>,
    /// Selectors written may hold these claims, and `iss`, only; `None`: any, but a shape that is not active yet may hold
    /// only the usual ones.
    pub claims: Option<Vec<String>>,
    /// The most revocations and reinstatements in any minute; `None`: as many as fit.
    pub writes_per_minute: Option<u32>,
}

impl Grant {
    /// Everything: of an admin, and of whoever calls a server that asks nobody who he is.
    #[must_use]
    pub fn everything() -> Arc<Self> {
        Arc::new(Self { roles: [Role::Admin].into_iter().collect(), ..Self::default() })
    }

    /// The bounds of this grant, by the names of their fields, that `other` lacks or goes beyond. One that allows no write
    /// needs none.
    pub fn exceeded_by(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let is_within = |bound: &Option<Vec<String>>, names: &Option<Vec<String>>| match (bound, names) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(bound), Some(names)) => names.iter().all(|name| bound.contains(name)),
        };
        let is_paced = self.writes_per_minute.is_none_or(|most| other.writes_per_minute.is_some_and(|n| n <= most));
        let bounds = [
            ("issuers", is_within(&self.issuers, &other.issuers)),
            ("claims", is_within(&self.claims, &other.claims)),
            ("writes_per_minute", is_paced),
        ];
        let writes = other.roles.allow(Role::Revoke);
        bounds.into_iter().filter(move |(_, is_kept)| writes && !is_kept).map(|(field, _)| field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_may_do_everything_and_nobody_nothing() {
        let roles = |text: &[&str]| text.iter().map(|role| role.parse::<Role>().unwrap()).collect::<Roles>();
        for role in Role::ALL {
            assert!(roles(&["admin"]).allow(role), "{role}");
            assert!(!Roles::default().allow(role), "{role}");
            assert_eq!(roles(&["check"]).allow(role), role == Role::Check, "{role}");
        }
    }

    #[test]
    fn a_grant_within_another_has_all_its_bounds() {
        let grant = |role, issuers: &[&str], pace| Grant {
            roles: [role].into_iter().collect(),
            issuers: (!issuers.is_empty()).then(|| issuers.iter().map(|issuer| (*issuer).to_owned()).collect()),
            claims: None,
            writes_per_minute: pace,
        };
        let bounded = grant(Role::Admin, &["a", "b"], Some(5));
        let exceeded = |other| bounded.exceeded_by(&other).collect::<Vec<_>>();
        assert!(exceeded(bounded.clone()).is_empty() && exceeded(grant(Role::Check, &[], None)).is_empty());
        assert!(exceeded(grant(Role::Revoke, &["b"], Some(1))).is_empty());
        assert_eq!(exceeded(grant(Role::Revoke, &[], None)), ["issuers", "writes_per_minute"]);
        assert_eq!(exceeded(grant(Role::Admin, &["b", "c"], Some(6))), ["issuers", "writes_per_minute"]);
        assert_eq!(Grant::everything().exceeded_by(&grant(Role::Admin, &[], None)).count(), 0);
    }

    #[test]
    fn roles_survive_the_disk_and_unknown_ones_are_refused() {
        for role in Role::ALL {
            let roles: Roles = [role, Role::Peer].into_iter().collect();
            assert_eq!(Roles::from_bits(roles.bits()), Ok(roles));
        }
        assert!(Roles::from_bits(1 << Role::ALL.len()).is_err());
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("subscribe"));
    }
}
