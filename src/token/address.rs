//! How a handed-in token is revoked: the selector that means this one token.

use crate::revocation::{Claims, Selector, TOKEN_SHA256, TestedClaim, UnixSeconds};

/// The selector that means one token, and when that token expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `{iss, jti}` if the token has both, else `{token_sha256}`.
    pub selector: Selector,
    /// The token's own `exp`; `None` when it has none that can be read.
    pub exp: Option<UnixSeconds>,
}

/// The address of the token that `claims` were parsed from: `{iss, jti}` when it has both as scalars, else the hash of
/// its signing input or, for an opaque token, of the whole. `None` for claims without either, which no longer know
/// their token.
///
/// Signatures are malleable, so the raw token is never an address.
#[must_use]
pub fn address(claims: &Claims) -> Option<Address> {
    let pairs = match (scalar(claims, "iss"), scalar(claims, "jti")) {
        (Some(iss), Some(jti)) => vec![("iss", iss), ("jti", jti)],
        _ => vec![(TOKEN_SHA256, scalar(claims, TOKEN_SHA256)?)],
    };
    let selector = Selector::new(pairs, TestedClaim::Iat).ok()?;
    Some(Address { selector, exp: claims.exp })
}

fn scalar<'a>(claims: &'a Claims, name: &'a str) -> Option<&'a str> {
    claims.values(name).find(|value| !value.in_array).map(|value| value.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(fields: &[(&str, &str)]) -> Claims {
        let mut claims = Claims::new();
        for (name, value) in fields {
            claims.push(name, value, false);
        }
        claims
    }

    #[test]
    fn issuer_and_id_address_a_token_that_has_both() {
        let mut claims = claims(&[("jti", "7"), ("iss", "a"), ("sub", "s"), (TOKEN_SHA256, "hash")]);
        claims.exp = Some(UnixSeconds(9));
        let selector = Selector::new([("iss", "a"), ("jti", "7")], TestedClaim::Iat).unwrap();
        assert_eq!(address(&claims), Some(Address { selector, exp: Some(UnixSeconds(9)) }));
    }

    #[test]
    fn any_other_token_is_addressed_by_its_hash() {
        let by_hash = Selector::new([(TOKEN_SHA256, "hash")], TestedClaim::Iat).unwrap();
        for fields in [&[("iss", "a")][..], &[("jti", "7")], &[]] {
            let mut claims = claims(fields);
            claims.push(TOKEN_SHA256, "hash", false);
            assert_eq!(address(&claims), Some(Address { selector: by_hash.clone(), exp: None }), "{fields:?}");
        }
        let mut array = claims(&[("iss", "a"), (TOKEN_SHA256, "hash")]);
        array.push("jti", "7", true);
        assert_eq!(address(&array).map(|a| a.selector), Some(by_hash));
    }

    #[test]
    fn claims_that_name_no_single_token_have_no_address() {
        assert_eq!(address(&claims(&[("sub", "s")])), None);
    }
}
