#!/usr/bin/env bash
# The tests that start real processes once more, with TLS and authentication on: see tests/common/guard.rs.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo="${CARGO:-cargo}"
programs=(acceptance agent bad_disk bad_frames bad_input bad_subscriber chaos clock_jumps crash disk_faults layer lying_relay policy power_cut propagation stop)
# They make keys and principals of their own, count floods by their source, or follow a page word for word, or are called by
# programs without a certificate.
left_out=(access gateways hostile oauth rotation secrecy standing strategies tls)
tests=()
for program in "${programs[@]}"; do tests+=(--test "$program"); done
echo "secured: ${programs[*]}; left out: ${left_out[*]}"
export RESCIND_TEST_SECURE=1
if "$cargo" nextest --version >/dev/null 2>&1; then
  "$cargo" nextest run "${tests[@]}" --no-fail-fast
else
  "$cargo" test "${tests[@]}" --no-fail-fast
fi
