#!/usr/bin/env bash
# Prints where a cargo tool is, having built it into target/tools when it is missing: without optimisation, since that is a
# minute instead of many and these tools wait for others.
set -euo pipefail
cd "$(dirname "$0")/.."
tool="$1"
if command -v "$tool" 2>/dev/null; then
  exit 0
fi
path="$PWD/target/tools/bin/$tool"
if [ ! -x "$path" ]; then
  echo "installing $tool into target/tools, once" >&2
  CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_PROFILE_RELEASE_DEBUG=false "${CARGO:-cargo}" install "$tool" --locked --quiet --root target/tools >&2
fi
echo "$path"
