//! One binary for all targets, so that they are linked once; `RESCIND_FUZZ_TARGET` names the one to run.
#![no_main]
#![allow(dead_code, reason = "seeds are made by the replay")]

mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("RESCIND_FUZZ_TARGET").expect("RESCIND_FUZZ_TARGET names a target");
        let target = targets::named(&name).unwrap_or_else(|| panic!("there is no target {name}"));
        TARGET.get_or_init(|| target);
    },
    |bytes: &[u8]| (TARGET.get().expect("it is set before the first input").run)(bytes)
);
