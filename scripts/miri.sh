#!/usr/bin/env bash
# Runs the tests of the core, of tokens and of replication under Miri. It interprets, so property tests try few cases; what
# calls into C (the journal, TLS) or needs the network is not built at all. Arguments are
# names of tests; without one all run that can.
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
# What an interpreter cannot be asked for: signatures take the better part of a minute each, these fleets have tens of
# thousands of members, this filter a hundred thousand keys, these sets grow until their filter is built anew or are swept, and
# races need real threads and time.
left_out=(
  replication::follower::tests replication::signature replication::lineage
  fleet::tests::a_roster_that_does_not_begin_or_never_ends_is_refused
  fleet::tests::those_without_room_are_told_apart_within_bounds_and_as_long_as_their_relay_sits_here
  filter::tests::errs_for_one_key_in_seven_hundred_at_capacity
  set::tests::races
  set::tests::revisions::a_set_that_is_loaded_grows
  set::tests::revisions::entry_added_behind_the_copying
  set::tests::revisions::filter_
  set::tests::revisions::sweeping_gives
  set::tests::union
)
skips=()
for name in "${left_out[@]}"; do skips+=(--skip "$name"); done
runner=(miri test)
if "$cargo" nextest --version >/dev/null 2>&1; then
  runner=(miri nextest run)
fi
exec "$cargo" +nightly "${runner[@]}" --lib --no-default-features --no-fail-fast -- "${skips[@]}" "$@"
