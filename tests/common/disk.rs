//! A disk under a real process that fails when it is told to, and that remembers what was written and synced.
//!
//! A shim in C (`tests/disk/shim.c`), built here and loaded with `LD_PRELOAD`, stands between the process and the C library.
//! What a power cut leaves of what it remembers is the business of [`super::power`].

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::skip;

/// What the calls of a process meet; the numbers are the shim's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Writing fails with EIO.
    WriteFails = 1,
    /// Syncing fails with EIO.
    SyncFails = 2,
    /// The disk is full, in the middle of a write where that is possible.
    NoSpace = 3,
    /// Only half is written, and the caller is told so.
    Short = 4,
}

/// A directory of its own that a process keeps its files in, watched.
#[derive(Debug)]
pub(crate) struct Disk {
    shim: PathBuf,
    control: File,
    clock: File,
    is_traced: bool,
    /// Removed with everything in it.
    root: TempDir,
}

/// The size of the shim's `struct control`, and where its parts are.
const CONTROL_BYTES: usize = 80;
const HITS_AT: u64 = 12;
/// The same of `struct clock` (`tests/disk/clock.c`).
const CLOCK_BYTES: usize = 16;
const CLOCK_WORKS_AT: u64 = 8;

/// Snapshots after little, and nothing is kept for the audit: so that both are cut and pruned within seconds.
const BUSY: &str = "[journal]\nsnapshot_bytes_min = 4096\naudit_retention = '0s'\n";

impl Disk {
    /// One that fails when told to, and remembers if asked to. `None`, said loudly, where it cannot be had.
    pub(crate) fn watched(is_traced: bool) -> Option<Self> {
        let shim = shim()?;
        let root = tempfile::Builder::new().prefix("rescind-disk-").tempdir().unwrap();
        fs::create_dir(root.path().join("files")).unwrap();
        fs::write(root.path().join("control"), [0; CONTROL_BYTES]).unwrap();
        fs::write(root.path().join("clock"), [0; CLOCK_BYTES]).unwrap();
        fs::write(root.path().join("busy.toml"), BUSY).unwrap();
        let open = |name| OpenOptions::new().read(true).write(true).open(root.path().join(name)).unwrap();
        let (control, clock) = (open("control"), open("clock"));
        Some(Self { shim, control, clock, is_traced, root })
    }

    /// What is below it is watched. The process makes its own directory in here.
    pub(crate) fn files(&self) -> PathBuf {
        fs::canonicalize(self.root.path().join("files")).unwrap()
    }

    /// The environment that a process is watched with.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut environment = vec![
            ("LD_PRELOAD".to_owned(), text(&self.shim)),
            ("DISK_DIR".to_owned(), text(&self.files())),
            ("DISK_CONTROL".to_owned(), text(&self.root.path().join("control"))),
            ("CLOCK_CONTROL".to_owned(), text(&self.root.path().join("clock"))),
        ];
        if self.is_traced {
            environment.push(("DISK_TRACE".to_owned(), text(&self.trace())));
        }
        environment
    }

    /// A configuration with which snapshots are cut and the journal is pruned after little.
    pub(crate) fn busy_config(&self) -> PathBuf {
        self.root.path().join("busy.toml")
    }

    /// Sets the wall clock of the process so many seconds ahead of the machine's, or behind.
    pub(crate) fn set_clock_ahead(&self, seconds: i64) {
        self.clock.write_all_at(&seconds.to_le_bytes(), 0).unwrap();
    }

    /// Whether the process that was started last has the clock that it is told. Said loudly if not.
    pub(crate) fn has_clock(&self) -> bool {
        let mut works = [0; 4];
        self.clock.read_exact_at(&mut works, CLOCK_WORKS_AT).unwrap();
        let works = works != [0; 4];
        if !works {
            skip("the wall clock of a process cannot be set here: no x86-64, or a kernel that forbids it");
        }
        works
    }

    /// Where it is written down what was done.
    pub(crate) fn trace(&self) -> PathBuf {
        self.root.path().join("trace")
    }

    /// How much of that there is by now: everything that has returned to the process lies before.
    pub(crate) fn traced_bytes(&self) -> u64 {
        fs::metadata(self.trace()).map_or(0, |metadata| metadata.len())
    }

    /// After `after` more calls, `count` of them fail (`None`: all), of files whose path holds `part`, or ends in it where it
    /// ends in `$`.
    pub(crate) fn fail(&self, fault: Fault, after: u64, count: Option<u32>, part: &str) {
        let mut control = [0; CONTROL_BYTES];
        control[4..8].copy_from_slice(&(after as i32).to_le_bytes());
        control[8..12].copy_from_slice(&count.map_or(-1, |count| count as i32).to_le_bytes());
        control[16..16 + part.len()].copy_from_slice(part.as_bytes());
        // The kind last: it is what sets it off.
        self.control.write_all_at(&control[4..], 4).unwrap();
        self.control.write_all_at(&(fault as u32).to_le_bytes(), 0).unwrap();
    }

    /// It works again.
    pub(crate) fn heal(&self) {
        self.control.write_all_at(&[0; 4], 0).unwrap();
    }

    /// How many calls have failed since it was told to.
    pub(crate) fn hits(&self) -> u32 {
        let mut hits = [0; 4];
        self.control.read_exact_at(&mut hits, HITS_AT).unwrap();
        u32::from_le_bytes(hits)
    }
}

/// The shim, built once for this process. It stays where the build keeps its files: every process puts the same there.
fn shim() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let library = dir.join("disk.so");
        let unfinished = dir.join(format!("disk-{}.so", std::process::id()));
        let sources =
            ["shim.c", "clock.c"].map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk").join(name));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "gcc".into());
        let mut command = Command::new(compiler);
        command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&unfinished).args(sources);
        match command.args(["-ldl", "-lpthread"]).output() {
            Ok(output) if output.status.success() => {
                fs::rename(&unfinished, &library).unwrap();
                Some(library)
            }
            Ok(output) => panic!("the shim is not built: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "no C compiler where CI is set: {error}");
                skip(&format!("no C compiler: {error}"));
                None
            }
        }
    });
    built.clone()
}
