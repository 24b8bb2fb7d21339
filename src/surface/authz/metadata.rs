//! Protobuf's JSON values as JSON text: so Envoy hands on the claims that it verified.

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use serde_json::{Map, Number};

/// The deepest nesting; deeper claims are none. Far deeper than the token parser goes.
const DEPTH_MAX: usize = 64;

/// A value that is an object, as JSON; `None` for any other, and for one that JSON cannot say.
pub(super) fn json(value: &Value) -> Option<String> {
    let Some(Kind::StructValue(object)) = &value.kind else { return None };
    of_struct(object, DEPTH_MAX).map(|object| object.to_string())
}

fn of_struct(object: &Struct, depth: usize) -> Option<serde_json::Value> {
    let members =
        object.fields.iter().map(|(name, value)| Some((name.clone(), of_value(value, depth.checked_sub(1)?)?)));
    members.collect::<Option<Map<_, _>>>().map(serde_json::Value::Object)
}

fn of_value(value: &Value, depth: usize) -> Option<serde_json::Value> {
    Some(match value.kind.as_ref()? {
        Kind::NullValue(_) => serde_json::Value::Null,
        Kind::NumberValue(number) => serde_json::Value::Number(of_number(*number)?),
        Kind::StringValue(text) => serde_json::Value::String(text.clone()),
        Kind::BoolValue(is_true) => serde_json::Value::Bool(*is_true),
        Kind::StructValue(object) => of_struct(object, depth)?,
        Kind::ListValue(list) => {
            let values = list.values.iter().map(|value| of_value(value, depth.checked_sub(1)?));
            serde_json::Value::Array(values.collect::<Option<_>>()?)
        }
    })
}

/// A whole number without a fraction, as it was written before it became a double.
fn of_number(number: f64) -> Option<Number> {
    const EXACT_MAX: f64 = 9_007_199_254_740_991.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return Some(Number::from(number as i64));
    }
    Number::from_f64(number)
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::ListValue;

    use super::*;

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    fn object(name: &str, inner: Value) -> Value {
        value(Kind::StructValue(Struct { fields: [(name.to_owned(), inner)].into() }))
    }

    #[test]
    fn numbers_read_as_they_were_written() {
        for (number, text) in [(1_700_000_000.0, "1700000000"), (-0.0, "0"), (1.5, "1.5"), (1e300, "1e+300")] {
            let json = json(&object("exp", value(Kind::NumberValue(number))));
            assert_eq!(json.as_deref(), Some(format!(r#"{{"exp":{text}}}"#).as_str()));
        }
        for number in [f64::NAN, f64::INFINITY] {
            assert_eq!(json(&object("exp", value(Kind::NumberValue(number)))), None);
        }
    }

    #[test]
    fn everything_else_is_json_too_and_only_an_object_is_a_payload() {
        let list = ListValue { values: vec![value(Kind::BoolValue(true)), value(Kind::NullValue(0))] };
        let json_of = |kind| json(&object("x", value(kind)));
        assert_eq!(json_of(Kind::ListValue(list)).as_deref(), Some(r#"{"x":[true,null]}"#));
        assert_eq!(json_of(Kind::StringValue("a\"b".into())).as_deref(), Some(r#"{"x":"a\"b"}"#));
        assert_eq!(json(&value(Kind::StringValue("x".into()))), None);
        assert_eq!(json(&Value { kind: None }), None);
        let mut deep = value(Kind::BoolValue(true));
        for _ in 0..100 {
            deep = object("x", deep);
        }
        assert_eq!(json(&deep), None);
    }
}
