//! A strict JSON scanner (RFC 8259) for claims: one pass, no recursion, no allocation once its buffers have grown.
//!
//! It hands out events and builds nothing. It is stricter than RFC 8259 where leniency would let two readers of one
//! token disagree: the top level must be an object, a name may occur once per object (compared unescaped), a lone
//! surrogate is refused. Numbers are checked by their grammar and handed on as text, so that no digit is lost.

mod lexer;
#[cfg(test)]
mod tests;

use self::lexer::Lexer;

/// The deepest nesting of objects and arrays; the top-level object counts as one. Far above any real token, and small
/// enough for fixed-size state.
pub const DEPTH_MAX: usize = 32;

/// The longest JSON text, in bytes: as much as the longest token could carry.
pub const JSON_BYTES_MAX: usize = super::TOKEN_BYTES_MAX;

/// Up to this many members, an object's names are compared pair by pair; more are sorted, so that an object of
/// thousands of names costs no quadratic time.
const PAIRWISE_NAMES_MAX: usize = 32;

/// Why bytes are not acceptable JSON, and where. Never holds any of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{problem} at byte {offset}")]
pub struct JsonError {
    /// What is wrong.
    pub problem: JsonProblem,
    /// Where, in bytes from the start of the JSON text; for [`JsonProblem::TooLong`] where that ends.
    pub offset: u32,
}

/// What is wrong with a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum JsonProblem {
    /// Over [`JSON_BYTES_MAX`].
    #[error("text over the limit of {JSON_BYTES_MAX} bytes ends")]
    TooLong,
    /// Not UTF-8.
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// The top level is not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// Deeper than [`DEPTH_MAX`].
    #[error("nesting deeper than {DEPTH_MAX}")]
    TooDeep,
    /// A name that its object already has.
    #[error("duplicate name")]
    DuplicateName,
    /// A byte that cannot stand there.
    #[error("unexpected byte")]
    UnexpectedByte,
    /// The text stops within a value.
    #[error("unexpected end")]
    UnexpectedEnd,
    /// An unescaped control character within a string.
    #[error("control character in a string")]
    ControlCharacter,
    /// A backslash followed by no known escape.
    #[error("invalid escape")]
    InvalidEscape,
    /// An escaped half of a surrogate pair.
    #[error("lone surrogate")]
    LoneSurrogate,
    /// A number that breaks the grammar (RFC 8259 §6).
    #[error("invalid number")]
    InvalidNumber,
    /// Something other than white space follows the object.
    #[error("trailing bytes")]
    TrailingBytes,
}

/// What the scanner found next. The events of a text that is refused in the end may have been handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    BeginObject,
    /// The unescaped name of the member whose value comes next.
    Name(&'a str),
    EndObject,
    BeginArray,
    EndArray,
    /// An unescaped string.
    String(&'a str),
    /// A number as written.
    Number(&'a str),
    Bool(bool),
    Null,
}

/// The scanner's buffers. They grow with the largest text seen, at most a small multiple of [`JSON_BYTES_MAX`].
#[derive(Default)]
pub(super) struct Scanner {
    /// The objects and arrays the scan is in, outermost first.
    open: Vec<Container>,
    /// The names of all open objects, innermost last.
    names: Vec<Name>,
    /// Those of them that held escapes, unescaped.
    name_text: String,
    /// The last string that held escapes, unescaped.
    unescaped: String,
}

#[derive(Clone, Copy)]
enum Container {
    Array,
    /// Its names start at this index of [`Scanner::names`].
    Object {
        first_name: usize,
    },
}

/// A name of an open object, remembered to refuse its second occurrence.
#[derive(Clone, Copy)]
struct Name {
    /// The first eight bytes of the name or all of a shorter one: tells most names apart without reading them.
    prefix: u64,
    /// Where it stands in the input, with its opening quote.
    offset: u32,
    /// Where its unescaped text starts: in [`Scanner::name_text`] if it holds escapes, else in the input.
    start: u32,
    bytes: u32,
    escaped: bool,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    FirstMember,
    Member,
    FirstElement,
    Element,
    /// A comma, or the end of the innermost container.
    Separator,
}

impl Scanner {
    /// Scans one JSON object and hands its events to `sink`, the outermost `BeginObject` and `EndObject` included.
    ///
    /// # Errors
    /// The first problem found. Duplicate names are found when their object ends.
    pub(super) fn scan(&mut self, json: &[u8], mut sink: impl FnMut(Event<'_>)) -> Result<(), JsonError> {
        if json.len() > JSON_BYTES_MAX {
            return Err(JsonProblem::TooLong.at(json.len()));
        }
        let json = std::str::from_utf8(json).map_err(|e| JsonProblem::InvalidUtf8.at(e.valid_up_to()))?;
        self.open.clear();
        self.names.clear();
        self.name_text.clear();

        let mut lexer = Lexer::new(json);
        if lexer.peek() != Some(b'{') {
            return Err(JsonProblem::NotAnObject.at(lexer.offset()));
        }
        let mut expect = self.value(b'{', &mut lexer, &mut sink)?;
        while !self.open.is_empty() {
            let byte = lexer.require()?;
            expect = match (expect, byte) {
                (Expect::Separator, _) => self.separator(byte, &mut lexer, &mut sink)?,
                (Expect::FirstMember | Expect::Member, b'"') => self.member(&mut lexer, &mut sink)?,
                (Expect::FirstMember, b'}') | (Expect::FirstElement, b']') => self.close(&mut lexer, &mut sink)?,
                (Expect::FirstElement | Expect::Element, _) => self.value(byte, &mut lexer, &mut sink)?,
                (Expect::FirstMember | Expect::Member, _) => {
                    return Err(JsonProblem::UnexpectedByte.at(lexer.offset()));
                }
            };
        }
        match lexer.peek() {
            None => Ok(()),
            Some(_) => Err(JsonProblem::TrailingBytes.at(lexer.offset())),
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.open.capacity() + self.names.capacity() + self.name_text.capacity() + self.unescaped.capacity()
    }

    /// A member: its name, its colon, and its value or the beginning of it.
    fn member(&mut self, lexer: &mut Lexer<'_>, sink: &mut impl FnMut(Event<'_>)) -> Result<Expect, JsonError> {
        let offset = lexer.offset() as u32;
        let name = lexer.string(&mut self.unescaped)?;
        // Two quotes are all that an unescaped name adds in the input.
        let escaped = lexer.offset() - offset as usize != name.len() + 2;
        let start = if escaped { self.name_text.len() as u32 } else { offset + 1 };
        if escaped {
            self.name_text.push_str(name);
        }
        self.names.push(Name { prefix: prefix(name), offset, start, bytes: name.len() as u32, escaped });
        sink(Event::Name(name));
        if lexer.require()? != b':' {
            return Err(JsonProblem::UnexpectedByte.at(lexer.offset()));
        }
        lexer.advance();
        self.value(lexer.require()?, lexer, sink)
    }

    /// A value, or the beginning of one that contains others; `byte` is next.
    #[inline]
    fn value(
        &mut self,
        byte: u8,
        lexer: &mut Lexer<'_>,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<Expect, JsonError> {
        match byte {
            b'"' => sink(Event::String(lexer.string(&mut self.unescaped)?)),
            b'-' | b'0'..=b'9' => sink(Event::Number(lexer.number()?)),
            b't' => lexer.literal("true").map(|()| sink(Event::Bool(true)))?,
            b'f' => lexer.literal("false").map(|()| sink(Event::Bool(false)))?,
            b'n' => lexer.literal("null").map(|()| sink(Event::Null))?,
            b'{' => {
                self.begin(Container::Object { first_name: self.names.len() }, lexer)?;
                sink(Event::BeginObject);
                return Ok(Expect::FirstMember);
            }
            b'[' => {
                self.begin(Container::Array, lexer)?;
                sink(Event::BeginArray);
                return Ok(Expect::FirstElement);
            }
            _ => return Err(JsonProblem::UnexpectedByte.at(lexer.offset())),
        }
        Ok(Expect::Separator)
    }

    fn separator(
        &mut self,
        byte: u8,
        lexer: &mut Lexer<'_>,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<Expect, JsonError> {
        match (byte, self.open.last()) {
            (b',', Some(Container::Object { .. })) => {
                lexer.advance();
                Ok(Expect::Member)
            }
            (b',', Some(Container::Array)) => {
                lexer.advance();
                Ok(Expect::Element)
            }
            (b'}', Some(Container::Object { .. })) | (b']', Some(Container::Array)) => self.close(lexer, sink),
            _ => Err(JsonProblem::UnexpectedByte.at(lexer.offset())),
        }
    }

    fn begin(&mut self, container: Container, lexer: &mut Lexer<'_>) -> Result<(), JsonError> {
        if self.open.len() == DEPTH_MAX {
            return Err(JsonProblem::TooDeep.at(lexer.offset()));
        }
        self.open.push(container);
        lexer.advance();
        Ok(())
    }

    /// Ends the innermost container, whose closing byte is next.
    fn close(&mut self, lexer: &mut Lexer<'_>, sink: &mut impl FnMut(Event<'_>)) -> Result<Expect, JsonError> {
        lexer.advance();
        match self.open.pop() {
            Some(Container::Object { first_name }) => {
                self.forget_names(first_name, lexer.text())?;
                sink(Event::EndObject);
            }
            Some(Container::Array) | None => sink(Event::EndArray),
        }
        Ok(Expect::Separator)
    }

    /// Drops the names of the object that just ended, having checked that no two are equal.
    fn forget_names(&mut self, first_name: usize, json: &str) -> Result<(), JsonError> {
        let ended = &mut self.names[first_name..];
        if let Some(offset) = first_duplicate(ended, json, &self.name_text) {
            return Err(JsonProblem::DuplicateName.at(offset as usize));
        }
        self.names.truncate(first_name);
        if first_name == 0 {
            self.name_text.clear();
        }
        Ok(())
    }
}

/// Where a name stands that occurred before; `None` when all differ. May reorder the names.
fn first_duplicate(names: &mut [Name], json: &str, name_text: &str) -> Option<u32> {
    let text = |name: &Name| {
        let start = name.start as usize;
        &(if name.escaped { name_text } else { json })[start..start + name.bytes as usize]
    };
    if names.len() <= PAIRWISE_NAMES_MAX {
        // One bit of 64 for each name seen: a name whose bit is not set yet is new.
        let mut seen = 0u64;
        return names.iter().enumerate().find_map(|(index, name)| {
            let bit = 1 << (name.prefix.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58);
            let maybe_seen = seen & bit != 0;
            seen |= bit;
            let equal = |earlier: &Name| earlier.prefix == name.prefix && text(earlier) == text(name);
            (maybe_seen && names[..index].iter().any(equal)).then_some(name.offset)
        });
    }
    names.sort_unstable_by(|a, b| text(a).cmp(text(b)).then(a.offset.cmp(&b.offset)));
    names.windows(2).filter(|pair| text(&pair[0]) == text(&pair[1])).map(|pair| pair[1].offset).min()
}

#[inline]
fn prefix(name: &str) -> u64 {
    match name.as_bytes().first_chunk() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => name.bytes().fold(0, |word, byte| word << 8 | u64::from(byte)),
    }
}

impl JsonProblem {
    fn at(self, offset: usize) -> JsonError {
        JsonError { problem: self, offset: u32::try_from(offset).unwrap_or(u32::MAX) }
    }
}
