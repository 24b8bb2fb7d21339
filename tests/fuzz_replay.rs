//! Every fuzz target over its corpus and over seeded mutations of it: what `make fuzz` does at length, on stable and in a
//! few seconds.
//!
//! `RESCIND_FUZZ_MUTATIONS` is how many for each target (10,000), `RESCIND_FUZZ_SEED` where they begin (1, so that a run
//! repeats itself). `RESCIND_FUZZ_WRITE=1` writes the seeds of the corpus anew, after a change of format.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the seed and the input are what a failure is told by")]

#[path = "fuzz_replay/mutator.rs"]
mod mutator;
#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use mutator::Mutator;

/// The most bytes that the corpus may have: it is part of every clone.
const CORPUS_BYTES_MAX: u64 = 300 << 10;

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder(target)).expect("a target has a corpus");
    let mut files: Vec<_> = files
        .map(|file| file.expect("the folder can be read"))
        .map(|file| {
            let bytes = fs::read(file.path()).expect("the file can be read");
            (file.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    files.sort();
    files
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// Replays the corpus, then mutations of it. What fails is shown as it must be put into the corpus.
fn replay(name: &str) {
    let target = targets::named(name).expect("a target of this name");
    let corpus = corpus(name);
    let run = |from: &str, bytes: &[u8]| {
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("{name} fails on {from}: {hex}");
            std::panic::resume_unwind(cause);
        }
    };
    for (file, bytes) in &corpus {
        run(file, bytes);
    }
    assert!(targets::accepted() > 0, "no file of the corpus of {name} gets past the decoder");
    let (seed, count) = (setting("RESCIND_FUZZ_SEED", 1), setting("RESCIND_FUZZ_MUTATIONS", 10_000));
    let seeds: Vec<&[u8]> = corpus.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    let mut mutator = Mutator::new(seed, &seeds, target.bytes_max);
    println!("{name}: {} files, {count} mutations from seed {seed}", corpus.len());
    let before = targets::accepted();
    for number in 0..count {
        let bytes = mutator.next_input();
        run(&format!("mutation {number} from seed {seed}"), &bytes);
    }
    println!("{name}: {} of them got past the decoder", targets::accepted() - before);
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed() {
            let mut replayed = vec![$(stringify!($name)),*];
            let mut all: Vec<&str> = targets::TARGETS.iter().map(|target| target.name).collect();
            replayed.sort_unstable();
            all.sort_unstable();
            assert_eq!(replayed, all);
        }
    };
}

replays! {
    subscriber_frame sender_frame follower subscription fleet delta policy snapshot shape selector scalar position record
    carried identity member page_token authority_snapshot replica_cache manifest token claims opaque_token json_revoke
    json_reinstate json_list json_check grpc_revoke grpc_reinstate grpc_query config_server config_agent time url address
    credential principals verification policy_text
}

#[test]
fn the_corpus_holds_what_this_version_writes_and_stays_small() {
    let scratch = tempfile::tempdir().unwrap();
    let write = setting("RESCIND_FUZZ_WRITE", 0) == 1;
    for (target, name, bytes) in targets::seeds::all(scratch.path()) {
        let path = folder(target).join(&name);
        if write {
            fs::create_dir_all(folder(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let found = fs::read(&path).unwrap_or_default();
        assert_eq!(found, bytes, "{} is out of date: run with RESCIND_FUZZ_WRITE=1", path.display());
    }
    let sizes = targets::TARGETS.iter().flat_map(|target| corpus(target.name)).map(|(_, bytes)| bytes.len() as u64);
    let total: u64 = sizes.sum();
    assert!(total <= CORPUS_BYTES_MAX, "the corpus has {total} bytes, at most {CORPUS_BYTES_MAX}");
}
