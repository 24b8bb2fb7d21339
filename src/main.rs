//! The `rescind` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    rescind::cli::run(std::env::args_os())
}
