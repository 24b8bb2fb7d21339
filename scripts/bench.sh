#!/usr/bin/env bash
# Every measurement that the README and the decisions rest on, as one table. Takes some minutes; wants an idle machine.
set -euo pipefail
cargo="${CARGO:-cargo}"
lscpu 2>/dev/null | grep -E 'Model name|L2|L3' || true
for bench in filter check sign verify memory storm durable propagation; do
  echo "== $bench"
  "$cargo" bench --quiet --bench "$bench"
done
