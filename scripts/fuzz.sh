#!/usr/bin/env bash
# Runs every fuzz target, or those named as arguments, FUZZ_RUNS times each, and prints a table. Needs a nightly toolchain.
# What it finds beyond the corpus stays in fuzz/found/<target>, to go on from; what crashes in fuzz/artifacts/<target>.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo="${CARGO:-cargo}"
runs="${FUZZ_RUNS:-100000}"
sanitizer="${FUZZ_SANITIZER:-none}"
# No input may take longer than this, in seconds, nor the process more memory, in MiB.
seconds_max=20
rss_max=2048

if ! "$cargo" +nightly --version >/dev/null 2>&1; then
  echo "make fuzz needs a nightly toolchain for coverage: rustup toolchain install nightly" >&2
  echo "without one, tests/fuzz_replay.rs runs the same targets on stable, without coverage" >&2
  exit 1
fi
fuzz="$(scripts/tool.sh cargo-fuzz)"
triple="$("$cargo" +nightly -vV | sed -n 's/^host: //p')"
# cargo-fuzz calls cargo again: it must be the same toolchain's.
export RUSTUP_TOOLCHAIN=nightly
"$fuzz" build --sanitizer "$sanitizer" any
binary="fuzz/target/$triple/release/any"

targets=("$@")
if [ ${#targets[@]} = 0 ]; then
  for folder in fuzz/corpus/*/; do targets+=("$(basename "$folder")"); done
fi
failed=0
table="$(printf '%-20s %10s %9s %9s %8s  %s' target executions exec/s coverage features crashes)"
for target in "${targets[@]}"; do
  mkdir -p "fuzz/found/$target" "fuzz/artifacts/$target"
  log="fuzz/artifacts/$target.log"
  longest="$(sed -n "s/.*target(\"$target\", .*, \([0-9]*\)),/\1/p" fuzz/src/targets/mod.rs)"
  before="$(find "fuzz/artifacts/$target" -type f | wc -l)"
  if ! RESCIND_FUZZ_TARGET="$target" "$binary" "fuzz/found/$target" "fuzz/corpus/$target" -runs="$runs" \
    -max_len="${longest:-4096}" -timeout="$seconds_max" -rss_limit_mb="$rss_max" -print_final_stats=1 -seed="${FUZZ_SEED:-0}" \
    -artifact_prefix="fuzz/artifacts/$target/" >"$log" 2>&1; then
    failed=1
  fi
  after="$(find "fuzz/artifacts/$target" -type f | wc -l)"
  stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
  last() { grep -oE "\b$1: [0-9]+" "$log" | tail -1 | grep -oE '[0-9]+' || true; }
  row="$(printf '%-20s %10s %9s %9s %8s  %s' "$target" "$(stat number_of_executed_units)" \
    "$(stat average_exec_per_sec)" "$(last cov)" "$(last ft)" "$((after - before))")"
  echo "$row"
  table+=$'\n'"$row"
done
if [ $failed = 1 ]; then
  echo "a target failed: the inputs are in fuzz/artifacts. Put them into fuzz/corpus/<target> with the repair." >&2
  exit 1
fi
printf '\n%s\n' "$table"
