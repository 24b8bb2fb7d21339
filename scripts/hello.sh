#!/usr/bin/env bash
# What to type once the server runs. $1: the binary.
set -euo pipefail
cat <<TEXT

  Rescind is starting. In another terminal:

    $1 revoke --jti 7d2f --reason 'laptop stolen'
    echo '{"jti":"7d2f"}' | $1 check --claims-file -
    $1 status

  The tour is in README.md. Ctrl-C stops the server; nothing is lost.

TEXT
