//! Page tokens: where a listing goes on. Opaque to callers, and tagged so that only ours are taken.
//!
//! base64url of: u8 version ‖ 16 B epoch ‖ u64le the last row looked at ‖ u64le tag. The tag is SipHash-2-4 under the set
//! key over all before it and the query's conditions. It keeps honest callers from mixing things up; a caller who forges
//! one can only start elsewhere in a list that he may read anyway.

use std::hash::Hasher as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip::SipHasher24;

use super::query::{Query, QueryError};
use crate::journal::identity::Identity;
use crate::revocation::Reader;

const VERSION: u8 = 1;
const BYTES: usize = 1 + 16 + 8 + 8;

pub(crate) fn make(identity: &Identity, query: &Query, last: i64) -> String {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.push(VERSION);
    bytes.extend_from_slice(&identity.epoch.id);
    bytes.extend_from_slice(&last.to_le_bytes());
    let tag = tag(identity, query, &bytes);
    bytes.extend_from_slice(&tag.to_le_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The last row looked at.
pub(crate) fn parse(identity: &Identity, query: &Query, token: &str) -> Result<i64, QueryError> {
    let malformed = |_| QueryError::PageToken;
    // Longer text is no token; it is not decoded to find that out.
    if token.len() > BYTES * 2 {
        return Err(QueryError::PageToken);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| QueryError::PageToken)?;
    let mut reader = Reader::new(&bytes);
    if reader.u8().map_err(malformed)? != VERSION {
        return Err(QueryError::PageToken);
    }
    let epoch: [u8; 16] = reader.array().map_err(malformed)?;
    let last = i64::from_le_bytes(reader.array().map_err(malformed)?);
    let found = reader.u64().map_err(malformed)?;
    reader.finish().map_err(malformed)?;
    if epoch != identity.epoch.id {
        return Err(QueryError::PageTokenEpoch);
    }
    if found != tag(identity, query, &bytes[..BYTES - 8]) {
        return Err(QueryError::PageToken);
    }
    Ok(last)
}

fn tag(identity: &Identity, query: &Query, bytes: &[u8]) -> u64 {
    let Query { claim, actor, accepted_from, accepted_before, live, page_rows: _, page_token: _ } = query;
    let mut hasher = SipHasher24::new_with_key(identity.set_key.expose());
    hasher.write(b"rescind/page/1\0");
    hasher.write(bytes);
    let (name, value) = claim.as_ref().map_or((None, None), |(name, value)| (Some(name), Some(value)));
    for text in [name, value, actor.as_ref()] {
        hasher.write_u64(text.map_or(u64::MAX, |text| text.len() as u64));
        hasher.write(text.map_or(&[], |text| text.as_bytes()));
    }
    for time in [accepted_from, accepted_before] {
        hasher.write_u8(u8::from(time.is_some()));
        hasher.write_u64(time.map_or(0, |time| time.0));
    }
    hasher.write_u8(live.map_or(2, u8::from));
    hasher.finish()
}
