#!/usr/bin/env bash
# What ten thousand hostile connections do to an honest caller, as one table.
set -euo pipefail
cargo="${CARGO:-cargo}"
# They need as many descriptors on either side, and some to spare; the bench raises its soft limit itself.
descriptors=12000
hard="$(ulimit -Hn)"
if [[ "$hard" != unlimited && "$hard" -lt "$descriptors" ]]; then
  echo "needs $descriptors open files; the limit is $hard (raise it with prlimit --nofile=$descriptors --pid $$, as root)" >&2
  exit 1
fi
"$cargo" bench --quiet --bench hostile
