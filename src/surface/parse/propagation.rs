//! Questions about subscribers.

use std::time::Duration;

use super::bounded_text;
use crate::revocation::Position;
use crate::revocation::ports::{MemberChoice, PROPAGATION_WAIT_MAX, SUBSCRIBERS_PAGE_MAX};
use crate::surface::violations::Violations;
use crate::wire::{self, pb};

/// The longest name of a member, in bytes: as long as a subscriber's.
const NAME_BYTES_MAX: usize = 128;

/// Which position, and how long to wait for it.
pub(crate) fn await_propagation(message: &pb::AwaitPropagationRequest) -> Result<(Position, Duration), Violations> {
    let mut violations = Violations::default();
    let position = match &message.position {
        Some(position) => wire::position(position).map_err(|error| violations.add("position.epoch", error)).ok(),
        None => {
            violations.add("position", "is required: what a revocation was answered with");
            None
        }
    };
    let timeout = Duration::from_millis(message.timeout_millis.into());
    if timeout > PROPAGATION_WAIT_MAX {
        let max = PROPAGATION_WAIT_MAX.as_millis();
        violations.add("timeout_millis", format_args!("is at most {max}, {} given", message.timeout_millis));
    }
    Ok((violations.or(position)?, timeout))
}

/// Whom to forget.
pub(crate) fn forget(message: pb::ForgetRequest) -> Result<MemberChoice, Violations> {
    use pb::forget_request::Member;
    let mut violations = Violations::default();
    let member = match message.member {
        Some(Member::Id(text)) => {
            let id = node_id(&text);
            if id.is_none() {
                violations.add("id", "has 32 hexadecimal digits");
            }
            id.map(MemberChoice::Id)
        }
        Some(Member::Name(name)) => {
            if name.is_empty() {
                violations.add("name", "is empty");
            }
            bounded_text(&name, NAME_BYTES_MAX, "name", &mut violations);
            Some(MemberChoice::Name(name))
        }
        None => {
            violations.add("member", "is required: an id or a name");
            None
        }
    };
    violations.or(member)
}

/// After which subscriber a page begins, and how many it has.
pub(crate) fn subscribers(message: &pb::ListSubscribersRequest) -> Result<(Option<[u8; 16]>, usize), Violations> {
    let mut violations = Violations::default();
    let after = match message.page_token.as_str() {
        "" => None,
        token => node_id(token).or_else(|| {
            violations.add("page_token", "is not one that was given out");
            None
        }),
    };
    let size = match message.page_size as usize {
        0 => SUBSCRIBERS_PAGE_MAX,
        size => size,
    };
    if size > SUBSCRIBERS_PAGE_MAX {
        violations.add("page_size", format_args!("is at most {SUBSCRIBERS_PAGE_MAX}, {size} given"));
    }
    violations.or(Some((after, size)))
}

fn node_id(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<T>(parsed: Result<T, Violations>) -> Vec<String> {
        parsed.err().map(|all| all.told().iter().map(|v| v.field.clone()).collect()).unwrap_or_default()
    }

    #[test]
    fn every_wrong_field_of_a_wait_is_named() {
        let short = pb::Position { epoch: vec![1; 3], revision: 1 };
        let message = pb::AwaitPropagationRequest { position: Some(short), timeout_millis: 60_001 };
        assert_eq!(fields(await_propagation(&message)), ["position.epoch", "timeout_millis"]);
        assert_eq!(fields(await_propagation(&pb::AwaitPropagationRequest::default())), ["position"]);
    }

    #[test]
    fn a_member_is_named_by_id_or_name() {
        use pb::forget_request::Member;
        let of = |member| forget(pb::ForgetRequest { member });
        assert_eq!(of(Some(Member::Id("0a".repeat(16)))), Ok(MemberChoice::Id([10; 16])));
        assert_eq!(of(Some(Member::Name("a".into()))), Ok(MemberChoice::Name("a".into())));
        for id in ["", "0a", "+a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"] {
            assert_eq!(fields(of(Some(Member::Id(id.into())))), ["id"]);
        }
        assert_eq!(fields(of(Some(Member::Name(String::new())))), ["name"]);
        assert_eq!(fields(of(None)), ["member"]);
    }

    #[test]
    fn a_page_of_subscribers_is_bounded() {
        let message = pb::ListSubscribersRequest { page_size: 10_001, page_token: "x".into() };
        assert_eq!(fields(subscribers(&message)), ["page_token", "page_size"]);
        assert_eq!(subscribers(&pb::ListSubscribersRequest::default()), Ok((None, SUBSCRIBERS_PAGE_MAX)));
    }
}
