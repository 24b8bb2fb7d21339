#!/usr/bin/env bash
# Rounds of faults under real servers, and what came of them in one line: scripts/faults.sh KILLS ROUNDS
#
# KILLS times kill -9, ROUNDS faults of a disk and ROUNDS power cuts, and as many power cuts of an agent's cache. The clock
# jumps, and disks that are really full or read-only, come once. Every test ends by itself when anything is lost.

set -euo pipefail
cd "$(dirname "$0")/.."

kills=$1
rounds=$2
cargo=${CARGO:-cargo}
begun=$SECONDS
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# tests NAME ROUNDS
tests() {
    RESCIND_FAULT_ROUNDS=$2 "$cargo" test --test "$1" -- --nocapture --test-threads=1 2>&1 | tee -a "$log"
}

fail() {
    echo "make faults: FAILED: $1"
    exit 1
}

tests crash "$kills" || fail "kill -9"
tests disk_faults "$rounds" || fail "faults of a disk"
tests power_cut "$rounds" || fail "power cuts"
tests clock_jumps 1 || fail "jumps of the clock"
tests bad_disk 1 || fail "bad disks"

echo
grep '^faults: ' "$log"
if grep -q 'SKIPPED' "$log"; then
    grep 'SKIPPED' "$log"
fi
# Counted from what the tests say they did: a round that was skipped is none.
ran=$(sed -n 's/^faults: \([0-9]*\) \(kills\|faults of a disk\|power cuts,\).*/\1/p' "$log" | awk '{ sum += $1 } END { print sum + 0 }')
wanted=$((kills + 2 * rounds))
[ "$ran" -eq "$wanted" ] || fail "$ran of $wanted rounds were run"
echo "make faults: $ran rounds in $((SECONDS - begun)) s, nothing acknowledged was lost"
