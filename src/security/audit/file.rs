//! The file of denied requests and the one before it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::line::{LINE_BYTES_MAX, Line, LineHash, chained};

/// The largest file, in bytes: some 40,000 lines. Then it becomes `.1`, in place of the one before.
pub const DENIED_BYTES_MAX: u64 = 16 << 20;

/// Lines are added at its end, by one owner.
pub(super) struct DeniedFile {
    path: PathBuf,
    file: File,
    /// Everything up to here is whole lines.
    bytes: u64,
    bytes_max: u64,
    last: LineHash,
}

impl DeniedFile {
    /// Opens the file, or creates it. A last line that was not written to its end is taken off: it told of nothing that
    /// was ever said to be written.
    pub(super) fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let mut file = opened(path)?;
        let (bytes, last) = match end_of(&mut file)? {
            // After a rotation, and a stop before the first line.
            (0, None) => {
                (0, File::open(rotated(path)).and_then(|mut file| end_of(&mut file)).map_or(None, |end| end.1))
            }
            end => end,
        };
        file.set_len(bytes)?;
        Ok(Self { path: path.to_owned(), file, bytes, bytes_max, last: last.unwrap_or_default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds these lines; the first tells that `lost` denials before it were not written. All or none of them count as
    /// written.
    pub(super) fn append(&mut self, lines: Vec<Line>, mut lost: u64) -> io::Result<()> {
        let (mut text, mut last) = (String::new(), self.last);
        for line in lines {
            let (rendered, hash) = line.render(std::mem::take(&mut lost), last)?;
            text.push_str(&rendered);
            last = hash;
        }
        // Behind what an append that failed left there.
        self.file.set_len(self.bytes)?;
        if self.bytes > 0 && self.bytes + text.len() as u64 > self.bytes_max {
            match std::fs::rename(&self.path, rotated(&self.path)) {
                // Taken away by somebody, or by a rotation that could not create the next file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
            (self.file, self.bytes) = (opened(&self.path)?, 0);
        }
        self.file.write_all(text.as_bytes())?;
        (self.bytes, self.last) = (self.bytes + text.len() as u64, last);
        Ok(())
    }
}

/// Where the lines before those of `path` are.
pub(super) fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

fn opened(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Where the last whole line ends, and its hash, if it has one.
fn end_of(file: &mut File) -> io::Result<(u64, Option<LineHash>)> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(2 * LINE_BYTES_MAX as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else {
        // One line that was begun; anything longer is no file of ours, and is not cut.
        return Ok((if from == 0 { 0 } else { length }, None));
    };
    let begin = tail[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let last = std::str::from_utf8(&tail[begin..end]).ok().and_then(chained);
    Ok((from + end as u64 + 1, last.map(|(_, own)| own)))
}
