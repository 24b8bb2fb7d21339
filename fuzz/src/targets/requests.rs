//! Requests, as JSON and as protobuf: what they come to once they are parsed, and that both forms come to the same.

use prost::Message;
use rescind::fuzzing;
use rescind::revocation::ports::{
    PAGE_SIZE_MAX, REASON_BYTES_MAX, REQUEST_ID_BYTES_MAX, REQUEST_ITEMS_MAX, SUBSCRIBERS_PAGE_MAX,
};
use rescind::revocation::{Claims, EXCEPTIONS_MAX};
use rescind::token::{TokenKind, TokenParser};
use rescind::wire::pb;

use super::note_accepted;

pub fn json_revoke(bytes: &[u8]) {
    if let Ok(message) = fuzzing::json_revoke(bytes) {
        survives_the_wire(&message);
        revoke(message);
    }
}

pub fn json_reinstate(bytes: &[u8]) {
    if let Ok(message) = fuzzing::json_reinstate(bytes) {
        survives_the_wire(&message);
        reinstate(message);
    }
}

pub fn json_list(bytes: &[u8]) {
    if let Ok(message) = fuzzing::json_list(bytes) {
        survives_the_wire(&message);
        list(message);
    }
}

pub fn json_check(bytes: &[u8]) {
    if let Ok(message) = fuzzing::json_check(bytes) {
        survives_the_wire(&message);
        check(message);
    }
}

pub fn grpc_revoke(bytes: &[u8]) {
    if let Ok(message) = pb::RevokeRequest::decode(bytes) {
        revoke(message);
    }
}

pub fn grpc_reinstate(bytes: &[u8]) {
    if let Ok(message) = pb::ReinstateRequest::decode(bytes) {
        reinstate(message);
    }
}

/// Everything that only asks: which message it is, the first byte says.
pub fn grpc_query(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 6 {
        0 => pb::ListRevocationsRequest::decode(bytes).map(list).unwrap_or_default(),
        1 => pb::CheckTokenRequest::decode(bytes).map(check).unwrap_or_default(),
        2 => {
            if let Ok(id) = pb::GetRevocationRequest::decode(bytes).map_err(|_| ()).and_then(look_up) {
                note_accepted();
                assert_eq!(id.to_string().parse(), Ok(id));
            }
        }
        3 => {
            if let Ok(message) = pb::AwaitPropagationRequest::decode(bytes) {
                let given = message.position.clone().unwrap_or_default();
                if let Ok(position) = fuzzing::await_propagation(&message) {
                    assert_eq!((position.epoch.to_vec(), position.revision.0), (given.epoch, given.revision));
                }
            }
        }
        4 => {
            if let Ok(message) = pb::ForgetRequest::decode(bytes) {
                let _ = fuzzing::forget(message);
            }
        }
        _ => {
            if let Ok(message) = pb::ListSubscribersRequest::decode(bytes)
                && let Ok((_, rows)) = fuzzing::subscribers(&message)
            {
                assert!((1..=SUBSCRIBERS_PAGE_MAX).contains(&rows));
            }
        }
    }
}

fn look_up(message: pb::GetRevocationRequest) -> Result<rescind::revocation::RevocationId, ()> {
    fuzzing::look_up(&message).map(|(id, _)| id).map_err(|_| ())
}

fn revoke(message: pb::RevokeRequest) {
    let id = message.request_id.clone();
    let several = fuzzing::revoke(message.clone(), true);
    let Ok(request) = fuzzing::revoke(message.clone(), false) else {
        return assert!(several.is_err(), "more issuers allow no more");
    };
    note_accepted();
    assert!((1..=REQUEST_ITEMS_MAX).contains(&request.items.len()));
    assert_eq!(request.items.len(), message.revocations.len(), "all or nothing");
    assert_eq!(request.request_id, (!id.is_empty()).then_some(id));
    assert!(request.request_id.as_ref().is_none_or(|id| id.len() <= REQUEST_ID_BYTES_MAX));
    for item in &request.items {
        assert!(item.exceptions.len() <= EXCEPTIONS_MAX && item.reason.len() <= REASON_BYTES_MAX);
    }
    let again = fuzzing::revoke(pb::RevokeRequest { request_id: "another".into(), ..message }, false);
    assert_eq!(again.map(|again| again.body_hash).ok(), Some(request.body_hash), "the id is no part of the body");
}

fn reinstate(message: pb::ReinstateRequest) {
    let given = message.reinstatements.len();
    let Ok(request) = fuzzing::reinstate(message) else { return };
    note_accepted();
    assert!((1..=REQUEST_ITEMS_MAX).contains(&request.items.len()));
    assert_eq!(request.items.len(), given, "all or nothing");
    assert!(request.reason.len() <= REASON_BYTES_MAX);
}

fn list(message: pb::ListRevocationsRequest) {
    if let Ok(query) = fuzzing::list(message) {
        note_accepted();
        assert!((1..=PAGE_SIZE_MAX).contains(&query.page_size));
    }
}

/// Claims that came as a part of a JSON text mean what they mean by themselves.
fn check(message: pb::CheckTokenRequest) {
    use pb::presented_token::Presented;
    let (mut parser, mut claims) = (TokenParser::new(), Claims::new());
    match message.token.and_then(|token| token.presented) {
        Some(Presented::Token(token)) => {
            let parsed = parser.parse_token(&mut claims, token.as_bytes(), TokenKind::Detect);
            parsed.into_iter().for_each(|_| note_accepted());
        }
        Some(Presented::OpaqueToken(token)) => {
            let _ = parser.parse_token(&mut claims, token.as_bytes(), TokenKind::Opaque);
        }
        Some(Presented::Claims(given)) => {
            let header = given.header_json.as_deref();
            if parser.parse_claims(&mut claims, &given.payload_json, header).is_ok() {
                note_accepted();
                assert_eq!(claims.header_unseen, header.is_none());
                assert!(claims.token_unseen);
            }
        }
        None => {}
    }
}

fn survives_the_wire<M: Message + Default + PartialEq>(message: &M) {
    assert!(M::decode(&*message.encode_to_vec()).as_ref() == Ok(message), "a request says the same as gRPC");
}
