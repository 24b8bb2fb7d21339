//! `rescind journal backup` and `rescind journal accept-loss`: with a running server.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest as _, Sha256};

use crate::authority::backup::{FILES_MAX, Listed, MANIFEST, Manifest};
use crate::cli::connection::Servers;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{say, say_fields};
use crate::journal::create_private_folder;
use crate::revocation::Position;
use crate::wire::pb::admin_service_client::AdminServiceClient;
use crate::wire::pb::backup_response::Part;
use crate::wire::{self, pb};

#[derive(Debug, Args)]
pub(in crate::cli) struct Backup {
    /// Where the backup goes: an empty directory, or one that is not there yet.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    servers: Servers,
}

impl Backup {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        make_empty(&self.dir)?;
        let mut client = AdminServiceClient::new(self.servers.connect().await?);
        let mut parts = client.backup(pb::BackupRequest {}).await?.into_inner();
        let mut incoming = Incoming::new(&self.dir);
        while let Some(message) = parts.message().await? {
            incoming.take(message)?;
        }
        let manifest = incoming.finish()?;
        say(format_args!("backed up to {}", self.dir.display()));
        let bytes: u64 = manifest.files.iter().map(|file| file.length).sum();
        say_fields(&[
            ("position", manifest.position.to_string()),
            ("files", manifest.files.len().to_string()),
            ("bytes", bytes.to_string()),
        ]);
        Ok(Exit::Done)
    }
}

/// Gives up what was revoked before a backup was restored, and is not in it. There is no way back.
#[derive(Debug, Args)]
pub(in crate::cli) struct AcceptLoss {
    /// The last generation whose losses are accepted; `rescind status` shows the present one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    generation: u64,
    /// Yes, tokens that were revoked then may be accepted again.
    #[arg(long, required = true)]
    yes: bool,
    #[command(flatten)]
    servers: Servers,
}

impl AcceptLoss {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let mut client = AdminServiceClient::new(self.servers.connect().await?);
        let request = pb::AcceptLossRequest { generation: self.generation };
        let response = client.accept_loss(request).await?.into_inner();
        let position = response.position.as_ref().and_then(|position| wire::position(position).ok());
        say(format_args!("losses up to generation {} are accepted", self.generation));
        say_fields(&[("position", position.map_or_else(String::new, |position| position.to_string()))]);
        Ok(Exit::Done)
    }
}

/// A backup on its way to the disk. Nothing but the manifest, which comes last, makes a directory a backup.
struct Incoming<'a> {
    dir: &'a Path,
    position: Option<Position>,
    files: Vec<Listed>,
    current: Option<Current>,
    ended: bool,
}

struct Current {
    name: String,
    file: File,
    length: u64,
    written: u64,
    hash: Sha256,
}

impl<'a> Incoming<'a> {
    fn new(dir: &'a Path) -> Self {
        Self { dir, position: None, files: Vec::new(), current: None, ended: false }
    }

    fn take(&mut self, message: pb::BackupResponse) -> Result<(), Failure> {
        let unexpected = || Failure::cannot("the server sent a backup that this program does not understand");
        if self.ended {
            return Err(unexpected());
        }
        match (message.part.ok_or_else(unexpected)?, self.current.take()) {
            (Part::Position(position), None) if self.position.is_none() => {
                self.position = Some(wire::position(&position).map_err(|_| unexpected())?);
            }
            (Part::File(pb::BackupFile { name, length }), None) if self.files.len() < FILES_MAX => {
                if !Listed::is_name(&name) || self.files.iter().any(|file| file.name == name) {
                    return Err(unexpected());
                }
                let file = create(&self.dir.join(&name)).map_err(|error| self.cannot(&name, &error))?;
                self.current = Some(Current { name, file, length, written: 0, hash: Sha256::new() });
            }
            (Part::Chunk(bytes), Some(mut current)) if bytes.len() as u64 <= current.length - current.written => {
                current.file.write_all(&bytes).map_err(|error| self.cannot(&current.name, &error))?;
                current.hash.update(&bytes);
                current.written += bytes.len() as u64;
                self.current = Some(current);
            }
            (Part::Sha256(told), Some(current)) => {
                let Current { name, file, length, written, hash } = current;
                let sha256: [u8; 32] = hash.finalize().into();
                if written != length || told != sha256 {
                    return Err(Failure::cannot(format!("{name} did not arrive as it was sent; try again")));
                }
                file.sync_all().map_err(|error| self.cannot(&name, &error))?;
                self.files.push(Listed { name, length, sha256 });
            }
            (Part::End(pb::BackupEnd { files }), None) if files as usize == self.files.len() => self.ended = true,
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    /// Makes it a backup.
    fn finish(self) -> Result<Manifest, Failure> {
        let Some(position) = self.position.filter(|_| self.ended) else {
            return Err(Failure::unreachable("the backup ended early; the directory holds none"));
        };
        let manifest = Manifest { position, files: self.files };
        let write = || {
            for folder in [self.dir.join("snapshots"), self.dir.to_owned()] {
                if folder.is_dir() {
                    File::open(&folder)?.sync_all()?;
                }
            }
            let partial = self.dir.join("manifest.partial");
            let mut file = create(&partial)?;
            file.write_all(manifest.render().as_bytes())?;
            file.sync_all()?;
            fs::rename(&partial, self.dir.join(MANIFEST))?;
            File::open(self.dir)?.sync_all()
        };
        write().map_err(|error| cannot(&self.dir.join(MANIFEST), &error))?;
        Ok(manifest)
    }

    fn cannot(&self, name: &str, error: &io::Error) -> Failure {
        cannot(&self.dir.join(name), error)
    }
}

fn make_empty(dir: &Path) -> Result<(), Failure> {
    let made = create_private_folder(dir).and_then(|()| fs::read_dir(dir));
    match made.map_err(|error| cannot(dir, &error))?.next() {
        // One that was there already may be open to others.
        None => fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(|error| cannot(dir, &error)),
        Some(_) => Err(Failure::cannot(format!("{} is not empty; back up into a new directory", dir.display()))),
    }
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::cannot(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::backup::{RestoreBackupError, restore};
    use crate::journal::HeldCredentials;
    use crate::revocation::Revision;
    use crate::revocation::ports::BackupPart;

    fn parts(name: &str) -> Vec<BackupPart> {
        let sha256 = Sha256::digest(b"abcdef").into();
        vec![
            BackupPart::Position(Position { epoch: [1; 16], revision: Revision(7) }),
            BackupPart::File { name: name.into(), length: 6 },
            BackupPart::Chunk(b"abc".to_vec()),
            BackupPart::Chunk(b"def".to_vec()),
            BackupPart::FileEnd { sha256 },
            BackupPart::End { files: 1 },
        ]
    }

    fn receive(dir: &Path, parts: &[BackupPart]) -> Result<Manifest, Failure> {
        let mut incoming = Incoming::new(dir);
        parts.iter().try_for_each(|part| incoming.take(wire::backup_part(part.clone())))?;
        incoming.finish()
    }

    #[test]
    fn a_backup_is_one_only_once_all_of_it_arrived() {
        let all = parts("snapshots/1.snapshot");
        for count in 0..=all.len() {
            let dir = tempfile::tempdir().unwrap();
            let received = receive(dir.path(), &all[..count]);
            assert_eq!(received.is_ok(), count == all.len(), "{count}");
            assert_eq!(Manifest::read(dir.path()).unwrap(), received.ok());
            let target = tempfile::tempdir().unwrap();
            let refused = restore(dir.path(), target.path(), HeldCredentials::Keep).unwrap_err();
            assert_eq!(matches!(refused, RestoreBackupError::Incomplete { .. }), count < all.len(), "{refused}");
        }
    }

    #[test]
    fn what_does_not_arrive_as_it_was_sent_is_refused() {
        let dir = || tempfile::tempdir().unwrap();
        for at in 0..6 {
            let mut some = parts("a");
            some.remove(at);
            assert!(receive(dir().path(), &some).is_err(), "without part {at}");
            let mut twice = parts("a");
            twice.insert(at, twice[at].clone());
            assert!(receive(dir().path(), &twice).is_err(), "with part {at} twice");
        }
        let mut changed = parts("a");
        changed[2] = BackupPart::Chunk(b"abx".to_vec());
        assert!(receive(dir().path(), &changed).unwrap_err().message.contains("did not arrive"));
        assert!(receive(dir().path(), &parts("../a")).is_err());
    }

    #[test]
    fn a_directory_that_holds_something_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x"), "x").unwrap();
        assert!(make_empty(dir.path()).unwrap_err().message.contains("is not empty"));
    }
}
