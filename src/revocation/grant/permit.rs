//! Whether a grant lets one revocation be written, and what must be confirmed first.
//!
//! Pure, and independent of how the request came. Who may call at all is not decided here; that a caller without
//! [`Role::Revoke`] came this far is refused all the same.

use super::super::selector::{Selector, Shape, TOKEN_SHA256, names_a_key};
use super::{Grant, Role};

/// The claims that a first revocation of its shape may hold without an admin or a list of claims: those that name a
/// token, a session, a user, an application or a tenant. A key is missing on purpose: it reaches every token it signed.
pub const USUAL_CLAIMS: [&str; 9] =
    ["jti", "sid", "sub", "client_id", "azp", "iss", "tenant_id", TOKEN_SHA256, "cnf.jkt"];

/// One revocation, as far as a grant judges it.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    /// What it is aimed at.
    pub selector: &'a Selector,
    /// What it spares.
    pub exceptions: &'a [Selector],
    /// It would be kept until it is reinstated, or for longer than any token lives, and neither a key nor a token without `exp` is the reason.
    pub kept_forever: bool,
}

/// Where in a revocation an objection lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The selector, or the token it was made from.
    Target,
    /// One of the exceptions, from 0.
    Exception(usize),
    /// How long it is kept.
    Expiry,
}

/// Why a grant does not let a revocation be written. Never shows a claim's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The principal lacks the role.
    #[error("needs the role revoke")]
    Role,
    /// An issuer must be named.
    #[error("must hold iss: this principal may revoke for {0} issuers only")]
    IssuerMissing(usize),
    /// Another issuer was named.
    #[error("iss is none of the {0} issuers that this principal may revoke for")]
    IssuerForeign(usize),
    /// The grant does not list this claim.
    #[error("the claim {name:?} is not among those that this principal may name: {}", .allowed.join(", "))]
    Claim {
        /// Its name.
        name: String,
        /// Those that are listed.
        allowed: Vec<String>,
    },
    /// Nobody has revoked by these claims yet.
    #[error(
        "would be the first by {{{shape}}}: {name:?} needs the role admin or a grant that lists it; without, there are \
         {}", USUAL_CLAIMS.join(", ")
    )]
    NewShape {
        /// The claims.
        shape: Shape,
        /// The first that is not usual.
        name: String,
    },
    /// It does what only an admin may do.
    #[error("{0}; needs the role admin")]
    Admin(Caution),
}

/// What even an admin must confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Caution {
    /// It reaches all tokens of an issuer.
    #[error("a selector of iss alone revokes every token of that issuer")]
    IssuerWide,
    /// It does not leave by itself, or only after more than 400 days.
    #[error("it would be kept until it is reinstated, or for more than 400 days")]
    KeptForever,
}

impl Caution {
    /// Where it lies.
    #[must_use]
    pub fn part(self) -> Part {
        match self {
            Self::IssuerWide => Part::Target,
            Self::KeptForever => Part::Expiry,
        }
    }
}

impl Grant {
    /// Judges one revocation: what must be confirmed, where it is permitted. `is_active` tells whether a shape has live
    /// entries.
    ///
    /// The bounds on issuers and claims hold for an admin who has them, too.
    ///
    /// # Errors
    /// Everything that stands against it.
    pub fn permit(
        &self,
        intent: Intent<'_>,
        is_active: impl FnOnce(&Shape) -> bool,
    ) -> Result<Vec<Caution>, Vec<(Part, Denial)>> {
        let mut denials = Vec::new();
        if !self.roles.allow(Role::Revoke) {
            denials.push((Part::Target, Denial::Role));
        }
        denials.extend(self.issuer(intent.selector).map(|denial| (Part::Target, denial)));
        denials.extend(self.foreign_claim(intent.selector).map(|denial| (Part::Target, denial)));
        for (index, exception) in intent.exceptions.iter().enumerate() {
            denials.extend(self.foreign_claim(exception).map(|denial| (Part::Exception(index), denial)));
        }
        denials.extend(self.new_shape(intent.selector, is_active).map(|denial| (Part::Target, denial)));
        let cautions = cautions(intent);
        if !self.roles.allow(Role::Admin) {
            denials.extend(cautions.iter().map(|caution| (caution.part(), Denial::Admin(*caution))));
        }
        if denials.is_empty() { Ok(cautions) } else { Err(denials) }
    }

    /// Judges one reinstatement by the bounds on issuers and claims. Whether the caller may reinstate at all is decided
    /// before.
    ///
    /// # Errors
    /// Everything that stands against it.
    pub fn permit_undoing(&self, selector: &Selector) -> Result<(), Vec<Denial>> {
        let denials: Vec<Denial> = self.issuer(selector).into_iter().chain(self.foreign_claim(selector)).collect();
        if denials.is_empty() { Ok(()) } else { Err(denials) }
    }

    fn issuer(&self, selector: &Selector) -> Option<Denial> {
        let issuers = self.issuers.as_ref()?;
        match selector.value("iss") {
            None => Some(Denial::IssuerMissing(issuers.len())),
            Some(iss) if issuers.iter().any(|issuer| issuer == iss) => None,
            Some(_) => Some(Denial::IssuerForeign(issuers.len())),
        }
    }

    fn foreign_claim(&self, selector: &Selector) -> Option<Denial> {
        let allowed = self.claims.as_ref()?;
        let mut names = selector.pairs().map(|(name, _)| name);
        let name = names.find(|name| *name != "iss" && !allowed.iter().any(|claim| claim == name))?;
        Some(Denial::Claim { name: name.to_owned(), allowed: allowed.clone() })
    }

    /// A list of claims is judged by [`Grant::foreign_claim`], for old shapes and new.
    fn new_shape(&self, selector: &Selector, is_active: impl FnOnce(&Shape) -> bool) -> Option<Denial> {
        if self.claims.is_some() || self.roles.allow(Role::Admin) {
            return None;
        }
        let name = selector.pairs().map(|(name, _)| name).find(|name| !USUAL_CLAIMS.contains(name))?;
        let shape = selector.shape();
        (!is_active(&shape)).then(|| Denial::NewShape { name: name.to_owned(), shape })
    }
}

fn cautions(intent: Intent<'_>) -> Vec<Caution> {
    let mut names = intent.selector.pairs().map(|(name, _)| name);
    let issuer_wide = names.all(|name| name == "iss").then_some(Caution::IssuerWide);
    let is_key = intent.selector.pairs().any(|(name, _)| names_a_key(name));
    let kept_forever = (intent.kept_forever && !is_key).then_some(Caution::KeptForever);
    issuer_wide.into_iter().chain(kept_forever).collect()
}

#[cfg(test)]
#[path = "permit/tests.rs"]
mod tests;
