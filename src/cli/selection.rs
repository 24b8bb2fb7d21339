//! The flags that say which tokens are meant.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::Failure;
use crate::token::TOKEN_BYTES_MAX;
use crate::wire::pb;

/// One token, or the claims that tokens have.
#[derive(Clone, Debug, Default, Args)]
#[group(multiple = true)]
pub(super) struct Selection {
    #[command(flatten)]
    pub(super) token: TokenSource,
    /// The token with this id; add --iss.
    #[arg(long, value_name = "V", value_parser = not_empty, conflicts_with_all = TOKEN_FLAGS)]
    jti: Option<String>,
    /// All tokens of this session.
    #[arg(long, value_name = "V", value_parser = not_empty, conflicts_with_all = TOKEN_FLAGS)]
    sid: Option<String>,
    /// All tokens of this subject.
    #[arg(long, value_name = "V", value_parser = not_empty, conflicts_with_all = TOKEN_FLAGS)]
    sub: Option<String>,
    /// All tokens of this client.
    #[arg(long, value_name = "V", value_parser = not_empty, conflicts_with_all = TOKEN_FLAGS)]
    client_id: Option<String>,
    /// All tokens signed by this key (header.kid).
    #[arg(long, value_name = "V", value_parser = not_empty, conflicts_with_all = TOKEN_FLAGS)]
    kid: Option<String>,
    /// All tokens of this issuer.
    #[arg(long, value_name = "V", value_parser = not_empty, conflicts_with_all = TOKEN_FLAGS)]
    iss: Option<String>,
    /// All tokens with this claim; several narrow it down.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, conflicts_with_all = TOKEN_FLAGS)]
    claim: Vec<(String, String)>,
}

/// A token from somewhere.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct TokenSource {
    /// A token, or - to read it from standard input (an argument is visible to other users of the machine).
    #[arg(long, value_name = "-|TOKEN", value_parser = not_empty, conflicts_with = "token_file")]
    token: Option<String>,
    /// A file that holds a token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The token is opaque, even if it looks like a JWT.
    #[arg(long)]
    pub(super) opaque: bool,
}

const TOKEN_FLAGS: [&str; 2] = ["token", "token_file"];

impl TokenSource {
    /// The token; `None` when no flag names one.
    pub(super) fn read(&self) -> Result<Option<String>, Failure> {
        match (&self.token, &self.token_file) {
            (Some(token), _) if token == "-" => {
                read_text(std::io::stdin().lock(), "standard input", TOKEN_BYTES_MAX).map(Some)
            }
            (Some(token), _) => Ok(Some(token.clone())),
            (None, Some(path)) => read_file(path, TOKEN_BYTES_MAX).map(Some),
            (None, None) => Ok(None),
        }
    }
}

impl Selection {
    /// The selector that the flags make; `None` when they name no claim.
    pub(super) fn selector(&self) -> Option<pb::Selector> {
        let named = [
            ("jti", &self.jti),
            ("sid", &self.sid),
            ("sub", &self.sub),
            ("client_id", &self.client_id),
            ("header.kid", &self.kid),
            ("iss", &self.iss),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        let claims = named.chain(self.claim.iter().cloned()).map(|(name, value)| pb::Claim { name, value });
        let claims: Vec<_> = claims.collect();
        (!claims.is_empty()).then_some(pb::Selector { claims })
    }
}

/// The text of a file, without the line end that editors add.
pub(super) fn read_file(path: &Path, bytes_max: usize) -> Result<String, Failure> {
    let name = path.display().to_string();
    if name == "-" {
        return read_text(std::io::stdin().lock(), "standard input", bytes_max);
    }
    let file = std::fs::File::open(path).map_err(|error| Failure::cannot(format!("cannot read {name}: {error}")))?;
    read_text(file, &name, bytes_max)
}

fn read_text(from: impl Read, name: &str, bytes_max: usize) -> Result<String, Failure> {
    /// Room for a line end.
    const SLACK_BYTES: usize = 2;
    let mut text = String::new();
    let limit = (bytes_max + SLACK_BYTES + 1) as u64;
    from.take(limit)
        .read_to_string(&mut text)
        .map_err(|error| Failure::cannot(format!("cannot read {name}: {error}")))?;
    let trimmed = text.trim_end_matches(['\r', '\n']);
    match trimmed.len() {
        0 => Err(Failure::cannot(format!("{name} is empty"))),
        bytes if bytes > bytes_max => Err(Failure::cannot(format!("{name} has more than {bytes_max} bytes"))),
        _ => Ok(trimmed.to_owned()),
    }
}

/// A value that is there. An empty one is usually a variable that was not set.
pub(super) fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("the value is empty".into()) } else { Ok(text.to_owned()) }
}

/// `name=value`, neither empty.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(("", _)) => Err("the name before = is empty".into()),
        Some(_) => Err("the value after = is empty".into()),
        None => Err("expected name=value".into()),
    }
}

/// `name=value[,name=value]`: one selector. `\,` is a comma and `\\` a backslash within a value.
pub(super) fn exception(text: &str) -> Result<pb::Selector, String> {
    let mut pairs = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let last = pairs.len() - 1;
        match character {
            ',' => pairs.push(String::new()),
            '\\' => match characters.next() {
                Some(escaped @ (',' | '\\')) => pairs[last].push(escaped),
                _ => return Err("a backslash must be followed by a comma or a backslash".into()),
            },
            other => pairs[last].push(other),
        }
    }
    let claims = pairs.iter().map(|text| pair(text).map(|(name, value)| pb::Claim { name, value }));
    Ok(pb::Selector { claims: claims.collect::<Result<_, _>>()? })
}
