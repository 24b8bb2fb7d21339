//! The canonical bytes of a policy.

use super::{
    Algorithm, CLASSES_MAX, ISSUERS_MAX, Issuer, KeySource, NAMES_MAX, REQUIRED_CLAIMS_MAX, REQUIRED_VALUES_MAX,
    RequiredClaim, RouteClass, TokenType, VerificationPolicy,
};
use crate::revocation::codec::{DecodeError, Reader};

/// The longest encoding, in bytes: a policy is part of one delta.
pub const VERIFICATION_BYTES_MAX: usize = 256 * 1024;

impl VerificationPolicy {
    /// The canonical encoding.
    ///
    /// u16le issuers, each: iss ‖ list of audiences ‖ u16le algorithms (bit n: the nth of [`Algorithm::ALL`]) ‖ u8 types (bit n:
    /// the nth of [`TokenType::ALL`]) ‖ u16le leeway (s) ‖ u8 key source (0 discovery, 1 URL, 2 file, 3 inline) ‖ unless it is 0,
    /// its text. Then u16le classes, each: name ‖ issuers ‖ audiences ‖ scopes ‖ u16le claims, each: name ‖ list of values.
    /// A text is u16le length ‖ UTF-8; a list is u16le count ‖ texts. Everything is sorted.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        count(&mut out, self.issuers.len());
        for issuer in &self.issuers {
            text(&mut out, &issuer.iss);
            list(&mut out, &issuer.audiences);
            let algorithms = bits(&Algorithm::ALL, &issuer.algorithms);
            out.extend_from_slice(&algorithms.to_le_bytes());
            out.push(bits(&TokenType::ALL, &issuer.types) as u8);
            out.extend_from_slice(&issuer.leeway_seconds.to_le_bytes());
            let (kind, value) = match &issuer.keys {
                KeySource::Discovery => (0, None),
                KeySource::Url(url) => (1, Some(url)),
                KeySource::File(path) => (2, Some(path)),
                KeySource::Inline(set) => (3, Some(set)),
            };
            out.push(kind);
            value.into_iter().for_each(|value| text(&mut out, value));
        }
        count(&mut out, self.classes.len());
        for class in &self.classes {
            text(&mut out, &class.name);
            [&class.issuers, &class.audiences, &class.scopes].into_iter().for_each(|names| list(&mut out, names));
            count(&mut out, class.claims.len());
            for claim in &class.claims {
                text(&mut out, &claim.name);
                list(&mut out, &claim.values);
            }
        }
        out
    }

    /// The inverse of [`VerificationPolicy::encode`]: accepts canonical bytes only.
    ///
    /// # Errors
    /// When they are not, or are no valid policy.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > VERIFICATION_BYTES_MAX {
            return Err(DecodeError::TooMany { what: "bytes of a verification policy", limit: VERIFICATION_BYTES_MAX });
        }
        let mut reader = Reader::new(bytes);
        let issuers = read_many(&mut reader, ISSUERS_MAX, "issuers", read_issuer)?;
        let classes = read_many(&mut reader, CLASSES_MAX, "route classes", read_class)?;
        reader.finish()?;
        let policy = Self::new(issuers, classes).map_err(|_| DecodeError::Invalid("verification policy"))?;
        if policy.encode() == bytes {
            Ok(policy)
        } else {
            Err(DecodeError::Invalid("verification policy is not canonical"))
        }
    }
}

/// One bit for each of `all` that is in `some`.
fn bits<T: PartialEq>(all: &[T], some: &[T]) -> u16 {
    all.iter().enumerate().filter(|(_, one)| some.contains(one)).fold(0, |bits, (index, _)| bits | 1 << index)
}

fn from_bits<T: Copy>(all: &[T], bits: u16) -> Result<Vec<T>, DecodeError> {
    if usize::from(bits) >> all.len() != 0 {
        return Err(DecodeError::Invalid("unknown choice in a verification policy"));
    }
    Ok(all.iter().enumerate().filter(|(index, _)| bits & 1 << index != 0).map(|(_, one)| *one).collect())
}

// Lengths and counts were checked when the policy was made: all are below 2^16.

fn count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u16).to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn list(out: &mut Vec<u8>, texts: &[String]) {
    count(out, texts.len());
    texts.iter().for_each(|one| text(out, one));
}

fn read_many<T>(
    reader: &mut Reader<'_>,
    limit: usize,
    what: &'static str,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = usize::from(reader.u16()?);
    if count > limit {
        return Err(DecodeError::TooMany { what, limit });
    }
    (0..count).map(|_| read(reader)).collect()
}

fn read_text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let length = usize::from(reader.u16()?);
    let text = std::str::from_utf8(reader.take(length)?).map_err(|_| DecodeError::Invalid("UTF-8"))?;
    Ok(text.to_owned())
}

fn read_list(reader: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    read_many(reader, NAMES_MAX, "names", read_text)
}

fn read_issuer(reader: &mut Reader<'_>) -> Result<Issuer, DecodeError> {
    Ok(Issuer {
        iss: read_text(reader)?,
        audiences: read_list(reader)?,
        algorithms: from_bits(&Algorithm::ALL, reader.u16()?)?,
        types: from_bits(&TokenType::ALL, reader.u8()?.into())?,
        leeway_seconds: reader.u16()?,
        keys: match reader.u8()? {
            0 => KeySource::Discovery,
            1 => KeySource::Url(read_text(reader)?),
            2 => KeySource::File(read_text(reader)?),
            3 => KeySource::Inline(read_text(reader)?),
            _ => return Err(DecodeError::Invalid("key source")),
        },
    })
}

fn read_class(reader: &mut Reader<'_>) -> Result<RouteClass, DecodeError> {
    Ok(RouteClass {
        name: read_text(reader)?,
        issuers: read_list(reader)?,
        audiences: read_list(reader)?,
        scopes: read_list(reader)?,
        claims: read_many(reader, REQUIRED_CLAIMS_MAX, "required claims", |reader| {
            let name = read_text(reader)?;
            let values = read_many(reader, REQUIRED_VALUES_MAX, "values of a required claim", read_text)?;
            Ok(RequiredClaim { name, values })
        })?,
    })
}
