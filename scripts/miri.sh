#!/usr/bin/env bash
# Runs the tests of the core, of tokens and of replication under Miri. It interprets, so property tests try few cases; what
# calls into C (the journal, TLS) or needs the network is not built at all. Arguments go to the test runner.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo="${CARGO:-cargo}"
if ! "$cargo" +nightly --version >/dev/null 2>&1; then
  echo "make miri needs a nightly toolchain: rustup toolchain install nightly --component miri,rust-src" >&2
  exit 1
fi
if ! "$cargo" +nightly miri --version >/dev/null 2>&1; then
  rustup component add --toolchain nightly miri rust-src
fi
# Property tests look for the file of their failures, which isolation would forbid.
export MIRIFLAGS="${MIRIFLAGS:--Zmiri-disable-isolation}" PROPTEST_CASES="${PROPTEST_CASES:-2}"
if "$cargo" nextest --version >/dev/null 2>&1; then
  exec "$cargo" +nightly miri nextest run --lib --no-default-features --no-fail-fast "$@"
fi
exec "$cargo" +nightly miri test --lib --no-default-features --no-fail-fast "$@"
