//! Requests about credentials.

use super::bounded_text;
use crate::revocation::grant::{GRANT_NAMES_MAX, Grant, Role, Roles};
use crate::revocation::ports::{CREDENTIAL_NAME_BYTES_MAX, CredentialId};
use crate::revocation::{UnixMillis, UnixSeconds};
use crate::security::principals::JWT_PREFIX;
use crate::surface::violations::Violations;
use crate::wire::pb;

/// The longest issuer, in bytes: the longest value of a claim.
const ISSUER_BYTES_MAX: usize = 1024;
/// The longest claim name, in bytes.
const CLAIM_BYTES_MAX: usize = 128;
/// The most bytes of issuers and claim names in one grant: ten thousand of them stay below 40 MiB in memory.
const GRANT_BYTES_MAX: usize = 4096;
/// The most writes that a quota allows: more than a server takes is no quota.
const WRITES_PER_MINUTE_MAX: u32 = 100_000_000;
/// Those whom nobody knows are called so.
const ANONYMOUS: &str = "anonymous@";

/// A credential to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) grant: Grant,
    pub(crate) expires_at: Option<UnixSeconds>,
}

/// Which credentials are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CredentialChoice {
    Id(CredentialId),
    Name(String),
}

/// What is to be made, `now` being the server's wall clock.
pub(crate) fn wanted_credential(message: pb::CreateCredentialRequest, now: UnixMillis) -> Result<Wanted, Violations> {
    use pb::create_credential_request::Expiry;
    let mut violations = Violations::default();
    credential_name(&message.name, &mut violations);
    let now = now.seconds();
    let expires_at = match message.expiry {
        None => None,
        Some(Expiry::ExpiresInSeconds(seconds)) => {
            if seconds == 0 {
                violations.add("expires_in_seconds", "is at least 1, 0 given");
            }
            Some(now.plus(seconds))
        }
        Some(Expiry::ExpiresAtSeconds(at)) => {
            if at <= now.0 {
                violations.add("expires_at_seconds", format_args!("is after the server's now {}, {at} given", now.0));
            }
            Some(UnixSeconds(at))
        }
    };
    let grant = grant(message.grant.unwrap_or_default(), &mut violations);
    violations.or(Some(Wanted { name: message.name, grant, expires_at }))
}

/// Which are to be revoked.
pub(crate) fn credential_choice(message: pb::RevokeCredentialRequest) -> Result<CredentialChoice, Violations> {
    use pb::revoke_credential_request::Credential;
    let mut violations = Violations::default();
    let choice = match message.credential {
        Some(Credential::Id(text)) => credential_id(&text, "id", &mut violations).map(CredentialChoice::Id),
        Some(Credential::Name(name)) => {
            credential_name(&name, &mut violations);
            Some(CredentialChoice::Name(name))
        }
        None => {
            violations.add("credential", "is required: an id or a name");
            None
        }
    };
    violations.or(choice)
}

/// After which credential a page begins.
pub(crate) fn credentials_after(message: &pb::ListCredentialsRequest) -> Result<Option<CredentialId>, Violations> {
    let mut violations = Violations::default();
    let after = match message.page_token.as_str() {
        "" => None,
        token => credential_id(token, "page_token", &mut violations),
    };
    violations.or(Some(after))
}

fn credential_id(text: &str, field: &str, violations: &mut Violations) -> Option<CredentialId> {
    text.parse().map_err(|error| violations.add(field, error)).ok()
}

fn credential_name(name: &str, violations: &mut Violations) {
    if name.is_empty() {
        violations.add("name", "is empty");
    }
    bounded_text(name, CREDENTIAL_NAME_BYTES_MAX, "name", violations);
    if name.contains(char::is_control) {
        violations.add("name", "holds a control character");
    }
    if let Some(taken) = [ANONYMOUS, JWT_PREFIX].into_iter().find(|taken| name.starts_with(taken)) {
        violations.add("name", format_args!("does not begin with {taken}"));
    }
}

fn grant(message: pb::Grant, violations: &mut Violations) -> Grant {
    let pb::Grant { roles: given, issuers, claims, writes_per_minute } = message;
    let mut roles = Vec::new();
    for (index, text) in given.iter().enumerate().take(Role::ALL.len()) {
        match text.parse::<Role>() {
            Ok(role) => roles.push(role),
            Err(_) => {
                let known = Role::ALL.map(Role::name).join(", ");
                violations.add(format_args!("grant.roles[{index}]"), format_args!("is one of {known}"));
            }
        }
    }
    if given.is_empty() || given.len() > Role::ALL.len() {
        violations.add("grant.roles", format_args!("holds 1 to {}, {} given", Role::ALL.len(), given.len()));
    }
    if let Some(writes) = writes_per_minute
        && !(1..=WRITES_PER_MINUTE_MAX).contains(&writes)
    {
        let description = format_args!("is 1 to {WRITES_PER_MINUTE_MAX}, {writes} given");
        violations.add("grant.writes_per_minute", description);
    }
    let bytes: usize = issuers.iter().chain(&claims).map(String::len).sum();
    if bytes > GRANT_BYTES_MAX {
        violations.add("grant", format_args!("has at most {GRANT_BYTES_MAX} bytes of names, {bytes} given"));
    }
    Grant {
        roles: roles.into_iter().collect::<Roles>(),
        issuers: names(issuers, "grant.issuers", ISSUER_BYTES_MAX, violations),
        claims: names(claims, "grant.claims", CLAIM_BYTES_MAX, violations),
        writes_per_minute,
    }
}

fn names(given: Vec<String>, field: &str, bytes_max: usize, violations: &mut Violations) -> Option<Vec<String>> {
    if given.len() > GRANT_NAMES_MAX {
        violations.add(field, format_args!("holds at most {GRANT_NAMES_MAX}, {} given", given.len()));
    }
    for (index, name) in given.iter().enumerate().filter(|(_, name)| !(1..=bytes_max).contains(&name.len())) {
        let description = format_args!("has 1 to {bytes_max} bytes, {} given", name.len());
        violations.add(format_args!("{field}[{index}]"), description);
    }
    (!given.is_empty()).then_some(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::create_credential_request::Expiry;

    const NOW: UnixMillis = UnixMillis(1_000_500);

    fn request() -> pb::CreateCredentialRequest {
        let grant = pb::Grant { roles: vec!["check".into()], ..pb::Grant::default() };
        pb::CreateCredentialRequest { name: "gateway".into(), grant: Some(grant), expiry: None }
    }

    fn fields<T: std::fmt::Debug>(parsed: Result<T, Violations>) -> Vec<String> {
        parsed.unwrap_err().told().iter().map(|v| v.field.clone()).collect()
    }

    #[test]
    fn a_grant_without_bounds_is_unbounded_and_a_time_is_the_servers() {
        let wanted = wanted_credential(request(), NOW).unwrap();
        assert_eq!(wanted.grant, Grant { roles: [Role::Check].into_iter().collect(), ..Grant::default() });
        assert_eq!(wanted.expires_at, None);
        let soon = pb::CreateCredentialRequest { expiry: Some(Expiry::ExpiresInSeconds(60)), ..request() };
        assert_eq!(wanted_credential(soon, NOW).unwrap().expires_at, Some(NOW.seconds().plus(60)));
    }

    #[test]
    fn everything_wrong_with_a_credential_is_named_with_its_limit() {
        let grant = pb::Grant {
            roles: vec!["root".into()],
            issuers: vec!["i".repeat(1025); 4],
            claims: vec![String::new(); 33],
            writes_per_minute: Some(0),
        };
        let message = pb::CreateCredentialRequest {
            name: "n".repeat(129),
            grant: Some(grant),
            expiry: Some(Expiry::ExpiresAtSeconds(1000)),
        };
        let wrong = fields(wanted_credential(message, NOW));
        for field in
            ["name", "expires_at_seconds", "grant.roles[0]", "grant.writes_per_minute", "grant", "grant.claims"]
        {
            assert!(wrong.iter().any(|f| f == field), "{field} in {wrong:?}");
        }
        for name in ["", "anonymous@127.0.0.1", "a\nb"] {
            assert_eq!(
                fields(wanted_credential(pb::CreateCredentialRequest { name: name.into(), ..request() }, NOW)),
                ["name"]
            );
        }
        let nothing = pb::CreateCredentialRequest { grant: None, ..request() };
        assert_eq!(fields(wanted_credential(nothing, NOW)), ["grant.roles"]);
        let never = pb::CreateCredentialRequest { expiry: Some(Expiry::ExpiresInSeconds(0)), ..request() };
        assert_eq!(fields(wanted_credential(never, NOW)), ["expires_in_seconds"]);
    }

    #[test]
    fn a_credential_is_named_by_id_or_name() {
        use pb::revoke_credential_request::Credential;
        let choice = |credential| credential_choice(pb::RevokeCredentialRequest { credential });
        let id = "0102030405060708";
        let expected = CredentialId([1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(choice(Some(Credential::Id(id.into()))), Ok(CredentialChoice::Id(expected)));
        assert_eq!(choice(Some(Credential::Name("a".into()))), Ok(CredentialChoice::Name("a".into())));
        assert_eq!(fields(choice(Some(Credential::Id("1".into())))), ["id"]);
        assert_eq!(fields(choice(Some(Credential::Name(String::new())))), ["name"]);
        assert_eq!(fields(choice(None)), ["credential"]);
        let page = |token: &str| credentials_after(&pb::ListCredentialsRequest { page_token: token.into() });
        assert_eq!((page(""), page(id)), (Ok(None), Ok(Some(expected))));
        assert_eq!(fields(page("x")), ["page_token"]);
    }
}
