//! Arguments as people type them, and what is printed.

use std::sync::Arc;

use clap::{CommandFactory, Parser};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::exit::{Exit, Failure};
use super::{Arguments, Command};
use crate::revocation::ports::{CutoffChoice, ExpiryChoice, Violation, WriteError};
use crate::revocation::{Cutoff, Hit, Shape, TestedClaim, UnixSeconds, UnknownCause, Verdict};
use crate::surface::testing::{FakeNode, ID};
use crate::surface::{Address, Bounds, Listener, Options, Surface};
use crate::wire::pb::revocation::{Cutoff as CutoffField, Expiry, Target};

fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
    Arguments::try_parse_from(std::iter::once(&"rescind").chain(arguments)).map(|arguments| arguments.command)
}

fn revocation(arguments: &[&str]) -> crate::wire::pb::Revocation {
    match parse(&[&["revoke"], arguments].concat()).unwrap() {
        Command::Revoke(revoke) => revoke.revocation().unwrap(),
        other => panic!("not a revoke: {other:?}"),
    }
}

/// Asserts that the arguments are refused with exit status 2 and a message that holds `part`.
fn check_refused(arguments: &[&str], part: &str) {
    let refused = parse(arguments).unwrap_err();
    assert_eq!(refused.exit_code(), 2, "{arguments:?}");
    let message = refused.to_string();
    assert!(message.contains(part), "{arguments:?}: {part:?} is missing in {message}");
}

/// Runs a command against a server that answers as `node` says.
async fn run(node: &Arc<FakeNode>, arguments: &[&str]) -> Result<Exit, Failure> {
    run_at("127.0.0.1:0".parse().unwrap(), node, arguments).await
}

/// The same with a server at `address`.
async fn run_at(address: Address, node: &Arc<FakeNode>, arguments: &[&str]) -> Result<Exit, Failure> {
    let listener = Listener::bind(address, "--listen").await.unwrap();
    let url = match listener.address() {
        Address::Tcp(address) => format!("http://{address}"),
        Address::Unix(path) => path.to_string(),
    };
    let stop = CancellationToken::new();
    let app = Surface::new(node.node(), &Options::default(), Routes::default()).app;
    let served = tokio::spawn(listener.serve(app, Bounds::connections(8), stop.clone()));
    let done = execute(&[arguments, &["--server", &url]].concat()).await;
    stop.cancel();
    served.await.unwrap();
    done
}

async fn execute(arguments: &[&str]) -> Result<Exit, Failure> {
    match parse(arguments).unwrap() {
        Command::Revoke(command) => command.run().await,
        Command::Reinstate(command) => command.run().await,
        Command::Check(command) => command.run().await.map_err(Failure::cannot_tell),
        Command::List(command) => command.run().await,
        Command::Status(command) => command.run().await,
        Command::Journal(command) => command.perform().await,
        Command::Policy(command) => command.run().await,
        Command::Credential(command) => command.run().await,
        other => panic!("not a command for a server: {other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn every_selection_flag_names_its_claim() {
    let all = revocation(&[
        "--jti=1",
        "--sid=2",
        "--sub=3",
        "--client-id=4",
        "--kid=5",
        "--iss=6",
        "--claim",
        "cnf.jkt=7",
        "--claim=x=y=z",
    ]);
    let Some(Target::Selector(selector)) = all.target else { panic!("no selector") };
    let pairs: Vec<String> = selector.claims.iter().map(|claim| format!("{}={}", claim.name, claim.value)).collect();
    let expected = "jti=1 sid=2 sub=3 client_id=4 header.kid=5 iss=6 cnf.jkt=7 x=y=z";
    assert_eq!(pairs.join(" "), expected);
    assert_eq!(revocation(&["--token", "T"]).target, Some(Target::Token("T".into())));
    assert_eq!(revocation(&["--token", "T", "--opaque"]).target, Some(Target::OpaqueToken("T".into())));
}

#[test]
fn times_and_choices_become_fields() {
    let with = |arguments: &[&str]| revocation(&[&["--sub", "a"], arguments].concat());
    assert_eq!((with(&[]).cutoff, with(&[]).expiry), (None, None));
    let cutoff = with(&["--cutoff", "2026-01-01T00:00:00.1Z", "--cutoff-on", "auth_time"]);
    assert_eq!((cutoff.cutoff, cutoff.cutoff_on), (Some(CutoffField::CutoffSeconds(1_767_225_601)), 2));
    assert_eq!(with(&["--cutoff", "none"]).cutoff, Some(CutoffField::Unbounded(true)));
    assert_eq!(with(&["--expires-in", "1h30m"]).expiry, Some(Expiry::ExpiresInSeconds(5400)));
    assert_eq!(with(&["--expires-at", "1767225600"]).expiry, Some(Expiry::ExpiresAtSeconds(1_767_225_600)));
    assert_eq!(with(&["--never-expires"]).expiry, Some(Expiry::NeverExpires(true)));
}

#[test]
fn commas_join_an_exception_and_repeating_the_flag_adds_another() {
    let exceptions = revocation(&["--sub", "a", "--except", "sid=1,iss=2", "--except", r"x=a\,b\\c"]).exceptions;
    let texts: Vec<String> = exceptions.iter().map(super::revoke::describe).collect();
    assert_eq!(texts, ["sid=1 iss=2", r"x=a,b\c"]);
}

#[test]
fn empty_and_contradicting_arguments_are_refused() {
    for (arguments, part) in [
        (&["revoke", "--sub", ""][..], "empty"),
        (&["revoke", "--token", ""], "empty"),
        (&["revoke", "--claim", "sub="], "empty"),
        (&["revoke", "--claim", "=x"], "empty"),
        (&["revoke", "--claim", "sub"], "name=value"),
        (&["revoke", "--sub", "a", "--reason", ""], "empty"),
        (&["revoke", "--sub", "a", "--except", "sid"], "name=value"),
        (&["revoke", "--sub", "a", "--except", "sid=1,"], "name=value"),
        (&["revoke", "--sub", "a", "--except", r"sid=\x"], "backslash"),
        (&["revoke", "--sub", "a", "--cutoff", "yesterday"], "RFC 3339"),
        (&["revoke", "--sub", "a", "--cutoff-on", "exp"], "auth_time"),
        (&["revoke", "--sub", "a", "--expires-in", "5"], "90d"),
        (&["revoke", "--sub", "a", "--expires-in", "1h", "--never-expires"], "cannot be used with"),
        (&["revoke", "--sub", "a", "--token", "T"], "cannot be used with"),
        (&["revoke", "--token", "T", "--token-file", "F"], "cannot be used with"),
        (&["revoke", "--sub", "a", "--batch", "F"], "cannot be used with"),
        (&["revoke", "--batch", "F", "--from-line", "0"], "from-line"),
        (&["revoke", "--sub", "a", "--server", "ftp://x"], "http://127.0.0.1:7009"),
        (&["status", "--server", "http://127.0.0.1:1,unix:x"], "absolute path"),
        (&["reinstate", "--id", "x", "--sub", "a"], "cannot be used with"),
        (&["check", "--token", "T", "--claims-file", "F"], "cannot be used with"),
        (&["check", "--token", "T", "--at-least", "1"], "32 hexadecimal digits"),
        (&["list", "--limit", "1001"], "1001"),
        (&["serve", "--listen", "7009"], "invalid socket address"),
        (&["serve", "--listen", "unix:rescind.sock"], "absolute path"),
        (&["serve", "--upstream", "http://a:1"], "unexpected argument"),
        (&["agent", "--upstream", "ftp://x"], "http://127.0.0.1:7009"),
        (&["agent", "--name", ""], "1 to 128 bytes"),
        (&["agent", "--public-key", "00"], "64 hexadecimal digits"),
        (&["agent", "--max-staleness", "4s"], "4s given"),
        (&["agent", "--when-stale", "panic"], "serve_stale"),
        (&["agent", "--override-policy", "deny"], "serve_stale"),
        (&["agent", "--override-policy", "serve_stale", "--when-stale", "deny"], "cannot be used with"),
    ] {
        check_refused(arguments, part);
    }
}

#[tokio::test]
async fn a_command_without_a_target_is_refused_before_anything_is_sent() {
    for arguments in [&["revoke"][..], &["reinstate"], &["check"]] {
        let refused = execute(&[arguments, &["--server", "http://127.0.0.1:1"]].concat()).await.unwrap_err();
        assert_eq!(refused.exit, Exit::CannotTell);
        assert!(refused.message.starts_with("say what to"), "{}", refused.message);
    }
}

#[tokio::test]
async fn a_revoke_reaches_the_server_and_a_dry_run_says_so() {
    let node = FakeNode::new();
    let arguments = ["revoke", "--sub", "alice", "--cutoff", "1767225600", "--never-expires", "--reason", "lost"];
    assert_eq!(run(&node, &arguments).await, Ok(Exit::Done));
    assert_eq!(run(&node, &["revoke", "--kid", "k1", "--dry-run", "--json"]).await, Ok(Exit::Done));
    let asked = node.revokes.lock();
    assert_eq!(asked[0].items[0].cutoff, CutoffChoice::At(UnixSeconds(1_767_225_600)));
    assert_eq!((asked[0].items[0].expiry, asked[0].items[0].reason.as_str()), (ExpiryChoice::Never, "lost"));
    assert!(!asked[0].dry_run && asked[1].dry_run);
    assert_eq!(asked[0].request_id.as_ref().map(String::len), Some(32), "an id is made up");
    assert_ne!(asked[0].request_id, asked[1].request_id);
}

#[tokio::test]
async fn yes_confirms_and_what_is_not_permitted_is_denied() {
    let node = FakeNode::new();
    assert_eq!(run(&node, &["revoke", "--iss", "https://a", "--yes"]).await, Ok(Exit::Done));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("batch.ndjson");
    std::fs::write(&path, "{\"selector\":{\"iss\":\"https://a\"}}\n").unwrap();
    let batch = ["revoke", "--batch", path.to_str().unwrap()];
    assert_eq!(run(&node, &[&batch[..], &["--yes"]].concat()).await, Ok(Exit::Done));
    let violation = |field: &str| Violation { field: field.into(), description: "needs the role admin".into() };
    let violations = vec![violation("revocations[0].selector"), violation("revocations[0].never_expires")];
    *node.write_error.lock() = Some(WriteError::NotPermitted { violations });
    let denied = run(&node, &batch).await.unwrap_err();
    assert_eq!(denied.exit, Exit::Denied);
    assert!(denied.message.contains("line 1.selector: needs the role admin; line 1.never_expires"), "{denied:?}");
    let asked = node.revokes.lock();
    assert_eq!(asked.iter().map(|request| request.confirmed).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(asked[1].request_id, asked[2].request_id, "confirming makes no other request of it");
}

#[tokio::test]
async fn refusals_end_with_their_exit_status() {
    let node = FakeNode::new();
    let long = "x".repeat(1025);
    let bad = run(&node, &["revoke", "--sub", &long]).await.unwrap_err();
    assert_eq!(bad.exit, Exit::CannotTell);
    assert!(bad.message.contains("1025 given"), "{}", bad.message);
    *node.write_error.lock() = Some(WriteError::OutcomeUnknown("stopped".into()));
    let unknown = run(&node, &["revoke", "--sub", "a", "--request-id", "r1"]).await.unwrap_err();
    assert_eq!(unknown.exit, Exit::Unreachable);
    assert!(unknown.message.contains("--request-id r1 is safe"), "{}", unknown.message);
}

#[tokio::test]
async fn check_answers_with_its_exit_status() {
    let node = FakeNode::new();
    let shape = Shape::new(["sub"], TestedClaim::Iat).unwrap();
    let check = ["check", "--token", "opaque", "--explain"];
    assert_eq!(run(&node, &check).await, Ok(Exit::Done));
    *node.verdict.lock() = Verdict::Revoked(Hit { shape, cutoff: Cutoff::UNBOUNDED });
    assert_eq!(run(&node, &check).await, Ok(Exit::Negative));
    *node.verdict.lock() = Verdict::Unknown(UnknownCause::Stale);
    assert_eq!(run(&node, &check).await, Ok(Exit::CannotTell));
    let malformed = run(&node, &["check", "--token", "a.b.!"]).await.unwrap_err();
    assert_eq!(malformed.exit, Exit::CannotTell);
    let unreachable = execute(&["check", "--token", "T", "--server", "http://127.0.0.1:1"]).await.unwrap_err();
    assert_eq!(unreachable.exit, Exit::CannotTell, "check ends with 0, 1 or 2 only");
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_cannot_be_reached() {
    let node = FakeNode::new();
    assert_eq!(run(&node, &["status", "--json", "--server", "http://127.0.0.1:1"]).await, Ok(Exit::Done));
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", dir.path().join("s").display());
    let after_a_port = ["status", "--json", "--server", "http://127.0.0.1:1"];
    assert_eq!(run_at(socket.parse().unwrap(), &node, &after_a_port).await, Ok(Exit::Done));
    let gone = execute(&["status", "--server", &socket]).await.unwrap_err();
    assert!(gone.exit == Exit::Unreachable && gone.message.contains(&socket), "{}", gone.message);
    let nobody = execute(&["status", "--server", "http://127.0.0.1:1,http://127.0.0.1:2"]).await.unwrap_err();
    assert_eq!(nobody.exit, Exit::Unreachable);
    assert!(nobody.message.contains("127.0.0.1:1") && nobody.message.contains("127.0.0.1:2"), "{}", nobody.message);
}

#[tokio::test]
async fn what_is_not_there_is_a_negative_answer() {
    let node = FakeNode::new();
    assert_eq!(run(&node, &["list", "--claim", "sub=alice", "--live"]).await, Ok(Exit::Done));
    assert_eq!(run(&node, &["list", "--id", &ID.to_string(), "--json"]).await, Ok(Exit::Done));
    assert_eq!(run(&node, &["list", "--id", "abababab-9-9"]).await, Ok(Exit::Negative));
    assert_eq!(run(&node, &["reinstate", "--id", &ID.to_string(), "--reason", "found"]).await, Ok(Exit::Done));
    assert_eq!(node.reinstates.lock()[0].reason, "found");
}

#[tokio::test]
async fn a_batch_is_sent_in_chunks_and_says_where_to_resume() {
    let node = FakeNode::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("batch.ndjson");
    let line = |n: usize| format!("{{\"selector\":{{\"sub\":\"{n}\"}},\"cutoff\":\"2026-01-01T00:00:00Z\"}}\n");
    let mut text: String = (0..10_001).map(line).collect();
    text.push_str("{\"selector\":{\"sub\":\"\"}}\n");
    std::fs::write(&path, &text).unwrap();
    let batch = ["revoke", "--batch", path.to_str().unwrap()];
    let refused = run(&node, &batch).await.unwrap_err();
    assert_eq!(refused.exit, Exit::CannotTell);
    for part in ["line 10002.selector", "empty", "10000 accepted", "--from-line 10001"] {
        assert!(refused.message.contains(part), "{part:?} is missing in {}", refused.message);
    }
    assert_eq!(node.revokes.lock().len(), 1);
    std::fs::write(&path, text.replace("\"sub\":\"\"", "\"sub\":\"last\"")).unwrap();
    assert_eq!(run(&node, &[&batch[..], &["--from-line", "10001"]].concat()).await, Ok(Exit::Done));
    assert_eq!(node.revokes.lock()[1].items.len(), 2);
}

#[tokio::test]
async fn a_backup_comes_over_the_wire_and_one_that_breaks_off_is_none() {
    use crate::authority::backup::{Listed, Manifest};
    use crate::revocation::ports::{BackupPart, OperateError};
    use crate::surface::testing::HERE;
    use sha2::Digest as _;
    let node = FakeNode::new();
    let bytes = vec![7; 1000];
    let sha256: [u8; 32] = sha2::Sha256::digest(&bytes).into();
    let name = "journal.sqlite".to_owned();
    let parts = [
        BackupPart::Position(HERE),
        BackupPart::File { name: name.clone(), length: 1000 },
        BackupPart::Chunk(bytes[..600].to_vec()),
        BackupPart::Chunk(bytes[600..].to_vec()),
        BackupPart::FileEnd { sha256 },
        BackupPart::End { files: 1 },
    ];
    *node.backup.lock() = parts.into_iter().map(Ok).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(run(&node, &["journal", "backup", &path("whole")]).await, Ok(Exit::Done));
    let files = vec![Listed { name, length: 1000, sha256 }];
    let manifest = Manifest::read(&dir.path().join("whole")).unwrap();
    assert_eq!(manifest, Some(Manifest { position: HERE, files }));
    assert_eq!(std::fs::read(path("whole/journal.sqlite")).unwrap(), bytes);
    let again = run(&node, &["journal", "backup", &path("whole")]).await.unwrap_err();
    assert_eq!((again.exit, again.message.contains("is not empty")), (Exit::CannotTell, true));
    node.backup.lock()[3] = Err(OperateError::Unavailable("disk gone".into()));
    let broken = run(&node, &["journal", "backup", &path("broken")]).await.unwrap_err();
    assert_eq!((broken.exit, broken.message.contains("disk gone")), (Exit::Unreachable, true));
    assert_eq!(Manifest::read(&dir.path().join("broken")).unwrap(), None);
}

#[tokio::test]
async fn a_loss_is_accepted_with_yes_only_and_for_a_generation_that_is_past() {
    let node = FakeNode::new();
    check_refused(&["journal", "accept-loss", "--generation", "1"], "--yes");
    check_refused(&["journal", "accept-loss", "--generation", "0", "--yes"], "0");
    assert_eq!(run(&node, &["journal", "accept-loss", "--generation", "1", "--yes"]).await, Ok(Exit::Done));
    let refused = run(&node, &["journal", "accept-loss", "--generation", "9", "--yes"]).await.unwrap_err();
    assert_eq!((refused.exit, refused.message.contains("is not past")), (Exit::CannotTell, true), "{refused:?}");
}

#[tokio::test]
async fn a_credential_is_made_once_listed_and_revoked() {
    let node = FakeNode::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway");
    let out = file.display().to_string();
    let create = ["credential", "create", "--name", "gateway", "--role", "check", "--role=revoke", "--expires-in=1h"];
    assert_eq!(run(&node, &[&create[..], &["--issuer=idp", "--out", &out]].concat()).await, Ok(Exit::Done));
    let text = std::fs::read_to_string(&file).unwrap();
    let presented: crate::security::credential::Presented = text.trim_end().parse().unwrap();
    let kept = node.credentials.lock()[0].clone();
    assert!(presented.id == kept.id && presented.secret.agrees(&kept.hash));
    assert_eq!(kept.grant.issuers, Some(vec!["idp".to_owned()]));
    assert_eq!(kept.expires_at, Some(UnixSeconds(1_767_225_600 + 3600)), "by the server's clock");
    assert_eq!(run(&node, &["credential", "list", "--json"]).await, Ok(Exit::Done));

    let again = run(&node, &[&create[..], &["--out", &out]].concat()).await.unwrap_err();
    assert_eq!((again.exit, node.credentials.lock().len()), (Exit::CannotTell, 1), "nothing is made in vain");

    assert_eq!(run(&node, &create).await, Ok(Exit::Done));
    assert_eq!(run(&node, &["credential", "revoke", &kept.id.to_string()]).await, Ok(Exit::Done));
    assert_eq!(run(&node, &["credential", "revoke", "--name", "gateway"]).await, Ok(Exit::Done));
    assert_eq!(node.credentials.lock().len(), 0);
    let none = run(&node, &["credential", "revoke", "--name", "gateway"]).await.unwrap_err();
    assert_eq!(none.exit, Exit::CannotTell);
    check_refused(&["credential", "create", "--name", "a"], "--role");
    check_refused(&["credential", "create", "--name=a", "--role=root"], "root");
    check_refused(&["credential", "revoke"], "ID");
}

#[tokio::test]
async fn an_export_that_breaks_off_says_where_to_go_on() {
    use crate::journal::{Checksum, contract::sample, link};
    use crate::revocation::ports::{ExportPart, ExportedRecord, OperateError};
    use crate::revocation::{Position, Revision};

    let node = FakeNode::new();
    let mut before: Checksum = [0; 32];
    let mut records = sample::one_of_each().into_iter().map(|record| {
        let bytes = record.encode().unwrap();
        before = link(&before, record.revision, &bytes);
        ExportedRecord { checksum: before, bytes }
    });
    let head = Position { epoch: [1; 16], revision: Revision(12) };
    let begin = ExportPart::Begin { head, generation: 1, ancestors: Vec::new() };
    let first = ExportPart::Records(records.by_ref().take(5).collect());
    let rest = ExportPart::Records(records.collect());
    *node.export.lock() = vec![Ok(begin), Ok(first), Ok(rest)];
    assert_eq!(run(&node, &["journal", "export"]).await, Ok(Exit::Done));
    assert_eq!(*node.exported_from.lock(), Some(Revision(0)));
    node.export.lock().truncate(2);
    let broken = run(&node, &["journal", "export", "--from", "3"]).await.unwrap_err();
    assert_eq!(broken.exit, Exit::Unreachable);
    assert!(broken.message.ends_with("--from 6"), "{}", broken.message);
    assert_eq!(*node.exported_from.lock(), Some(Revision(3)));
    node.export.lock()[1] = Err(OperateError::Pruned { oldest: Revision(7) });
    let pruned = run(&node, &["journal", "export", "--from", "3"]).await.unwrap_err();
    assert_eq!(
        (pruned.exit, pruned.message.as_str()),
        (Exit::CannotTell, "records before revision 7 have been pruned")
    );
}

#[tokio::test]
async fn a_policy_is_applied_with_its_reason_and_shown_as_it_was_written() {
    use crate::revocation::ports::PolicyError;

    let node = FakeNode::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    let file = path.to_str().unwrap();
    std::fs::write(&path, "# ours\n[[class]]\nname = \"orders\"\n").unwrap();
    assert!(run(&node, &["policy", "show"]).await.unwrap_err().message.contains("no verification policy is in force"));
    assert_eq!(run(&node, &["policy", "apply", file, "--dry-run"]).await, Ok(Exit::Done));
    assert_eq!(node.policies.lock().len(), 0);
    assert_eq!(run(&node, &["policy", "apply", file, "--reason", "why"]).await, Ok(Exit::Done));
    let applied = node.policies.lock()[0].clone();
    assert_eq!((applied.reason.as_str(), applied.source.as_str()), ("why", "# ours\n[[class]]\nname = \"orders\"\n"));
    assert_eq!(run(&node, &["policy", "revert", "1"]).await, Ok(Exit::Done));
    assert_eq!(node.policies.lock()[1].reverts_to, Some(1));
    for asked in [&["policy", "show"][..], &["policy", "show", "--version=1"], &["policy", "history", "--json"]] {
        assert_eq!(run(&node, asked).await, Ok(Exit::Done), "{asked:?}");
    }
    std::fs::write(&path, "[[class]]\nname = \"a b\"\n").unwrap();
    let wrong = run(&node, &["policy", "apply", file]).await.unwrap_err();
    assert!(wrong.message.contains("policy.toml: text: line 1: name: ASCII letters"), "{}", wrong.message);
    std::fs::write(&path, "").unwrap();
    for error in [
        PolicyError::OtherVersion { expected: 1, current: 2 },
        PolicyError::NoSuchVersion { version: 7 },
        PolicyError::LeavesBehind { count: 1, named: vec!["gateway".into()] },
    ] {
        *node.policy_error.lock() = Some(error.clone());
        let refused = run(&node, &["policy", "apply", file, "--expect-version=1"]).await.unwrap_err();
        assert_eq!((refused.exit, refused.message), (Exit::CannotTell, format!("{file}: {error}")));
    }
    check_refused(&["policy", "revert", "0"], "VERSION");
}
