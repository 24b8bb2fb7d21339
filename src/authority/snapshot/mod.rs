//! Periodic snapshots: snapshot n + 1 is snapshot n merged with the journal since.
//!
//! The live set is never walked, so a snapshot is exactly one revision. The commit thread collects the rows that change
//! in an [`Overlay`]; when enough have changed, a thread of its own merges them with the file before, writes the new file
//! and packs the same rows for joining subscribers. At most one snapshot is in the making.

mod file;
mod image;
mod rows;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::hub::Image;
use crate::revocation::{Fingerprint, Revision, RevocationSet, SetKey, SetWriter, UnixMillis};

use super::credentials::{CredentialTable, Kept};
use super::policies::{KeptPolicies, PolicyTable};
use super::requests::{REMEMBERED_FOR, REMEMBERED_MAX, Remembered, RequestKey, RequestWindow};
use super::shapes::{ShapeChanges, ShapeTable};
use super::state::{Behind, Row, State, Transition};

use image::Packer;
use worker::Worker;

pub use file::{Header, SnapshotFileError, SnapshotReader, SnapshotWriter, Tail};
pub use rows::LiveRow;

/// A snapshot is cut when the deltas since the one before pass an eighth of its size, within these bounds: so that a
/// restart replays little, and a large set is not rewritten for a few changes.
pub const DUE_BYTES_MIN: u64 = 4 << 20;
/// Half of the shared log, so that a slow joiner finds the deltas behind its snapshot still there.
const DUE_BYTES_MAX: u64 = 32 << 20;

/// What a remembered request takes in an overlay, in bytes.
const REQUEST_BYTES: usize = size_of::<(UnixMillis, RequestKey, Remembered)>();

/// What changed since the last snapshot.
#[derive(Debug)]
pub struct Overlay {
    changes: Changes,
    /// At least so many bytes of deltas make a snapshot due.
    due_bytes_min: u64,
    /// The bytes of the deltas since.
    delta_bytes: u64,
    /// The size of the last snapshot file.
    base_bytes: u64,
}

/// Rows and requests, the later over the earlier.
#[derive(Debug, Default)]
pub struct Changes {
    rows: BTreeMap<Fingerprint, Row>,
    requests: Vec<(UnixMillis, RequestKey, Remembered)>,
}

impl Overlay {
    /// Nothing has changed since the snapshot, of `base_bytes`, that the state was loaded from.
    #[must_use]
    pub fn new(due_bytes_min: u64, base_bytes: u64) -> Self {
        Self { changes: Changes::default(), due_bytes_min, delta_bytes: 0, base_bytes }
    }

    /// Takes in a revision that is in force.
    pub fn add(&mut self, transition: Transition) {
        self.delta_bytes += (transition.canonical.len() + transition.requests.len() * REQUEST_BYTES) as u64;
        self.changes.rows.extend(transition.rows);
        let time = transition.delta.source_time;
        self.changes.requests.extend(transition.requests.into_iter().map(|(key, request)| (time, key, request)));
    }

    /// Whether enough has changed for a snapshot.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.delta_bytes >= (self.base_bytes / 8).max(self.due_bytes_min).min(DUE_BYTES_MAX)
    }

    fn take(&mut self) -> Changes {
        self.delta_bytes = 0;
        std::mem::take(&mut self.changes)
    }

    /// Takes back the changes of a snapshot that failed, under those made since.
    fn put_back(&mut self, mut earlier: Changes) {
        earlier.rows.append(&mut self.changes.rows);
        earlier.requests.append(&mut self.changes.requests);
        self.changes = earlier;
        // Tried again after as much more, not at once.
    }
}

/// Has snapshots written, one at a time.
pub struct Snapshotter {
    folder: PathBuf,
    base: Option<PathBuf>,
    worker: Worker,
}

struct Job {
    base: Option<PathBuf>,
    path: PathBuf,
    header: Header,
    changes: Changes,
    credentials: Arc<Kept>,
    policies: KeptPolicies,
    key: SetKey,
}

impl Job {
    fn wrong(&self, what: String) -> SnapshotFileError {
        SnapshotFileError::Damaged { path: self.path.clone(), what }
    }
}

type Done = Result<Ready, (SnapshotFileError, Changes)>;

/// A finished snapshot.
pub struct Ready {
    /// Its revision.
    pub revision: Revision,
    /// The revision of the one before it, which is kept too.
    pub before: Option<Revision>,
    /// How many rows it has.
    pub entries: u64,
    /// Entries of the one before that expired: what stands behind them may go.
    pub expired: Vec<Fingerprint>,
    /// The same rows, packed for subscribers.
    pub image: Arc<Image>,
    path: PathBuf,
    bytes: u64,
}

impl Snapshotter {
    /// Starts a thread that writes them. `base` is the snapshot that the state was loaded from.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(folder: PathBuf, base: Option<PathBuf>) -> std::io::Result<Self> {
        Ok(Self { folder, base, worker: Worker::start()? })
    }

    /// Writes them where it is asked to: for whoever steps through time.
    #[must_use]
    pub fn inline(folder: PathBuf, base: Option<PathBuf>) -> Self {
        Self { folder, base, worker: Worker::inline() }
    }

    /// Whether no snapshot is in the making.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.worker.is_idle()
    }

    /// Begins a snapshot of `state`, which `overlay` leads up to.
    pub fn begin(&mut self, overlay: &mut Overlay, state: &State) {
        let header = state.header();
        let path = self.folder.join(format!("{:020}.snapshot", header.revision.0));
        let base = self.base.clone();
        let credentials = Arc::clone(state.credentials().kept());
        let policies = Arc::clone(state.policies().kept());
        let (changes, key) = (overlay.take(), state.key().clone());
        let job = Job { base, path, header, changes, credentials, policies, key };
        if let Err(job) = self.worker.begin(job) {
            overlay.put_back(job.changes);
        }
    }

    /// The snapshot that has ended since last asked, if one has.
    ///
    /// # Errors
    /// When it failed. Its changes are back in `overlay`, the snapshot before it stays.
    pub fn poll(&mut self, overlay: &mut Overlay) -> Result<Option<Ready>, SnapshotFileError> {
        match self.worker.poll() {
            None => Ok(None),
            Some(Ok(ready)) => {
                overlay.base_bytes = ready.bytes;
                self.base = Some(ready.path.clone());
                Ok(Some(ready))
            }
            Some(Err((error, changes))) => {
                overlay.put_back(changes);
                Err(error)
            }
        }
    }

    /// Lets a snapshot in the making end, then ends the thread.
    pub fn stop(&mut self) {
        self.worker.stop();
    }
}

/// The snapshots in `folder`, newest first.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "snapshot"))
        .collect();
    paths.sort_unstable_by(|a, b| b.cmp(a));
    Ok(paths)
}

/// What a snapshot file brings back.
pub struct Loaded {
    /// Its header.
    pub header: Header,
    /// The set's writer.
    pub writer: SetWriter,
    /// The set.
    pub set: Arc<RevocationSet>,
    /// What stands behind the set.
    pub behind: Behind,
    /// The rows, packed for subscribers.
    pub image: Arc<Image>,
}

/// The smallest row, in bytes: one revocation behind an entry without exceptions.
const ROW_BYTES_MIN: u64 = 16 + 8 + 1 + 1 + 13;

/// Loads a snapshot, proving it whole and equal to what its header says.
///
/// # Errors
/// When the file is damaged, or its rows do not add up to the digest in its header.
pub fn load(path: &Path, key: &SetKey) -> Result<Loaded, SnapshotFileError> {
    let damaged = |what: String| SnapshotFileError::Damaged { path: path.to_owned(), what };
    let mut reader = SnapshotReader::open(path)?;
    let header = reader.header().clone();
    let mut behind = Behind {
        chain: header.chain,
        highest_time: header.highest_time,
        source_time: header.source_time,
        ..Behind::default()
    };
    // Room for all rows at once: the file's length bounds their number.
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    behind.ledger.reserve(usize::try_from(bytes / ROW_BYTES_MIN).unwrap_or(0));
    let mut shapes = ShapeChanges::default();
    let mut packer = Packer::new(key, &header);
    while let Some(row) = reader.row()? {
        packer.push(&row).map_err(&damaged)?;
        shapes.entry_moves(&row.shape, None, Some(row.entry.expiry));
        behind.ledger.insert(row.fingerprint, row.live);
    }
    behind.shapes = ShapeTable::default();
    behind.shapes.apply(&shapes, header.floor);
    let Tail { requests, credentials, policies } = reader.finish()?;
    behind.requests = window(requests);
    behind.credentials = CredentialTable::of(credentials);
    behind.policies = PolicyTable::of(policies);
    let image = Arc::new(packer.finish().map_err(&damaged)?);
    let (writer, set) = image::load(&image, key).map_err(&damaged)?;
    if !behind.shapes.active().eq(header.shapes.iter()) {
        return Err(damaged("its shapes are not those of its rows".into()));
    }
    Ok(Loaded { header, writer, set, behind, image })
}

fn window(requests: Vec<(UnixMillis, RequestKey, Remembered)>) -> RequestWindow {
    let mut window = RequestWindow::default();
    requests.into_iter().for_each(|(time, key, request)| window.remember(key, request, time));
    window
}

fn make(job: Job) -> Done {
    match merge(&job) {
        Ok(ready) => {
            tidy(&job.path, job.base.as_deref());
            Ok(ready)
        }
        Err(error) => Err((error, job.changes)),
    }
}

/// Merges the base with the changes into a new file and image.
fn merge(job: &Job) -> Result<Ready, SnapshotFileError> {
    let mut base = job.base.as_deref().map(SnapshotReader::open).transpose()?;
    let before = base.as_ref().map(|base| base.header().revision);
    let mut writer = SnapshotWriter::create(&job.path, &job.header)?;
    let mut merged =
        Merged { writer: &mut writer, packer: Packer::new(&job.key, &job.header), expired: Vec::new(), job };
    let mut changes = job.changes.rows.iter().peekable();
    while let Some(old) = base.as_mut().map(SnapshotReader::row).transpose()?.flatten() {
        while let Some((fingerprint, row)) = changes.next_if(|(fingerprint, _)| **fingerprint < old.fingerprint) {
            merged.changed(*fingerprint, row)?;
        }
        match changes.next_if(|(fingerprint, _)| **fingerprint == old.fingerprint) {
            Some((fingerprint, row)) => merged.changed(*fingerprint, row)?,
            None => merged.row(old)?,
        }
    }
    for (fingerprint, row) in changes {
        merged.changed(*fingerprint, row)?;
    }
    let Merged { packer, expired, .. } = merged;
    let earlier = base.map(SnapshotReader::finish).transpose()?.unwrap_or_default().requests;
    // The rows must add up to the digest that the state had: otherwise the file is not put in place.
    let image = Arc::new(packer.finish().map_err(|what| job.wrong(what))?);
    writer.requests(remembered(&earlier, job))?;
    writer.finish(&job.credentials, &job.policies)?;
    let bytes = std::fs::metadata(&job.path).map_or(0, |metadata| metadata.len());
    let (revision, entries) = (job.header.revision, image.header.entries);
    Ok(Ready { revision, before, entries, expired, image, path: job.path.clone(), bytes })
}

struct Merged<'a> {
    writer: &'a mut SnapshotWriter,
    packer: Packer,
    expired: Vec<Fingerprint>,
    job: &'a Job,
}

impl Merged<'_> {
    fn changed(&mut self, fingerprint: Fingerprint, row: &Row) -> Result<(), SnapshotFileError> {
        match &row.live {
            Some((entry, live)) => {
                let (shape, entry, live) = (row.shape.clone(), entry.clone(), live.clone());
                self.row(LiveRow { fingerprint, shape, entry, live })
            }
            None => Ok(()),
        }
    }

    fn row(&mut self, row: LiveRow) -> Result<(), SnapshotFileError> {
        if row.entry.expiry <= self.job.header.floor {
            self.expired.push(row.fingerprint);
            return Ok(());
        }
        self.packer.push(&row).map_err(|what| self.job.wrong(what))?;
        self.writer.row(&row)
    }
}

/// The requests that the window still holds: of the base and of the changes, oldest first.
fn remembered<'a>(
    earlier: &'a [(UnixMillis, RequestKey, Remembered)],
    job: &'a Job,
) -> impl Iterator<Item = (UnixMillis, RequestKey, Remembered)> + 'a {
    let limit = job.header.source_time.0.saturating_sub(REMEMBERED_FOR.as_millis() as u64);
    let too_many = (earlier.len() + job.changes.requests.len()).saturating_sub(REMEMBERED_MAX);
    let all = earlier.iter().chain(&job.changes.requests).copied();
    all.skip(too_many).filter(move |(time, ..)| time.0 >= limit)
}

/// Keeps this snapshot and the one it was made from, both known to be sound; older ones go. A newer one was passed over
/// at the start, loudly, and stays for people to look at. What was left half-written is written over.
fn tidy(newest: &Path, base: Option<&Path>) {
    let Some(folder) = newest.parent() else { return };
    let is_old = |path: &PathBuf| path.as_path() < newest && Some(path.as_path()) != base;
    for old in list(folder).unwrap_or_default().into_iter().filter(is_old) {
        if let Err(error) = std::fs::remove_file(&old) {
            tracing::warn!(%error, path = %old.display(), "an old snapshot cannot be removed");
        }
    }
}

/// What joiners get before there is any snapshot: the state before the first revision.
#[must_use]
pub fn image_of_empty(state: &State) -> Arc<Image> {
    let packer = Packer::new(state.key(), &state.header());
    Arc::new(packer.finish().expect("no rows add up to the digest of an empty state"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_by_tidy(names: &[&str], newest: &str, base: Option<&str>) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(format!("{name}.snapshot"));
        names.iter().for_each(|name| std::fs::write(path(name), b"").unwrap());
        tidy(&path(newest), base.map(path).as_deref());
        let left = list(folder.path()).unwrap().into_iter();
        left.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_snapshot_and_its_base_are_kept_and_older_ones_go() {
        assert_eq!(left_by_tidy(&["1", "2", "3"], "3", Some("2")), ["3", "2"]);
    }

    /// A damaged one between them once took the place of the base, so that the next damage left nothing to start from.
    #[test]
    fn a_damaged_snapshot_does_not_count_as_one_of_the_two() {
        assert_eq!(left_by_tidy(&["1", "2", "3"], "3", Some("1")), ["3", "1"]);
    }

    /// Those of a longer journal, from before an older copy was brought back, once pushed out the one just written.
    #[test]
    fn snapshots_that_are_ahead_do_not_push_out_the_one_just_written() {
        assert_eq!(left_by_tidy(&["3", "5", "8", "9"], "5", Some("3")), ["9", "8", "5", "3"]);
    }
}
