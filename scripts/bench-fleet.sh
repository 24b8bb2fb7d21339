#!/usr/bin/env bash
# What thousands of subscribers cost, as one table. Takes some minutes; wants an idle machine. Arguments choose rows.
set -euo pipefail
cargo="${CARGO:-cargo}"
# 5,000 connections need as many descriptors on either side, and some to spare.
descriptors=8192
hard="$(ulimit -Hn)"
if [[ "$hard" != unlimited && "$hard" -lt "$descriptors" ]]; then
  echo "needs $descriptors open files; the limit is $hard (raise it with prlimit --nofile=$descriptors --pid $$, as root)" >&2
  exit 1
fi
[[ "$(ulimit -n)" == unlimited || "$(ulimit -n)" -ge "$descriptors" ]] || ulimit -n "$descriptors"
lscpu 2>/dev/null | grep -E 'Model name|^CPU\(s\)' || true
"$cargo" bench --quiet --bench fleet -- "$@"
[[ $# -gt 0 ]] || "$cargo" bench --quiet --bench cold_start
