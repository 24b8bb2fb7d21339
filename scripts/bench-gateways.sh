#!/usr/bin/env bash
# What asking Rescind costs a gateway, as one table.
set -euo pipefail
lscpu 2>/dev/null | grep -E 'Model name|^CPU\(s\)' || true
"${CARGO:-cargo}" bench --quiet --bench gateways
