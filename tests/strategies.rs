//! The pages in `docs/strategies`, followed word for word: each `bash` block is run, in one shell, and has to say what the `text`
//! block behind it says. Only the ports are others, so that pages can be followed side by side.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::server::BINARY;
use common::{example, wait_until};

/// The ports that the pages name.
const PORTS: [u16; 6] = [7009, 7010, 7019, 7020, 8000, 8080];
/// How long a page may take, a build of an example included.
const WITHIN: Duration = Duration::from_secs(300);
/// What separates the blocks in what the shell says.
const MARK: &str = "@@ end of block";

/// A block of commands, and what they have to say.
#[derive(Debug, Default)]
struct Step {
    commands: String,
    says: String,
}

/// The blocks of a page, in order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut kind = None;
    for line in page.lines() {
        match (kind, line.strip_prefix("```")) {
            (None, Some(name)) => {
                kind = Some(name);
                if name == "bash" {
                    steps.push(Step::default());
                }
            }
            (Some(_), Some(_)) => kind = None,
            (Some("bash"), None) => steps.last_mut().unwrap().commands.extend([line, "\n"]),
            (Some("text"), None) => steps.last_mut().expect("text behind commands").says.extend([line, "\n"]),
            _ => {}
        }
    }
    steps
}

/// Ports that nobody has, below those that the system gives out by itself.
fn ports() -> [u16; PORTS.len()] {
    let mut from = 20_000 + (std::process::id() % 1000) as u16 * 10;
    PORTS.map(|_| {
        while TcpListener::bind((Ipv4Addr::LOCALHOST, from)).is_err() {
            from += 1;
        }
        from += 1;
        from - 1
    })
}

/// A shell and everything that it began.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-9", "--", &group]).status();
        let _ = self.0.wait();
    }
}

fn follow(page: &str) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(repository.join("docs/strategies").join(page)).unwrap();
    let steps = steps(&text);
    assert!(steps.len() >= 4, "{page} has hardly any commands");
    let dir = tempfile::tempdir().unwrap();
    let ports = ports();
    let mut script = "set -euo pipefail\n".to_owned();
    for step in &steps {
        script.extend([step.commands.as_str(), "echo '", MARK, "'\n"]);
    }
    if script.contains("--example guarded") {
        let built = example::build("guarded").display().to_string();
        script = script.replace("cargo run --quiet --example guarded --", &built);
    }
    let places = ["serve", "agent"].map(|command| format!("rescind {command} "));
    let listens = [
        format!("--listen 127.0.0.1:{} --ops-listen 127.0.0.1:{} ", PORTS[0], PORTS[1]),
        format!("--listen 127.0.0.1:{} --ops-listen 127.0.0.1:{} ", PORTS[2], PORTS[3]),
    ];
    for (command, listen) in places.iter().zip(&listens) {
        script = script.replace(command, &format!("{command}{listen}"));
    }
    let script = elsewhere(&script, &ports);
    copy(&repository.join("deploy"), &dir.path().join("deploy"), &ports);

    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}:/usr/sbin", Path::new(BINARY).parent().unwrap().display());
    let (said, logged) = (dir.path().join("said"), dir.path().join("logged"));
    let file = |path: &PathBuf| Stdio::from(std::fs::File::create(path).unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(dir.path()).env("PATH", path).env("RUST_BACKTRACE", "0");
    // The command line's own default is one of the ports.
    shell.env("RESCIND_SERVER", format!("http://127.0.0.1:{}", ports[0]));
    // Jobs of their own, as in a terminal, so that `%1` is the first of them.
    shell.stdin(Stdio::null()).stdout(file(&said)).stderr(file(&logged)).process_group(0);
    let mut shell = Shell(shell.spawn().unwrap());
    let ended = wait_until(page, WITHIN, || shell.0.try_wait().unwrap());
    let said = std::fs::read_to_string(said).unwrap();
    let logged = std::fs::read_to_string(logged).unwrap();
    let mut parts = said.split(MARK);
    for (index, step) in steps.iter().enumerate() {
        let part = parts.next().unwrap_or_default();
        assert_eq!(part.trim(), step.says.trim(), "{page}, block {}:\n{}\n{logged}", index + 1, step.commands);
    }
    assert!(ended.success(), "{page}: {ended}\n{logged}");
}

/// The text with other ports.
fn elsewhere(text: &str, ports: &[u16]) -> String {
    let named = PORTS.iter().zip(ports);
    named.fold(text.to_owned(), |text, (page, here)| {
        text.replace(&format!("127.0.0.1:{page}"), &format!("127.0.0.1:{here}"))
            .replace(&format!("http.server {page}"), &format!("http.server {here}"))
    })
}

/// A folder once more, with other ports.
fn copy(from: &Path, to: &Path, ports: &[u16]) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to, ports);
            continue;
        }
        std::fs::write(&to, elsewhere(&std::fs::read_to_string(entry.path()).unwrap(), ports)).unwrap();
        std::fs::set_permissions(&to, entry.metadata().unwrap().permissions()).unwrap();
    }
}

#[test]
fn the_page_for_a_shared_blacklist_holds() {
    follow("shared-blacklist.md");
}

#[test]
fn the_page_for_an_auth_service_holds() {
    follow("auth-service.md");
}

#[test]
fn the_page_for_local_verification_holds() {
    follow("local-verification.md");
}

#[test]
fn the_page_for_a_gateway_holds() {
    follow("gateway.md");
}

#[test]
fn every_page_is_followed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/strategies");
    let pages = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut pages: Vec<_> = pages.collect();
    pages.sort();
    assert_eq!(pages, ["auth-service.md", "gateway.md", "local-verification.md", "shared-blacklist.md"]);
}
