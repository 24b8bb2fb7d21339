//! The only way to standard output and standard error.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use crate::security::credential::without_credentials;

/// Writes answers. A reader that went away, as in `rescind list | head`, ends the program quietly.
pub(super) fn say(text: impl std::fmt::Display) {
    if let Err(error) = try_say(text) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        complain(&format!("cannot write the answer: {error}"));
        std::process::exit(2);
    }
}

/// The same, leaving it to the caller what comes of a failure.
pub(super) fn try_say(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes a table of two columns.
pub(super) fn say_fields(fields: &[(&str, String)]) {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields {
        say(format_args!("  {name:width$}  {}", plain(value)));
    }
}

/// What somebody else chose, as one line that a terminal only shows.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Says what went wrong.
pub(super) fn complain(message: &str) {
    note(&format!("rescind: {message}"));
}

/// Says something beside the answer, without credentials that were given in the wrong place. Nobody reading it is no reason
/// to stop.
pub(super) fn note(message: &str) {
    let message = without_credentials(message);
    let lines: Vec<_> = message.split('\n').map(plain).collect();
    let _ = writeln!(io::stderr().lock(), "{}", lines.join("\n"));
}

/// What is wrong with the arguments, or help; in colour on a terminal, unless something must be hidden.
pub(super) fn explain(error: &clap::Error) {
    let text = error.render().to_string();
    if without_credentials(&text) != text {
        return note(text.trim_end());
    }
    // Standard error may be closed; the exit status still tells.
    let _ = error.print();
}

/// How far a long command has come: one line that is rewritten on a terminal, a line each time elsewhere.
pub(super) fn progress(message: &str, last: bool) {
    let mut out = io::stderr().lock();
    let written = if out.is_terminal() {
        write!(out, "\r\x1b[K{message}{}", if last { "\n" } else { "" })
    } else {
        writeln!(out, "{message}")
    };
    // Nobody reading it is no reason to stop.
    let _ = written.and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(plain("bärbel's host"), "bärbel's host");
        assert_eq!(plain("a\x1b[2Jb\n\u{9b}c"), "a\\u{1b}[2Jb\\n\\u{9b}c");
    }
}
