//! `rescind credential create`.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::cli::connection::Servers;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{note, say};
use crate::cli::selection::not_empty;
use crate::cli::time::{Time, duration, now, time};
use crate::revocation::grant::Role;
use crate::surface::http::render_time;
use crate::wire::pb;
use crate::wire::pb::admin_service_client::AdminServiceClient;
use crate::wire::pb::create_credential_request::Expiry;

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Whose it is: the principal in the audit trail. Several credentials may share a name, so that one replaces another.
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    name: String,
    /// What it may do: check, subscribe, relay, introspect, revoke, peer or admin. May be repeated.
    #[arg(long, value_name = "ROLE", required = true)]
    role: Vec<Role>,
    /// Of a revoker: only what holds this issuer. May be repeated.
    #[arg(long, value_name = "ISSUER", value_parser = not_empty)]
    issuer: Vec<String>,
    /// Of a revoker: only selectors of this claim and iss. May be repeated.
    #[arg(long, value_name = "CLAIM", value_parser = not_empty)]
    claim: Vec<String>,
    /// Of a revoker: the most revocations in any minute.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    writes_per_minute: Option<u32>,
    /// Accept it for so long, as in 12h or 90d. Until it is revoked without this.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "expires_at")]
    expires_in: Option<Duration>,
    /// Accept it until this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires_at: Option<Time>,
    /// Write it to a new file that only its owner can read, instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    servers: Servers,
}

impl Create {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        // Before the server is asked: a secret that cannot be written would be lost.
        let out = self.out.as_deref().map(Out::create).transpose()?;
        let mut client = AdminServiceClient::new(self.servers.connect().await?);
        let made = client.create_credential(self.request()).await?.into_inner();
        let record = made.credential.unwrap_or_default();
        let until = record.expires_at_seconds.map_or_else(|| "until it is revoked".to_owned(), until);
        match out {
            Some(out) => {
                let path = out.path.clone();
                out.write(&made.text).map_err(|error| {
                    let what = format!("cannot write {}: {error}", path.display());
                    Failure::cannot(format!("{what}; revoke {} and make another", record.id))
                })?;
                say(format_args!("credential {} of {} written to {}", record.id, record.name, path.display()));
            }
            None => say(made.text),
        }
        note(&format!(
            "credential {} of {}, good {until}; its secret is not kept and cannot be shown again",
            record.id, record.name
        ));
        Ok(Exit::Done)
    }

    fn request(&self) -> pb::CreateCredentialRequest {
        let expires_in = self.expires_in.map(|after| Expiry::ExpiresInSeconds(after.as_secs()));
        let expires_at = self.expires_at.map(|at| Expiry::ExpiresAtSeconds(at.seconds(now())));
        pb::CreateCredentialRequest {
            name: self.name.clone(),
            grant: Some(pb::Grant {
                roles: self.role.iter().map(ToString::to_string).collect(),
                issuers: self.issuer.clone(),
                claims: self.claim.clone(),
                writes_per_minute: self.writes_per_minute,
            }),
            expiry: expires_in.or(expires_at),
        }
    }
}

fn until(seconds: u64) -> String {
    format!("until {}", render_time(seconds))
}

/// A new file for a secret. Dropped unwritten, it is removed again.
struct Out {
    path: PathBuf,
    file: File,
    written: bool,
}

impl Out {
    fn create(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| Failure::cannot(format!("cannot create {}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), file, written: false })
    }

    fn write(mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.file, "{text}")?;
        self.file.sync_all()?;
        self.written = true;
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if !self.written {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_written_to_a_new_file_of_its_owner_or_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway");
        drop(Out::create(&path).unwrap());
        assert!(!path.exists(), "nothing is left of what failed");
        Out::create(&path).unwrap().write("rsc_x").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"rsc_x\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let Err(refused) = Out::create(&path) else { panic!("it was overwritten") };
        assert!(refused.message.contains("gateway"), "{}", refused.message);
        assert_eq!(fs::read(&path).unwrap(), b"rsc_x\n");
    }
}
