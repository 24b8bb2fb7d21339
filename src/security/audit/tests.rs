//! What is written of denials, how it is bounded, and that every tampering is found.

use std::path::PathBuf;
use std::sync::Arc;

use super::line::Line;
use super::*;
use crate::clock::ManualTime;
use crate::revocation::Grant;
use crate::revocation::grant::Role;
use crate::revocation::ports::CredentialId;
use crate::security::access::Claimed;
use crate::security::call::{Call, Need};
use crate::security::principals::Principal;

const NOON: UnixMillis = UnixMillis(1_767_268_800_042);

fn denial(name: &str) -> Denial {
    let principal = Arc::new(Principal { name: name.into(), grant: Arc::new(Grant::default()) });
    Denial {
        reason: DenialReason::Role { need: Need::Role(Role::Admin) },
        claimed: Claimed::Principal(principal),
        call: Some(Call::Reinstate),
        retry_after: None,
        keys_of: None,
    }
}

fn guess(id: u8) -> Denial {
    Denial {
        reason: DenialReason::Unknown,
        claimed: Claimed::Credential(CredentialId([id; 8])),
        call: Some(Call::Revoke),
        retry_after: None,
        keys_of: None,
    }
}

fn noted(at: u64, denial: Denial) -> Noted {
    Noted { at: UnixMillis(NOON.0 + at), denial, peer: "192.0.2.1".into() }
}

fn lines(count: u64) -> Vec<Line> {
    let mut window = Window::default();
    (0..count).for_each(|n| window.note(noted(n, denial(&format!("gate {n}")))));
    window.take().0
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("denied.ndjson");
    (dir, path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn what_is_the_same_within_a_window_is_one_line_with_a_count() {
    let mut window = Window::default();
    for at in [0, 1_000, 4_000] {
        window.note(noted(at, denial("gate")));
    }
    window.note(noted(7, guess(1)));
    let (lines, denials) = window.take();
    assert_eq!((lines.len(), denials), (2, 4));
    let (text, _) = lines[0].render(9, Default::default()).unwrap();
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (key, value) in [
        ("at", "2026-01-01T12:00:00.042Z".into()),
        ("until", "2026-01-01T12:00:04.042Z".into()),
        ("count", 3.into()),
        ("principal", "gate".into()),
        ("peer", "192.0.2.1".into()),
        ("call", "Reinstate".into()),
        ("needs", "admin".into()),
        ("reason", "role".into()),
        ("lost", 9.into()),
        ("prev", "0".repeat(64).into()),
    ] as [(&str, serde_json::Value); 10]
    {
        assert_eq!(told[key], value, "{key} in {text}");
    }
    let (text, _) = lines[1].render(0, Default::default()).unwrap();
    assert!(text.contains("\"credential\":\"0101010101010101\"") && !text.contains("lost"), "{text}");
    assert_eq!(window.take(), (Vec::new(), 0));
}

#[test]
fn a_flood_takes_no_more_lines_than_a_window_holds() {
    let mut window = Window::default();
    for n in 0..100_000_u64 {
        window.note(Noted { at: NOON, denial: guess(n as u8), peer: format!("peer {n}") });
    }
    let (lines, denials) = window.take();
    assert_eq!((lines.len(), denials), (257, 100_000));
    let others = lines.iter().find(|line| line.reason == "others").unwrap();
    assert_eq!(others.count, 100_000 - 256);
}

#[test]
fn the_chain_goes_on_over_restarts_rotations_and_torn_lines() {
    let (_dir, path) = file();
    let mut denied = DeniedFile::open(&path, 4096).unwrap();
    denied.append(lines(3), 0).unwrap();
    drop(denied);
    assert_eq!(verify(&path).unwrap().lines, 3);
    let whole = read(&path);
    std::fs::write(&path, format!("{whole}{{\"at\":\"2026")).unwrap();
    let torn = verify(&path).unwrap();
    assert_eq!((torn.lines, torn.is_torn, torn.is_whole), (3, true, true));

    let mut denied = DeniedFile::open(&path, 4096).unwrap();
    assert_eq!(read(&path), whole, "what was begun is taken off");
    denied.append(lines(3), 1).unwrap();
    let verified = verify(&path).unwrap();
    assert_eq!((verified.lines, verified.is_torn), (6, false));
    while !rotated(&path).exists() {
        denied.append(lines(3), 0).unwrap();
    }
    drop(denied);
    let verified = verify(&path).unwrap();
    assert!(verified.is_whole && verified.lines > 9, "{verified:?}");
    let size = std::fs::metadata(rotated(&path)).unwrap().len();
    assert!(size <= 4096, "{size}");

    // Between the rotation and its first line.
    std::fs::write(&path, "").unwrap();
    DeniedFile::open(&path, 4096).unwrap().append(lines(1), 0).unwrap();
    assert!(verify(&path).unwrap().is_whole);
    std::fs::remove_file(rotated(&path)).unwrap();
    assert!(!verify(&path).unwrap().is_whole, "the lines before are gone, and it says so");
}

#[test]
fn a_file_that_was_taken_away_does_not_end_the_writing() {
    let (_dir, path) = file();
    let mut denied = DeniedFile::open(&path, 1024).unwrap();
    denied.append(lines(3), 0).unwrap();
    std::fs::rename(&path, rotated(&path)).unwrap();
    denied.append(lines(3), 0).unwrap();
    assert_eq!(verify(&path).unwrap().lines, 6, "nothing is left but to begin the next file");
}

fn rotated(path: &Path) -> PathBuf {
    super::file::rotated(path)
}

#[test]
fn a_line_that_was_changed_taken_out_or_put_in_is_found() {
    let (_dir, path) = file();
    DeniedFile::open(&path, 1 << 20).unwrap().append(lines(4), 0).unwrap();
    let text = read(&path);
    let all: Vec<&str> = text.lines().collect();
    let check = |lines: &[&str], expected: &str| {
        std::fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let error = verify(&path).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    };
    let changed = all[1].replace("gate 1", "gate 9");
    check(&[all[0], &changed, all[2], all[3]], "line 2 is not as it was written");
    check(&[all[0], all[2], all[3]], "line 2 does not follow the one before it");
    check(&[all[0], all[2], all[1], all[3]], "line 2 does not follow the one before it");
    check(&[all[0], all[1], all[1], all[2]], "line 3 does not follow the one before it");
    check(&[all[0], "", all[1]], "line 2 is not as it was written");
    check(&[&"x".repeat(5000)], "line 1 is not as it was written");
    assert!(matches!(verify(Path::new("/nowhere/denied.ndjson")), Err(VerifyError::Unreadable { .. })));
}

#[test]
fn what_was_noted_is_written_by_the_time_it_stops() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, path) = file();
    let denials = Denials::written(&path, Clock::manual(ManualTime::starting_at(NOON))).unwrap();
    for _ in 0..5 {
        denials.note(denial("gate"), "192.0.2.1".into());
    }
    denials.note(guess(7), "192.0.2.2".into());
    denials.stop();
    denials.note(guess(7), "192.0.2.2".into());
    assert_eq!(denials.counts().iter().sum::<u64>(), 7);
    let text = read(&path);
    let counted: u64 = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["count"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, 6, "{text}");
    assert!(text.contains("0707070707070707") && verify(&path).unwrap().is_whole, "{text}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn denials_are_counted_without_a_file_too() {
    let denials = Denials::default();
    denials.note(guess(1), String::new());
    assert_eq!(denials.counts()[DenialReason::Unknown.index()], 1);
    assert!(Denials::written(Path::new("/nowhere/denied.ndjson"), Clock::system()).is_err());
}
