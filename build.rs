//! Generates the protocol code from `proto/`, without an installed `protoc`.

use std::error::Error;
use std::path::PathBuf;

const PROTOS: [&str; 4] =
    ["rescind/v1/revocation.proto", "rescind/v1/check.proto", "rescind/v1/replication.proto", "rescind/v1/admin.proto"];

/// Messages that hold a secret: `src/wire/secret.rs` says how they are shown.
const SECRET: [&str; 2] = [".rescind.v1.Welcome", ".rescind.v1.CreateCredentialResponse"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    if std::env::var_os("CARGO_FEATURE_CLIENT").is_none() {
        return Ok(());
    }
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("rescind.v1.descriptors"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .bytes(".rescind.v1.Delta.canonical")
        .bytes(".rescind.v1.SnapshotChunk.entries")
        .skip_debug(SECRET)
        .compile_fds(descriptors)?;
    Ok(())
}
