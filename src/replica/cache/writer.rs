//! The thread that owns the files.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::file::{
    FORMAT, KIND_DELTA, KIND_SIGNED_DELTA, KIND_WORD, SNAPSHOT_MAGIC, create_empty, deltas_head, deltas_name,
    encode_descent, encode_end, record, sync_dir, write_section,
};
use super::queue::{Job, SYNC_INTERVAL, Shared, Step, Swap};
use super::read::{DELTAS_FACTOR_MAX, Tail, refresh_bytes, reopen};
use super::residue;
use crate::clock::{BootTime, Clock};
use crate::revocation::Revision;

/// One write of a snapshot.
const WRITE_BYTES: usize = 1 << 20;

/// Writes what the keeper hands over.
pub(super) struct Writer {
    dir: PathBuf,
    /// Held until all is written.
    _lock: File,
    tail: Option<Tail>,
    /// What records are appended to; `None` before the first snapshot, and after a failure until the next.
    current: Option<Current>,
    clock: Clock,
}

struct Current {
    file: File,
    path: PathBuf,
    bytes: u64,
    snapshot_bytes: u64,
    /// The last revision written that is signed for.
    revision: Revision,
    /// How many came behind it.
    unsigned: u64,
    dirty: bool,
    synced_at: BootTime,
}

impl Writer {
    pub(super) fn new(dir: PathBuf, lock: File, tail: Option<Tail>, clock: Clock) -> Self {
        Self { dir, _lock: lock, tail, current: None, clock }
    }

    /// Goes on behind what was read; the revision of the last word in it.
    pub(super) fn begin(&mut self, shared: &Shared) -> Revision {
        let Some(tail) = self.tail.take() else { return Revision(0) };
        match reopen(&tail).and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((bytes, file)) => {
                let snapshot_bytes = tail.snapshot_bytes;
                self.follow(file, tail.path, bytes, snapshot_bytes, tail.revision, shared);
            }
            Err(error) => self.fail(&error, shared),
        }
        tail.word
    }

    pub(super) fn run(mut self, shared: &Shared) {
        loop {
            let is_dirty = self.current.as_ref().is_some_and(|current| current.dirty);
            let result = match shared.next(is_dirty) {
                Step::Do(job) => self.handle(job, shared),
                Step::Sync => self.sync(shared),
                Step::Stop => break,
            };
            if let Err(error) = result.and_then(|()| self.sync_if_due(shared)) {
                self.fail(&error, shared);
            }
        }
        if let Err(error) = self.sync(shared) {
            self.fail(&error, shared);
        }
    }

    fn handle(&mut self, job: Job, shared: &Shared) -> io::Result<()> {
        match job {
            Job::Swap(swap) => self.swap(&swap, shared),
            Job::Record(kind, body) => self.append(kind, &body, shared),
            Job::Gap => {
                self.sync(shared)?;
                self.current = None;
                Ok(())
            }
            Job::Residues(kept) => {
                residue::retain(&self.dir, &kept);
                sync_dir(&self.dir)
            }
        }
    }

    /// Checks go on without; the next snapshot is tried again.
    fn fail(&mut self, error: &io::Error, shared: &Shared) {
        self.current = None;
        shared.fail();
        tracing::error!(dir = %self.dir.display(), %error, "the cache cannot be written: nothing is kept until the next snapshot");
    }

    fn append(&mut self, kind: u8, body: &Bytes, shared: &Shared) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.bytes > refresh_bytes(current.snapshot_bytes).saturating_mul(DELTAS_FACTOR_MAX) {
            return Err(io::Error::other("too many deltas behind the snapshot"));
        }
        let record = record(kind, body);
        current.file.write_all(&record)?;
        current.bytes += record.len() as u64;
        current.dirty = true;
        current.unsigned += u64::from(matches!(kind, KIND_DELTA | KIND_SIGNED_DELTA));
        if matches!(kind, KIND_SIGNED_DELTA | KIND_WORD) {
            current.revision.0 += std::mem::take(&mut current.unsigned);
        }
        shared.writes.fetch_add(1, Ordering::Relaxed);
        shared.deltas_bytes.store(current.bytes, Ordering::Relaxed);
        Ok(())
    }

    fn sync_if_due(&mut self, shared: &Shared) -> io::Result<()> {
        let now = self.clock.boot();
        match &self.current {
            Some(current) if current.dirty && now.since(current.synced_at) >= SYNC_INTERVAL => self.sync(shared),
            _ => Ok(()),
        }
    }

    fn sync(&mut self, shared: &Shared) -> io::Result<()> {
        let Some(current) = self.current.as_mut().filter(|current| current.dirty) else { return Ok(()) };
        current.file.sync_data()?;
        shared.revision.store(current.revision.0, Ordering::Relaxed);
        (current.dirty, current.synced_at) = (false, self.clock.boot());
        Ok(())
    }

    /// Puts another set in the place of the one kept. Until the last rename a restart finds the one before.
    fn swap(&mut self, swap: &Swap, shared: &Shared) -> io::Result<()> {
        self.sync(shared)?;
        let before = self.current.take();
        if let Some(generation) = swap.residue {
            match before {
                Some(before) => residue::keep(&self.dir, generation, &before.path)?,
                None => residue::mark_lost(&self.dir)?,
            }
        }
        let partial = self.dir.join("snapshot.partial");
        let snapshot_bytes = write_snapshot(&partial, swap)?;
        let name = deltas_name(&swap.snapshot.end.signature);
        let (file, bytes) = self.write_deltas(&name, swap)?;
        fs::rename(&partial, self.dir.join("snapshot"))?;
        sync_dir(&self.dir)?;
        self.remove_other_deltas(&name);
        let revision = Revision(swap.snapshot.end.revision.0.saturating_add(swap.deltas.len() as u64));
        shared.writes.fetch_add(1, Ordering::Relaxed);
        self.follow(file, self.dir.join(&name), bytes, snapshot_bytes, revision, shared);
        Ok(())
    }

    /// Goes on behind what is durable up to `revision`.
    fn follow(
        &mut self,
        file: File,
        path: PathBuf,
        bytes: u64,
        snapshot_bytes: u64,
        revision: Revision,
        shared: &Shared,
    ) {
        shared.revision.store(revision.0, Ordering::Relaxed);
        shared.broken.store(false, Ordering::Relaxed);
        shared.deltas_bytes.store(bytes, Ordering::Relaxed);
        shared.snapshot_bytes.store(snapshot_bytes, Ordering::Relaxed);
        let synced_at = self.clock.boot();
        self.current =
            Some(Current { file, path, bytes, snapshot_bytes, revision, unsigned: 0, dirty: false, synced_at });
    }

    fn write_deltas(&self, name: &str, swap: &Swap) -> io::Result<(File, u64)> {
        let partial = self.dir.join("deltas.partial");
        let mut out = BufWriter::with_capacity(WRITE_BYTES, create_empty(&partial)?);
        let head = deltas_head(&swap.snapshot.end.signature);
        out.write_all(&head)?;
        let mut bytes = head.len() as u64;
        for (kind, body) in &swap.deltas {
            let record = record(*kind, body);
            out.write_all(&record)?;
            bytes += record.len() as u64;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&partial, self.dir.join(name))?;
        Ok((file, bytes))
    }

    fn remove_other_deltas(&self, name: &str) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let other = entry.file_name();
            if other.to_str().is_some_and(|other| other.starts_with("deltas-") && other != name) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn write_snapshot(path: &Path, swap: &Swap) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(WRITE_BYTES, create_empty(path)?);
    let checked = |out: &mut BufWriter<File>, bytes: &[u8]| write_section(out, bytes, crc32c::crc32c(bytes));
    out.write_all(SNAPSHOT_MAGIC)?;
    out.write_all(&FORMAT.to_le_bytes())?;
    checked(&mut out, &encode_descent(&swap.descent))?;
    checked(&mut out, &swap.snapshot.header.encode())?;
    for chunk in &swap.snapshot.chunks {
        write_section(&mut out, &chunk.bytes, chunk.crc32c)?;
    }
    checked(&mut out, &encode_end(&swap.snapshot.end))?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}
