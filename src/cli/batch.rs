//! `rescind revoke --batch`: many revocations, one JSON object a line.
//!
//! Lines are sent in chunks, each accepted as a whole. A chunk's request id is a hash of its content, and chunks are
//! filled greedily from where the batch begins: running the same file again, or resuming at the line that a failed run
//! named, repeats requests rather than revocations.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use prost::Message;
use sha2::{Digest, Sha256};

use super::connection::Servers;
use super::exit::{Exit, Failure};
use super::output::{note, progress};
use super::revoke::{hex, send, tell_outcomes};
use crate::revocation::ports::{REQUEST_BYTES_MAX, REQUEST_ITEMS_MAX};
use crate::surface::http;
use crate::wire::pb;

/// The longest line, in bytes: a token of 64 KiB and a reason, escaped, with room to spare.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// What a request holds beside its revocations, in bytes: the request id and two flags.
const ENVELOPE_BYTES: usize = 256;
const ID_DOMAIN: &[u8] = b"rescind/batch/1\0";

/// How to run a batch.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// From 1.
    pub(super) from_line: u64,
    /// Tells two runs of the same content apart; may be empty.
    pub(super) request_id: String,
    pub(super) dry_run: bool,
    pub(super) any_issuer: bool,
    pub(super) confirmed: bool,
}

/// Revokes what the file says.
pub(super) async fn run(path: &Path, options: &Options, servers: &Servers) -> Result<Exit, Failure> {
    let source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let cannot = |error| Failure::cannot(format!("cannot read {}: {error}", path.display()));
        Box::new(File::open(path).map_err(cannot)?)
    };
    let mut chunks = Chunks::new(BufReader::new(source), options.from_line);
    let (mut accepted, mut repeated) = (0_usize, 0_usize);
    loop {
        let begins = chunks.next_line;
        let resume = |failure: Failure| Failure {
            message: format!("{}; {accepted} accepted; resume with --from-line {begins}", failure.message),
            ..failure
        };
        let Some(chunk) = chunks.next().map_err(|message| resume(Failure::cannot(message)))? else { break };
        let request = request(&chunk, options);
        let response = send(servers, request)
            .await
            .map_err(|failure| resume(Failure { message: name_lines(&failure.message, &chunk.lines), ..failure }))?;
        if options.dry_run {
            tell_outcomes(&response);
        }
        accepted += chunk.revocations.len();
        repeated += if response.repeated_request { chunk.revocations.len() } else { 0 };
        let done = if options.dry_run { "would be accepted" } else { "accepted" };
        progress(&format!("{accepted} revocations {done}, through line {}", chunks.next_line - 1), chunks.ended);
    }
    if repeated > 0 {
        note(&format!(
            "{repeated} of them had been accepted by an earlier run; to revoke anew, pass another --request-id"
        ));
    }
    Ok(Exit::Done)
}

fn request(chunk: &Chunk, options: &Options) -> pb::RevokeRequest {
    let mut request = pb::RevokeRequest {
        revocations: chunk.revocations.clone(),
        request_id: options.request_id.clone(),
        dry_run: options.dry_run,
        any_issuer: options.any_issuer,
        confirmed: false,
    };
    let content = Sha256::new().chain_update(ID_DOMAIN).chain_update(request.encode_to_vec()).finalize();
    request.request_id = format!("batch-{}", hex(&content));
    request.confirmed = options.confirmed;
    request
}

/// Revocations that are accepted together, and the line of each.
#[derive(Debug, Default, PartialEq)]
struct Chunk {
    revocations: Vec<pb::Revocation>,
    lines: Vec<u64>,
    bytes: usize,
}

impl Chunk {
    /// Whether another one fits.
    fn fits(&self, bytes: usize) -> bool {
        self.revocations.len() < REQUEST_ITEMS_MAX && self.bytes + bytes <= REQUEST_BYTES_MAX - ENVELOPE_BYTES
    }

    fn push(&mut self, revocation: pb::Revocation, line: u64) {
        self.bytes += field_bytes(&revocation);
        self.revocations.push(revocation);
        self.lines.push(line);
    }
}

/// The bytes a revocation takes in a request: one for the tag, and its length before it.
fn field_bytes(revocation: &pb::Revocation) -> usize {
    let bytes = revocation.encoded_len();
    1 + prost::length_delimiter_len(bytes) + bytes
}

/// Reads lines into chunks.
struct Chunks<R> {
    source: BufReader<R>,
    /// The line that the next chunk begins with, from 1.
    next_line: u64,
    skip: u64,
    /// What no longer fitted into the chunk before.
    held: Option<(pb::Revocation, u64)>,
    ended: bool,
}

impl<R: Read> Chunks<R> {
    fn new(source: BufReader<R>, from_line: u64) -> Self {
        Self { source, next_line: from_line, skip: from_line - 1, held: None, ended: false }
    }

    /// The next chunk; `None` after the last.
    fn next(&mut self) -> Result<Option<Chunk>, String> {
        for _ in 0..std::mem::take(&mut self.skip) {
            self.read_line()?;
        }
        let mut chunk = Chunk::default();
        let mut line = self.next_line;
        if let Some((revocation, held_line)) = self.held.take() {
            chunk.push(revocation, held_line);
            line = held_line + 1;
        }
        while let Some(text) = self.read_line()? {
            if !text.trim_ascii().is_empty() {
                let revocation = http::revocation(&text).map_err(|error| format!("line {line}: {error}"))?;
                if !chunk.fits(field_bytes(&revocation)) && !chunk.revocations.is_empty() {
                    self.held = Some((revocation, line));
                    break;
                }
                chunk.push(revocation, line);
            }
            line += 1;
        }
        self.next_line = line;
        self.ended = self.held.is_none();
        Ok((!chunk.revocations.is_empty()).then_some(chunk))
    }

    fn read_line(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut line = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        self.source
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut line)
            .map_err(|error| format!("cannot read: {error}"))?;
        match line.len() {
            0 => Ok(None),
            bytes if bytes > LINE_BYTES_MAX => Err(format!("a line has more than {LINE_BYTES_MAX} bytes")),
            _ => Ok(Some(line)),
        }
    }
}

/// Replaces `revocations[3]` by the line it came from.
fn name_lines(message: &str, lines: &[u64]) -> String {
    let mut named = String::new();
    let mut parts = message.split("revocations[");
    named.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let line =
            part.split_once(']').and_then(|(index, rest)| Some((lines.get(index.parse::<usize>().ok()?)?, rest)));
        match line {
            Some((line, rest)) => named.push_str(&format!("line {line}{rest}")),
            None => named.push_str(&format!("revocations[{part}")),
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(text: &str, from_line: u64) -> Chunks<&[u8]> {
        Chunks::new(BufReader::new(text.as_bytes()), from_line)
    }

    fn lines(count: usize, value_bytes: usize) -> String {
        (0..count).map(|n| format!("{{\"selector\":{{\"sub\":\"{n:0value_bytes$}\"}}}}\n")).collect()
    }

    #[test]
    fn a_chunk_holds_ten_thousand_lines_and_at_most_a_mebibyte() {
        let text = lines(10_001, 6);
        let mut many = chunks(&text, 1);
        assert_eq!(many.next().unwrap().unwrap().revocations.len(), 10_000);
        assert_eq!((many.next_line, many.ended), (10_001, false));
        assert_eq!(many.next().unwrap().unwrap().lines, [10_001]);
        assert!(many.ended);
        assert_eq!(many.next(), Ok(None));

        let text = lines(2000, 1000);
        let mut large = chunks(&text, 1);
        let mut total = 0;
        while let Some(chunk) = large.next().unwrap() {
            let request = request(&chunk, &Options::default());
            assert!(request.encoded_len() <= REQUEST_BYTES_MAX, "{}", request.encoded_len());
            total += chunk.revocations.len();
        }
        assert_eq!(total, 2000);
    }

    #[test]
    fn resuming_where_a_chunk_began_repeats_its_request() {
        let text = lines(10_005, 6);
        let mut first_run = chunks(&text, 1);
        first_run.next().unwrap();
        let begins = first_run.next_line;
        let of = |chunk: Option<Chunk>| request(&chunk.unwrap(), &Options::default()).request_id;
        let second_chunk = of(first_run.next().unwrap());
        assert_eq!(of(chunks(&text, begins).next().unwrap()), second_chunk);
        assert_ne!(of(chunks(&text, begins + 1).next().unwrap()), second_chunk);
    }

    #[test]
    fn another_request_id_makes_the_same_content_another_request() {
        let chunk = chunks(&lines(1, 1), 1).next().unwrap().unwrap();
        let with = |request_id: &str| {
            request(&chunk, &Options { request_id: request_id.into(), ..Options::default() }).request_id
        };
        assert_eq!(with("a"), with("a"));
        assert_ne!(with("a"), with(""));
        assert!(with("a").len() <= crate::revocation::ports::REQUEST_ID_BYTES_MAX);
    }

    #[test]
    fn a_wrong_line_is_named_and_blank_ones_count() {
        let text = "{\"selector\":{\"sub\":\"a\"}}\n\n  \n{\"selector\":{\"sub\":\"b\"},\"foo\":1}\n";
        assert!(chunks(text, 1).next().unwrap_err().starts_with("line 4: revocation.foo: is not known"));
        assert!(chunks("nonsense\n", 1).next().unwrap_err().starts_with("line 1: not valid JSON"));
        assert!(chunks(&" ".repeat(LINE_BYTES_MAX + 1), 1).next().unwrap_err().contains("262144"));
        assert_eq!(chunks("\n\n", 1).next(), Ok(None));
    }

    #[test]
    fn what_the_server_refuses_is_named_by_its_line() {
        assert_eq!(
            name_lines("revocations[1].reason: x; revocations[9]: y", &[4, 7]),
            "line 7.reason: x; revocations[9]: y"
        );
    }
}
