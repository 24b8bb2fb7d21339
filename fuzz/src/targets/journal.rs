//! What the journal keeps: records, carried revocations, identities, members; and the page tokens it gives out.

use rescind::fuzzing;
use rescind::journal::{Action, Body, RECORD_BYTES_MAX, REVOCATIONS_MAX, Record};
use rusqlite::types::Value;

use super::input::Input;
use super::note_accepted;

/// Everything is drawn from this in the identity that page tokens are made under.
pub const SEED: u8 = 5;

pub fn record(bytes: &[u8]) {
    let Ok(record) = Record::decode(bytes) else { return };
    note_accepted();
    if let Body::Requests(requests) = &record.body {
        let made = requests.iter().map(|request| match &request.action {
            Action::Revoke(revocations) => revocations.len(),
            Action::Reinstate(reinstatements) => reinstatements.iter().map(|item| item.undone.len()).sum(),
        });
        assert!(made.sum::<usize>() <= REVOCATIONS_MAX);
    }
    let again = record.encode().expect("what was read can be written");
    assert!(again.len() <= RECORD_BYTES_MAX);
    assert_eq!(again, bytes, "there is one way to write a record");
}

pub fn carried(bytes: &[u8]) {
    if let Some(again) = fuzzing::carried(bytes) {
        note_accepted();
        assert_eq!(again, bytes, "there is one way to write a carried revocation");
    }
}

pub fn identity(bytes: &[u8]) {
    if let Some(again) = fuzzing::identity(bytes) {
        note_accepted();
        assert_eq!(again, bytes, "there is one way to write an identity");
    }
}

/// The columns of a member's row, each behind its type.
pub fn member(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let columns = std::array::from_fn(|_| match input.byte() {
        0 => Value::Null,
        1 => Value::Integer(input.u64().cast_signed()),
        2 => Value::Text(String::from_utf8_lossy(input.block()).into_owned()),
        3 => Value::Blob(input.block().to_vec()),
        4 => Value::Real(f64::from_bits(input.u64())),
        5 => Value::Blob(vec![input.byte(); 16]),
        small => Value::Integer(i64::from(small)),
    });
    if let Some((read, again)) = fuzzing::member(columns) {
        note_accepted();
        assert_eq!(read, again, "a member is read as it was stored");
    }
}

pub fn page_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(again) = fuzzing::page_token(SEED, text) {
        note_accepted();
        assert_eq!(again, text, "there is one way to write a page token");
    }
}
