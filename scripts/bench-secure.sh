#!/usr/bin/env bash
# What TLS with client certificates and authentication costs a check, then what hostile connections do, as tables.
set -euo pipefail
cargo="${CARGO:-cargo}"
lscpu 2>/dev/null | grep -E 'Model name|^CPU\(s\)' || true
"$cargo" bench --quiet --bench tls
scripts/bench-hostile.sh
