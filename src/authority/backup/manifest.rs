//! The list of a backup's files, which makes it one.
//!
//! ```text
//! rescind backup 1
//! position <epoch>:<revision>
//! <sha256 in hex> <length> <name>      one line for each file
//! ```

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::revocation::Position;

/// The file's name. It is the last one written.
pub const MANIFEST: &str = "manifest";
/// The most files in a backup: a journal and a snapshot, and room to grow.
pub const FILES_MAX: usize = 16;
/// The longest file name, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// The longest manifest, in bytes.
const BYTES_MAX: u64 = 8192;
const FIRST_LINE: &str = "rescind backup 1";

/// What a backup consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Where the journal stands.
    pub position: Position,
    /// The files.
    pub files: Vec<Listed>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, from the backup's directory on.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its hash.
    pub sha256: [u8; 32],
}

/// Why a directory is no sound backup.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest is not what is written here.
    #[error("{} is not a manifest of this version", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// A file is not the one that was backed up.
    #[error("the backup is damaged: {} {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it differs.
        what: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Manifest {
    /// The manifest in `backup`; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is malformed.
    pub fn read(backup: &Path) -> Result<Option<Self>, ManifestError> {
        let path = backup.join(MANIFEST);
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => Self::parse(&text).map(Some).ok_or(ManifestError::Malformed { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ManifestError::Io { path, source }),
        }
    }

    /// Proves that the files in `backup` are those that were backed up.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn verify(&self, backup: &Path) -> Result<(), ManifestError> {
        for listed in &self.files {
            let path = backup.join(&listed.name);
            let damaged = |what| ManifestError::Damaged { path: path.clone(), what };
            let (length, sha256) = match hash(&path) {
                Ok(hashed) => hashed,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged("is missing")),
                Err(source) => return Err(ManifestError::Io { path, source }),
            };
            if length != listed.length {
                return Err(damaged("has another length"));
            }
            if sha256 != listed.sha256 {
                return Err(damaged("has another SHA-256"));
            }
        }
        Ok(())
    }

    /// The text of the file.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!("{FIRST_LINE}\nposition {}\n", self.position);
        for Listed { name, length, sha256 } in &self.files {
            for byte in sha256 {
                let _ = write!(text, "{byte:02x}");
            }
            let _ = writeln!(text, " {length} {name}");
        }
        text
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        lines.next().filter(|line| *line == FIRST_LINE)?;
        let position = lines.next()?.strip_prefix("position ")?.parse().ok()?;
        let files: Vec<Listed> = lines.map(Listed::parse).collect::<Option<_>>()?;
        (files.len() <= FILES_MAX).then_some(Self { position, files })
    }
}

impl Listed {
    fn parse(line: &str) -> Option<Self> {
        let (hex, rest) = line.split_once(' ')?;
        let (length, name) = rest.split_once(' ')?;
        let mut sha256 = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() || !Self::is_name(name) {
            return None;
        }
        for (byte, at) in sha256.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
        }
        Some(Self { name: name.to_owned(), length: length.parse().ok()?, sha256 })
    }

    /// Whether a file of a backup may be called so: it must not lead out of the backup.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let base = name.strip_prefix("snapshots/").unwrap_or(name);
        (1..=NAME_BYTES_MAX).contains(&name.len())
            && !base.starts_with('.')
            && !base.is_empty()
            && base.bytes().all(plain)
            && name != MANIFEST
    }
}

/// The length and the SHA-256 of a file.
fn hash(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut file = File::open(path)?;
    let (mut hash, mut length, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((length, hash.finalize().into()));
        }
        hash.update(&buffer[..read]);
        length += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::Revision;

    #[test]
    fn a_manifest_round_trips_and_nothing_else_is_one() {
        let listed = |name: &str| Listed { name: name.into(), length: 7, sha256: [0xab; 32] };
        let files = vec![listed("journal.sqlite"), listed("snapshots/00000000000000000007.snapshot")];
        let manifest = Manifest { position: Position { epoch: [3; 16], revision: Revision(9) }, files };
        let text = manifest.render();
        assert_eq!(Manifest::parse(&text), Some(manifest));
        for at in 0..text.len() {
            assert_eq!(Manifest::parse(&text[..at]).filter(|m| m.files.len() == 2), None, "cut at {at}");
        }
        for bad in ["", "/etc/passwd", "../x", "snapshots/../x", "snapshots/", ".x", "a b", "manifest", "a/b"] {
            assert!(!Listed::is_name(bad), "{bad:?}");
        }
    }
}
