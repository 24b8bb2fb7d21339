//! The rules of the house that the compiler does not check: who imports whom, how long files are, what a client pulls in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest file, in lines, tests included.
const LINES_MAX: usize = 600;

/// What each room may import beside itself. A room that is not listed is refused.
const IMPORTS: [(&str, &[&str]); 18] = [
    ("revocation", &[]),
    ("clock", &["revocation"]),
    ("replication", &["revocation"]),
    ("token", &["revocation", "clock"]),
    ("client", &["replica", "wire", "token", "security", "revocation", "clock"]),
    ("journal", &["revocation", "clock"]),
    ("authority", &["revocation", "replication", "journal", "hub", "clock"]),
    ("hub", &["revocation", "replication", "clock"]),
    ("relay", &["revocation", "replication", "hub", "replica", "clock"]),
    ("replica", &["revocation", "replication", "clock"]),
    ("wire", &["revocation", "replication", "replica", "security"]),
    ("security", &["revocation", "clock", "token"]),
    // Subscriptions are driven beside their sockets: the sending machine is pure, as the core is.
    ("surface", &["revocation", "replication", "token", "wire", "security"]),
    ("telemetry", &[]),
    ("config", &["revocation", "surface", "journal", "authority", "replica", "security", "telemetry"]),
    ("app", ALL),
    ("cli", ALL),
    // The door for fuzz targets: nobody imports it.
    ("fuzzing", &["authority", "cli", "journal", "replica", "replication", "revocation", "surface", "token", "wire"]),
];
const ALL: &[&str] = &[
    "revocation",
    "clock",
    "replication",
    "token",
    "client",
    "journal",
    "authority",
    "hub",
    "relay",
    "replica",
    "wire",
    "security",
    "surface",
    "telemetry",
    "config",
    "app",
];

/// The crates that the core may use: data only, no I/O, no clock, no runtime.
const CORE_CRATES: [&str; 18] = [
    "arc_swap",
    "base64",
    "bytes",
    "core",
    "crc32c",
    "dashmap",
    "ed25519_dalek",
    "hashbrown",
    // Only in builds for the model checker.
    "loom",
    "parking_lot",
    "proptest",
    "self",
    "sha2",
    "siphasher",
    "std",
    "super",
    "thiserror",
    "zeroize",
];

/// Crates that only a server needs.
const SERVER_CRATES: [&str; 13] = [
    "anyhow",
    "axum",
    "clap",
    "clap_complete",
    "jiff",
    "libsqlite3-sys",
    "prometheus-client",
    "rusqlite",
    "toml",
    "tonic-health",
    "tonic-reflection",
    "tonic-types",
    "tracing-subscriber",
];

#[test]
fn rooms_import_only_what_lies_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = IMPORTS.into_iter().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let Some(room) = room_of(&path) else { continue };
        let Some(below) = allowed.get(room.as_str()) else {
            wrong.push(format!("{}: the room {room} is not in the table", path.display()));
            continue;
        };
        for import in crate_imports(&text) {
            let is_test = path.ends_with("tests.rs") || path.ends_with("testing.rs");
            if import != room && !below.contains(&import.as_str()) && !is_test {
                wrong.push(format!("{}: {room} must not import {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_core_uses_data_only_crates() {
    let core = sources("src/revocation");
    let modules = core_modules(&core);
    let mut wrong = Vec::new();
    for (path, text) in &core {
        for line in text.lines().map(str::trim_start).filter_map(|line| line.strip_prefix("use ")) {
            let name = line.split([':', ';', ' ']).next().unwrap_or_default();
            if !CORE_CRATES.contains(&name) && name != "crate" && !modules.contains(name) {
                wrong.push(format!("{}: {name}", path.display()));
            }
        }
        for forbidden in ["std::fs", "std::net", "std::thread::spawn", "std::time::Instant", "SystemTime"] {
            if text.contains(forbidden) {
                wrong.push(format!("{}: {forbidden}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_stays_short() {
    let mut wrong = Vec::new();
    for (path, text) in ["src", "tests", "benches", "examples", "fuzz/src"].into_iter().flat_map(sources) {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{}: {lines} lines, at most {LINES_MAX}", path.display()));
        }
        if !text.starts_with("//!") && !path.ends_with("tests.rs") {
            wrong.push(format!("{}: does not open with //!", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_client_pulls_in_no_server_code() {
    let tree = |features: &[&str]| {
        let output = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--offline",
                "--locked",
                "-e",
                "normal,no-proc-macro",
                "--prefix",
                "none",
                "--format",
                "{p}",
            ])
            .args(["--no-default-features"])
            .args(features)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let client = tree(&["--features", "client"]);
    let server = tree(&["--features", "server"]);
    assert!(client.contains("tonic"), "{client:?}");
    for name in SERVER_CRATES {
        assert!(server.contains(name), "{name} is no longer a dependency: correct this list");
        assert!(!client.contains(name), "{name} is a dependency of the client");
    }
}

/// The Rust files below a folder of the package, with their texts.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut files) = (vec![root.join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
                files.push((path.strip_prefix(root).expect("it lies below the root").to_owned(), text));
            }
        }
    }
    files
}

/// The room that a source file lies in; `None` for the roof (`lib.rs`, `main.rs`).
fn room_of(path: &Path) -> Option<String> {
    let first = path.strip_prefix("src").ok()?.components().next()?.as_os_str().to_str()?;
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(room, "lib" | "main")).then(|| room.to_owned())
}

/// The rooms named by `use crate::…`.
fn crate_imports(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for statement in text.split("use crate::").skip(1) {
        let statement = statement.split(';').next().unwrap_or_default();
        match statement.strip_prefix('{') {
            None => rooms.extend(first_word(statement)),
            Some(list) => rooms.extend(top_level_words(list)),
        }
    }
    rooms
}

/// The words at the top level of `a::{b, c}, d}`.
fn top_level_words(list: &str) -> Vec<String> {
    let (mut depth, mut words, mut part) = (0_i32, Vec::new(), String::new());
    for character in list.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => words.extend(first_word(&std::mem::take(&mut part))),
            _ => {}
        }
        if depth < 0 {
            break;
        }
        if character != ',' || depth > 0 {
            part.push(character);
        }
    }
    words.extend(first_word(&part));
    words
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// The modules that the core declares, at any depth.
fn core_modules(core: &[(PathBuf, String)]) -> BTreeSet<&str> {
    let lines = core.iter().flat_map(|(_, text)| text.lines());
    lines.filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')).collect()
}

#[test]
fn imports_are_read_in_every_form() {
    let text = "use crate::a::B;\nuse crate::{c::{D, e}, f};\nuse crate::g;\nuse std::h;";
    assert_eq!(crate_imports(text).into_iter().collect::<Vec<_>>(), ["a", "c", "f", "g"]);
}

#[test]
fn every_test_with_processes_runs_secured_or_is_left_out_by_name() {
    let script = include_str!("../scripts/test-secure.sh");
    let list = |name: &str| -> BTreeSet<String> {
        let line = script.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("=(")?.strip_suffix(')'));
        line.unwrap().split_whitespace().map(str::to_owned).collect()
    };
    let (secured, left_out) = (list("programs"), list("left_out"));
    assert!(secured.is_disjoint(&left_out));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let programs = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let starts_processes = |path: &PathBuf| {
        path.is_file() && std::fs::read_to_string(path).unwrap().lines().any(|line| line == "mod common;")
    };
    let found: BTreeSet<String> =
        programs.filter(starts_processes).map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(found, &secured | &left_out);
}
