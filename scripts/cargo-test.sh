#!/usr/bin/env bash
# All tests: with nextest where it is installed, with cargo's own runner elsewhere. Doctests always with cargo's.
set -euo pipefail
cargo="${CARGO:-cargo}"
if "$cargo" nextest --version >/dev/null 2>&1; then
  "$cargo" nextest run --lib --bins --tests --examples --no-fail-fast
else
  "$cargo" test --lib --bins --tests --examples --no-fail-fast
fi
"$cargo" test --doc
