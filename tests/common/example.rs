//! The examples, as processes beside the server.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::BINARY;

/// Builds an example as this test was built and says where it is.
pub(crate) fn build(name: &str) -> PathBuf {
    let out = Path::new(BINARY).parent().unwrap();
    let profile = match out.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        named => named,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo tells a test about its package, build scripts of dependencies would take for a change.
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if text == "OUT_DIR" || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(variable);
        }
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["build", "--quiet", "--locked", "--example", name, "--profile", profile]);
    assert!(command.status().unwrap().success(), "the example {name} does not build");
    out.join("examples").join(name)
}
