//! What a power cut leaves: a directory as it could be found afterwards, made from what a process wrote and synced.
//!
//! The rules, which are those of POSIX and stricter than any file system:
//! - What was written to a file before a sync of it began is there once that sync has returned.
//! - Anything written later may be there, missing, or torn at the borders of 512 bytes, each write for itself.
//! - Names (made, renamed, removed) in a directory are there up to the last sync of that directory, and from then on up to any
//!   point, in order. A file without its name is gone, a directory with all below it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::Random;

/// What disks write as a whole.
const SECTOR_BYTES: usize = 512;

/// One thing that was done.
#[derive(Clone, Debug)]
enum Done {
    /// A file has a new name; which file.
    Create(PathBuf, usize),
    Write(usize, usize, Vec<u8>),
    Truncate(usize, usize),
    /// Its number.
    SyncBegin(u64),
    /// A file's contents, since the beginning with this number.
    FileSynced(usize, u64),
    /// A directory's names, since the beginning with this number.
    NamesSynced(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
    MakeDirectory(PathBuf),
}

/// All that was done, in order.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    done: Vec<Done>,
    /// Where in the trace's file each ends.
    ends: Vec<u64>,
    files: usize,
}

impl Trace {
    /// Reads what the shim wrote. A last record that was cut off by a kill does not count.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let mut trace = Self::default();
        let mut by_inode: HashMap<u64, usize> = HashMap::new();
        let mut rest = &bytes[..];
        while let Some((head, tail)) = rest.split_at_checked(21) {
            let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
            let length = u32::from_le_bytes(head[17..21].try_into().unwrap()) as usize;
            let Some((payload, tail)) = tail.split_at_checked(length) else { break };
            rest = tail;
            let path = || PathBuf::from(String::from_utf8(payload.to_vec()).unwrap());
            let mut file = |is_new: bool| {
                if is_new {
                    by_inode.insert(word(1), trace.files);
                    trace.files += 1;
                }
                by_inode[&word(1)]
            };
            let done = match head[0] {
                1 => Done::Create(path(), file(true)),
                2 => Done::Write(file(false), word(9) as usize, payload.to_vec()),
                3 => Done::Truncate(file(false), word(9) as usize),
                4 => Done::SyncBegin(word(9)),
                5 if payload.is_empty() => Done::FileSynced(file(false), word(9)),
                5 => Done::NamesSynced(path(), word(9)),
                6 => {
                    let end = payload.iter().position(|byte| *byte == 0).unwrap();
                    let text = |bytes: &[u8]| PathBuf::from(String::from_utf8(bytes.to_vec()).unwrap());
                    Done::Rename(text(&payload[..end]), text(&payload[end + 1..]))
                }
                7 => Done::Unlink(path()),
                8 => Done::MakeDirectory(path()),
                other => panic!("the trace holds a record of kind {other}"),
            };
            trace.done.push(done);
            trace.ends.push((bytes.len() - rest.len()) as u64);
        }
        trace
    }

    /// How many things were done.
    pub(crate) fn len(&self) -> usize {
        self.done.len()
    }

    /// The moments at which files were changed, made, renamed or removed whose path holds `part`.
    pub(crate) fn touching(&self, part: &str) -> Vec<usize> {
        let holds = |path: &Path| path.to_str().unwrap().contains(part);
        let mut theirs = vec![false; self.files];
        let mut moments = Vec::new();
        for (index, done) in self.done.iter().enumerate() {
            let touched = match done {
                Done::Create(path, file) => {
                    theirs[*file] = holds(path);
                    theirs[*file]
                }
                Done::Write(file, ..) | Done::Truncate(file, _) | Done::FileSynced(file, _) => theirs[*file],
                Done::NamesSynced(path, _) | Done::Unlink(path) | Done::Rename(_, path) => holds(path),
                Done::MakeDirectory(_) | Done::SyncBegin(_) => false,
            };
            if touched {
                moments.push(index);
            }
        }
        moments
    }

    /// The moments whose records end within these bytes of the trace's file.
    pub(crate) fn within(&self, bytes: &std::ops::Range<u64>) -> Vec<usize> {
        (0..self.len()).filter(|index| bytes.contains(&self.ends[*index])).collect()
    }

    /// How much of the trace's file lies before the cut.
    pub(crate) fn bytes_before(&self, cut: usize) -> u64 {
        cut.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// Makes in `to` what could be found of `root` if the power had been cut before the thing number `cut`.
    pub(crate) fn leave(&self, cut: usize, random: &mut Random, root: &Path, to: &Path) {
        let past = &self.done[..cut];
        let synced = Synced::of(past, self.files);
        let mut contents: Vec<Vec<u8>> = vec![Vec::new(); self.files];
        let moods: Vec<Mood> = (0..self.files).map(|_| Mood::any(random)).collect();
        let mut lasting: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut names: BTreeMap<PathBuf, Name> = BTreeMap::new();
        for (index, done) in past.iter().enumerate() {
            match done {
                Done::Write(file, at, bytes) => {
                    let durable = index < synced.files[*file];
                    moods[*file].write(durable, &mut contents[*file], *at, bytes, random);
                }
                Done::Truncate(file, length) => {
                    if index < synced.files[*file] || moods[*file].is_kept(random) {
                        contents[*file].resize(*length, 0);
                    }
                }
                Done::Create(..) | Done::Rename(..) | Done::Unlink(_) | Done::MakeDirectory(_) => {
                    let parent = done.parent().to_owned();
                    let sure = synced.names.get(&parent).copied().unwrap_or(0);
                    let until = *lasting.entry(parent).or_insert_with(|| {
                        if random.next().is_multiple_of(2) {
                            sure
                        } else {
                            random.from(sure as u64..cut as u64 + 1) as usize
                        }
                    });
                    if index < until {
                        done.take_name(&mut names);
                    }
                }
                Done::SyncBegin(_) | Done::FileSynced(..) | Done::NamesSynced(..) => {}
            }
        }
        // A directory's name comes before those within: it is in the map, or they are nowhere.
        for (path, name) in &names {
            let place = to.join(path.strip_prefix(root).unwrap());
            if !place.parent().unwrap().is_dir() {
                continue;
            }
            match name {
                Name::Directory => fs::create_dir(place).unwrap(),
                Name::File(file) => fs::write(place, &contents[*file]).unwrap(),
            }
        }
    }
}

impl Done {
    /// The directory whose names it changes.
    fn parent(&self) -> &Path {
        let (Self::Create(path, _) | Self::Rename(_, path) | Self::Unlink(path) | Self::MakeDirectory(path)) = self
        else {
            panic!("{self:?} changes no name")
        };
        path.parent().unwrap()
    }

    fn take_name(&self, names: &mut BTreeMap<PathBuf, Name>) {
        match self {
            Self::Create(path, file) => drop(names.insert(path.clone(), Name::File(*file))),
            Self::MakeDirectory(path) => drop(names.insert(path.clone(), Name::Directory)),
            Self::Unlink(path) => drop(names.remove(path)),
            Self::Rename(from, to) => {
                if let Some(name) = names.remove(from) {
                    names.insert(to.clone(), name);
                }
            }
            _ => {}
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Name {
    File(usize),
    Directory,
}

/// Before which thing everything is on the disk for sure.
struct Synced {
    files: Vec<usize>,
    names: HashMap<PathBuf, usize>,
}

impl Synced {
    fn of(past: &[Done], files: usize) -> Self {
        let mut begun: HashMap<u64, usize> = HashMap::new();
        let mut synced = Self { files: vec![0; files], names: HashMap::new() };
        for (index, done) in past.iter().enumerate() {
            match done {
                Done::SyncBegin(number) => drop(begun.insert(*number, index)),
                Done::FileSynced(file, number) => synced.files[*file] = synced.files[*file].max(begun[number]),
                Done::NamesSynced(path, number) => {
                    let sure = synced.names.entry(path.clone()).or_default();
                    *sure = begun[number].max(*sure);
                }
                _ => {}
            }
        }
        synced
    }
}

/// What becomes of the writes to one file that were not synced.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Lost,
    Kept,
    Each,
}

impl Mood {
    fn any(random: &mut Random) -> Self {
        [Self::Lost, Self::Kept, Self::Each, Self::Each][random.from(0..4) as usize]
    }

    fn is_kept(self, random: &mut Random) -> bool {
        match self {
            Self::Lost => false,
            Self::Kept => true,
            Self::Each => random.next().is_multiple_of(2),
        }
    }

    fn write(self, durable: bool, content: &mut Vec<u8>, at: usize, bytes: &[u8], random: &mut Random) {
        let whole = durable || self.is_kept(random);
        if whole {
            put(content, at, bytes);
        } else if matches!(self, Self::Each) && random.next().is_multiple_of(2) {
            // Torn: some sectors of it.
            let mut from = 0;
            while from < bytes.len() {
                let until = ((at + from) / SECTOR_BYTES + 1) * SECTOR_BYTES - at;
                let until = until.min(bytes.len());
                if random.next().is_multiple_of(2) {
                    put(content, at + from, &bytes[from..until]);
                }
                from = until;
            }
        }
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}
