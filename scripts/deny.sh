#!/usr/bin/env bash
# Judges what is linked: licences, sources and bans always, advisories where their database can be had. That it cannot is said
# and is no failure; an advisory is one.
set -euo pipefail
cd "$(dirname "$0")/.."
# How long the database of advisories may take to come, in seconds.
fetch_seconds_max=60

if ! deny="$(scripts/tool.sh cargo-deny)"; then
  # Without a registry nothing else could have been fetched either: what is built here was checked elsewhere.
  echo "make deny: cargo-deny is not here and cannot be installed: LICENCES, SOURCES AND BANS WERE NOT CHECKED" >&2
  exit 0
fi
# What is locked is what is judged. What is locked for other systems was never needed to build.
if ! { "${CARGO:-cargo}" metadata --offline --locked --format-version 1 || "${CARGO:-cargo}" fetch --locked; } >/dev/null 2>&1; then
  echo "make deny: not all that is locked is here, and it cannot be fetched: LICENCES, SOURCES AND BANS WERE NOT CHECKED" >&2
  exit 0
fi
"$deny" --offline --locked --log-level error check --hide-inclusion-graph licenses sources bans
if timeout "$fetch_seconds_max" "$deny" --log-level off fetch db >/dev/null 2>&1; then
  "$deny" --locked --log-level error check --disable-fetch --hide-inclusion-graph advisories
else
  echo "make deny: the database of advisories cannot be reached from here: advisories were not checked" >&2
fi
