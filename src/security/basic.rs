//! What HTTP Basic brings: a client's id and secret, as OAuth has them.
//!
//! Both are encoded as in a form before they are joined (RFC 6749 §2.3.1); many clients leave that out. A secret is a
//! credential, whose characters are the same either way. An id is a principal's name, so both readings of it are kept.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::credential::Presented;
use crate::revocation::ports::CREDENTIAL_NAME_BYTES_MAX;

/// The most bytes of an id and a secret: a name of which each byte is encoded, and more than a credential has.
const BASIC_BYTES_MAX: usize = 3 * CREDENTIAL_NAME_BYTES_MAX + 256;

/// An id and a secret.
pub struct Basic {
    /// The name that the id is, if it was not encoded.
    plain: String,
    /// The name that the id is, if it was; `None`: it cannot have been.
    decoded: Option<String>,
    /// The secret.
    pub credential: Presented,
}

/// The text is no id and secret. It is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Basic holds base64 of a principal's name, a colon and a credential, at most {BASIC_BYTES_MAX} bytes")]
pub struct BasicError;

impl Basic {
    /// Of what follows `Basic` and a space.
    ///
    /// # Errors
    /// When it is no base64, has no colon, or its secret is no credential.
    pub fn parse(encoded: &str) -> Result<Self, BasicError> {
        if encoded.len() > BASIC_BYTES_MAX.div_ceil(3) * 4 {
            return Err(BasicError);
        }
        let bytes = STANDARD.decode(encoded).map(Zeroizing::new).map_err(|_| BasicError)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| BasicError)?;
        // RFC 7617 §2: the first colon.
        let (id, secret) = text.split_once(':').ok_or(BasicError)?;
        let secret = form_decoded(secret).map(Zeroizing::new).ok_or(BasicError)?;
        let credential = secret.parse().map_err(|_| BasicError)?;
        Ok(Self { plain: id.to_owned(), decoded: form_decoded(id), credential })
    }

    /// Whether the id is this principal's name.
    #[must_use]
    pub fn names(&self, principal: &str) -> bool {
        self.plain == principal || self.decoded.as_deref() == Some(principal)
    }
}

/// A value of `application/x-www-form-urlencoded` (RFC 6749, appendix B); `None` when it is not one, or no UTF-8.
#[must_use]
pub fn form_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        decoded.push(match first {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = after.split_at_checked(2)?;
                rest = after;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (digit(digits[0])? * 16 + digit(digits[1])?) as u8
            }
            byte => *byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Hides the secret.
impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Basic({:?}, hidden)", self.plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::credential::mint;

    fn basic(text: &str) -> Result<Basic, BasicError> {
        Basic::parse(&STANDARD.encode(text))
    }

    #[test]
    fn the_example_of_rfc_6749_is_read() {
        // §2.3.1: its secret is no credential of ours, so it is read and refused.
        let text = STANDARD.decode("czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3").unwrap();
        assert_eq!(text, b"s6BhdRkqt3:7Fjfp0ZBr1KtDRbnfVdmIw");
        assert_eq!(Basic::parse("czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3").unwrap_err(), BasicError);
    }

    #[test]
    fn an_id_is_a_name_encoded_or_not() {
        let minted = mint().unwrap();
        let secret = minted.text.as_str();
        for (id, name) in [
            ("gateway", "gateway"),
            ("a+b", "a b"),
            ("a+b", "a+b"),
            ("a%3Ab%25", "a:b%"),
            ("caf%C3%A9", "café"),
            ("café", "café"),
            ("100%", "100%"),
        ] {
            let basic = basic(&format!("{id}:{secret}")).unwrap();
            assert!(basic.names(name), "{id} is {name}");
            assert!(!basic.names("gatewa") && basic.credential.id == minted.id);
        }
        assert!(basic(&format!("x:{}", secret.replace('_', "%5F"))).is_ok(), "an encoded secret is the same");
    }

    #[test]
    fn anything_else_is_refused_and_not_repeated() {
        let secret = mint().unwrap().text;
        let whole = STANDARD.encode(format!("x:{}", secret.as_str()));
        for wrong in ["", "====", "*", &whole[1..], &format!("{whole} "), &STANDARD.encode("no colon")] {
            assert_eq!(Basic::parse(wrong).unwrap_err(), BasicError, "{wrong}");
        }
        assert!(Basic::parse(&STANDARD.encode([b'x', b':', 0xff])).is_err());
        let long = format!("{}:{}", "x".repeat(BASIC_BYTES_MAX), secret.as_str());
        assert!(basic(&long).is_err(), "too long");
        let shown = format!("{:?}", basic(&format!("gate:{}", secret.as_str())).unwrap());
        assert!(!shown.contains(&secret[21..]), "{shown}");
    }

    #[test]
    fn forms_are_decoded_strictly() {
        // RFC 6749, appendix B.
        assert_eq!(form_decoded("+%25%26%2B%C2%A3%E2%82%AC").as_deref(), Some(" %&+£€"));
        for wrong in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(form_decoded(wrong), None, "{wrong}");
        }
    }
}
