//! A JSON text as a tree that keeps duplicate keys, and the reading of its objects field by field.
//!
//! Every wrong field is collected with its path; no message holds a value. serde's derived readers stop at the first
//! fault and quote what they were given.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::time::{Rounding, parse_time};
use crate::revocation::scalar::canonical_number;
use crate::surface::violations::{Path, Violations};

/// A JSON value.
#[derive(Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// The text of a claim value: types are erased, so `42` and `"42"` are the same.
    pub(super) fn scalar(self, at: &impl fmt::Display, violations: &mut Violations) -> Option<String> {
        match self {
            Self::String(text) => Some(text),
            Self::Bool(truth) => Some(truth.to_string()),
            Self::Number(number) => {
                let text = canonical_number(&number.to_string());
                if text.is_none() {
                    violations.add(at, "a number must be integral and within ±(2^53-1)");
                }
                text
            }
            other => {
                violations.add(at, format_args!("must be a string, number or boolean, {} given", other.kind()));
                None
            }
        }
    }

    /// The members of an object.
    pub(super) fn members(self, at: &impl fmt::Display, violations: &mut Violations) -> Option<Vec<(String, Tree)>> {
        match self {
            Self::Object(members) => Some(members),
            other => {
                violations.add(at, format_args!("must be an object, {} given", other.kind()));
                None
            }
        }
    }

    /// Appends the value as JSON, duplicate keys and all.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    write_string(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// An object whose fields are taken one by one; [`Fields::finish`] refuses those that are left.
pub(super) struct Fields<'a> {
    members: Vec<(String, Tree)>,
    at: Option<&'a Path<'a>>,
}

impl<'a> Fields<'a> {
    /// The fields of `tree`, which stands at `at` or, without it, is the whole request.
    pub(super) fn of(tree: Tree, at: Option<&'a Path<'a>>, violations: &mut Violations) -> Option<Self> {
        let members = match at {
            Some(at) => tree.members(at, violations),
            None => tree.members(&"the request", violations),
        }?;
        let fields = Self { members, at };
        for (index, (name, _)) in fields.members.iter().enumerate() {
            if fields.members[..index].iter().any(|(other, _)| other == name) {
                fields.wrong(name, "is given twice", violations);
                return None;
            }
        }
        Some(fields)
    }

    /// Takes a field; `null` counts as left out.
    pub(super) fn take(&mut self, name: &str) -> Option<Tree> {
        let index = self.members.iter().position(|(member, _)| member == name)?;
        Some(self.members.swap_remove(index).1).filter(|value| *value != Tree::Null)
    }

    /// Takes a string.
    pub(super) fn string(&mut self, name: &str, violations: &mut Violations) -> Option<String> {
        match self.take(name)? {
            Tree::String(text) => Some(text),
            other => {
                self.wrong(name, format_args!("must be a string, {} given", other.kind()), violations);
                None
            }
        }
    }

    /// Takes a boolean.
    pub(super) fn boolean(&mut self, name: &str, violations: &mut Violations) -> Option<bool> {
        match self.take(name)? {
            Tree::Bool(truth) => Some(truth),
            other => {
                self.wrong(name, format_args!("must be true or false, {} given", other.kind()), violations);
                None
            }
        }
    }

    /// Takes a number that is small enough for one in every language.
    pub(super) fn whole_number(&mut self, name: &str, violations: &mut Violations) -> Option<u64> {
        let given = self.take(name)?;
        if let Tree::Number(number) = &given
            && let Some(whole) = canonical_number(&number.to_string()).and_then(|text| text.parse().ok())
        {
            return Some(whole);
        }
        self.wrong(name, format_args!("must be a whole number from 0 to 2^53-1, {} given", given.kind()), violations);
        None
    }

    /// Takes an RFC 3339 time, as unix seconds.
    pub(super) fn time(&mut self, name: &str, rounding: Rounding, violations: &mut Violations) -> Option<u64> {
        let text = self.string(name, violations)?;
        let time = parse_time(&text, rounding);
        if time.is_none() {
            self.wrong(name, "must be an RFC 3339 time since 1970, as in 2026-01-31T12:00:00Z", violations);
        }
        time
    }

    /// Takes an array.
    pub(super) fn array(&mut self, name: &str, violations: &mut Violations) -> Vec<Tree> {
        match self.take(name) {
            None => Vec::new(),
            Some(Tree::Array(items)) => items,
            Some(other) => {
                self.wrong(name, format_args!("must be an array, {} given", other.kind()), violations);
                Vec::new()
            }
        }
    }

    /// Says that a field is wrong.
    pub(super) fn wrong(&self, name: &str, description: impl fmt::Display, violations: &mut Violations) {
        match self.at {
            Some(at) => violations.add(at.field(name), description),
            None => violations.add(name, description),
        }
    }

    /// Refuses what was not taken.
    pub(super) fn finish(self, known: &str, violations: &mut Violations) {
        /// Of an unknown key, in bytes: enough to find it.
        const SHOWN_BYTES_MAX: usize = 64;
        for (name, _) in &self.members {
            let shown = &name[..name.floor_char_boundary(SHOWN_BYTES_MAX)];
            self.wrong(shown, format_args!("is not known; known are {known}"), violations);
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Number(number.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Tree, E> {
        serde_json::Number::from_f64(number).map(Tree::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Tree, E> {
        Ok(Tree::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Object(members))
    }
}
