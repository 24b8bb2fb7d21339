#!/usr/bin/env bash
# Makes sure that the Debian packages named as arguments are there: installs them as root or with CI set, else lists them.
set -euo pipefail
missing=()
for package in "$@"; do
  dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
# Python and its venv module may come from elsewhere.
if python3 -c 'import venv, ensurepip' 2>/dev/null; then
  kept=()
  for package in "${missing[@]:-}"; do
    case "$package" in python3 | python3-venv | "") ;; *) kept+=("$package") ;; esac
  done
  missing=("${kept[@]:-}")
fi
# So may Node and npm.
if command -v node >/dev/null && command -v npm >/dev/null; then
  kept=()
  for package in "${missing[@]:-}"; do
    case "$package" in nodejs | npm | "") ;; *) kept+=("$package") ;; esac
  done
  missing=("${kept[@]:-}")
fi
if [ -z "${missing[*]:-}" ]; then
  exit 0
fi
if [ "$(id -u)" = 0 ]; then
  apt-get update -qq && apt-get install -y -qq "${missing[@]}" >/dev/null
elif [ -n "${CI:-}" ]; then
  sudo apt-get update -qq && sudo apt-get install -y -qq "${missing[@]}" >/dev/null
else
  echo "please install these Debian packages first: ${missing[*]}" >&2
  exit 1
fi
