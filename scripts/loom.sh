#!/usr/bin/env bash
# Runs the models in tests/loom, in a target directory of their own: everything is built with --cfg loom.
# LOOM_MAX_PREEMPTIONS bounds how often a thread is interrupted where it need not be; two find nearly everything.
set -euo pipefail
cd "$(dirname "$0")/.."
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}"
export RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$PWD/target/loom"
exec "${CARGO:-cargo}" test --manifest-path tests/loom/Cargo.toml -- "$@"
