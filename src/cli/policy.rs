//! `rescind policy`: whose tokens are accepted, and what each class of routes asks of them.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::Servers;
use super::exit::{Exit, Failure};
use super::output::{note, plain, say};
use crate::revocation::ports::POLICY_SOURCE_BYTES_MAX;
use crate::surface::http::{render_millis, render_time};
use crate::surface::parse_policy;
use crate::wire::pb;
use crate::wire::pb::admin_service_client::AdminServiceClient;
use crate::wire::pb::apply_policy_request::Policy as Choice;

#[derive(Debug, Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put a policy in force everywhere: services follow it live.
    Apply(Apply),
    /// Print the policy in force, or an earlier version, as it was written.
    Show(Show),
    /// List who applied which version, when and why, newest first.
    History(History),
    /// Put in force again what an earlier version said, as a new version.
    Revert(Revert),
    /// Say whether a file is a valid policy. Asks no server.
    Check(Check),
}

/// How a change is made.
#[derive(Debug, Args)]
struct Terms {
    /// Decide, change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Refuse unless this version is in force; 0: unless there is none.
    #[arg(long, value_name = "N")]
    expect_version: Option<u64>,
    /// For the audit trail.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Apply the first policy although members are connected that cannot follow it: they are sent away and go stale.
    #[arg(long)]
    leave_behind: bool,
    #[command(flatten)]
    servers: Servers,
}

#[derive(Debug, Args)]
struct Apply {
    /// The policy, in TOML; - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Debug, Args)]
struct Show {
    /// This version, instead of the one in force.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
    #[command(flatten)]
    servers: Servers,
}

#[derive(Debug, Args)]
struct History {
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    servers: Servers,
}

#[derive(Debug, Args)]
struct Revert {
    /// The version to go back to.
    #[arg(value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    version: u64,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Debug, Args)]
struct Check {
    /// The policy, in TOML; - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Policy {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::Apply(Apply { file, terms }) => {
                let text = read(&file)?;
                terms.ask(Choice::Text(text), &format!("{}: ", file.display())).await
            }
            Command::Show(command) => command.run().await,
            Command::History(command) => command.run().await,
            Command::Revert(Revert { version, terms }) => terms.ask(Choice::RevertTo(version), "").await,
            Command::Check(Check { file }) => check(&file),
        }
    }
}

impl Terms {
    async fn ask(self, policy: Choice, what: &str) -> Result<Exit, Failure> {
        let Self { dry_run, expect_version, reason, leave_behind, servers } = self;
        let policy = Some(policy);
        let request =
            pb::ApplyPolicyRequest { policy, expected_version: expect_version, reason, dry_run, leave_behind };
        let mut client = AdminServiceClient::new(servers.connect().await?);
        let applied = client.apply_policy(request).await.map_err(|status| {
            let failure = Failure::from(status);
            Failure { message: format!("{what}{}", failure.message), ..failure }
        })?;
        let applied = applied.into_inner();
        let version = applied.version;
        match (applied.unchanged, dry_run) {
            (true, _) => say(format_args!("unchanged: version {version} says the same")),
            (false, true) => say(format_args!("would become version {version}")),
            (false, false) => say(format_args!("version {version} is in force")),
        }
        Ok(Exit::Done)
    }
}

impl Show {
    async fn run(self) -> Result<Exit, Failure> {
        let mut client = AdminServiceClient::new(self.servers.connect().await?);
        let request = pb::GetPolicyRequest { version: self.version.unwrap_or(0) };
        let shown = client.get_policy(request).await?.into_inner();
        let record = shown.policy.unwrap_or_default();
        if shown.rendered {
            note(&format!(
                "version {}; the text that was applied is at the authority, this says the same",
                record.version
            ));
        } else {
            note(&line(&record));
        }
        for line in shown.text.lines() {
            // Tabs are part of the text; everything else that a terminal would obey is shown.
            say(line.split('\t').map(plain).collect::<Vec<_>>().join("\t"));
        }
        Ok(Exit::Done)
    }
}

impl History {
    async fn run(self) -> Result<Exit, Failure> {
        let mut client = AdminServiceClient::new(self.servers.connect().await?);
        let listed = client.list_policies(pb::ListPoliciesRequest {}).await?.into_inner().policies;
        if self.json {
            say(json!({ "policies": listed.iter().map(render).collect::<Vec<_>>() }));
        } else {
            listed.iter().for_each(|record| say(plain(&line(record))));
        }
        Ok(Exit::Done)
    }
}

fn check(file: &Path) -> Result<Exit, Failure> {
    let policy = parse_policy(&read(file)?).map_err(|error| Failure::cannot(format!("{}: {error}", file.display())))?;
    let (issuers, classes) = (policy.issuers().len(), policy.classes().len());
    say(format_args!("valid: {issuers} issuers, {classes} classes of routes"));
    Ok(Exit::Done)
}

/// The text of a file, one byte beyond its limit at most: whoever parses it says what the limit is.
fn read(file: &Path) -> Result<String, Failure> {
    let cannot = |error: std::io::Error| Failure::cannot(format!("cannot read {}: {error}", file.display()));
    let limit = POLICY_SOURCE_BYTES_MAX as u64 + 1;
    let mut text = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut text).map_err(cannot)?;
    } else {
        File::open(file).map_err(cannot)?.take(limit).read_to_end(&mut text).map_err(cannot)?;
    }
    if text.len() > POLICY_SOURCE_BYTES_MAX {
        let what = format!("{}: a policy has at most {POLICY_SOURCE_BYTES_MAX} bytes", file.display());
        return Err(Failure::cannot(what));
    }
    String::from_utf8(text).map_err(|_| Failure::cannot(format!("{}: is not UTF-8", file.display())))
}

fn line(record: &pb::PolicyRecord) -> String {
    let pb::PolicyRecord { version, applied_at_millis, applied_by, peer, reason, reverts_to } = record;
    let at = render_time(applied_at_millis / 1000);
    let from = if peer.is_empty() { String::new() } else { format!(" from {peer}") };
    let reverts = if *reverts_to == 0 { String::new() } else { format!("  reverts to {reverts_to}") };
    let reason = if reason.is_empty() { String::new() } else { format!("  {reason}") };
    format!("version {version}  {at}  by {applied_by}{from}{reverts}{reason}")
}

fn render(record: &pb::PolicyRecord) -> Value {
    json!({
        "version": record.version,
        "applied_at": render_millis(record.applied_at_millis),
        "applied_by": record.applied_by,
        "peer": record.peer,
        "reason": record.reason,
        "reverts_to": (record.reverts_to > 0).then_some(record.reverts_to),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_listed_with_who_when_and_why() {
        let record = pb::PolicyRecord {
            version: 3,
            applied_at_millis: 60_000,
            applied_by: "root".into(),
            peer: "192.0.2.1".into(),
            reason: "back".into(),
            reverts_to: 1,
        };
        assert_eq!(line(&record), "version 3  1970-01-01T00:01:00Z  by root from 192.0.2.1  reverts to 1  back");
        assert_eq!(render(&record)["reverts_to"], 1);
        let first = pb::PolicyRecord { reverts_to: 0, ..record };
        assert_eq!(render(&first)["reverts_to"], Value::Null);
    }

    #[test]
    fn a_file_is_checked_with_its_name_line_and_field() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        std::fs::write(&path, "[[class]]\nname = \"orders\"\n").unwrap();
        assert_eq!(check(&path), Ok(Exit::Done));
        std::fs::write(&path, "[[class]]\nname = \"or ders\"\n").unwrap();
        let refused = check(&path).unwrap_err();
        assert_eq!(refused.exit, Exit::CannotTell);
        assert!(refused.message.ends_with("policy.toml: line 1: name: ASCII letters, digits, '-', '_' and '.' only"));
        std::fs::write(&path, vec![b'#'; POLICY_SOURCE_BYTES_MAX + 1]).unwrap();
        assert!(check(&path).unwrap_err().message.ends_with("at most 131072 bytes"));
    }
}
