#!/usr/bin/env bash
# A stand-in for your identity provider, to try things out: a key, its JWK set, and tokens. Needs openssl.
#
#   issuer.sh keys DIR            make DIR/key.pem and DIR/keys.json (RS256, kid "k1"), unless they are there
#   issuer.sh token DIR [JSON]    print a token with these claims; iss, aud, jti, iat and exp are added where they are missing
set -euo pipefail

encode() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

case "${1:-}" in
keys)
  dir="${2:?a folder}"
  mkdir -p "$dir"
  [ -e "$dir/key.pem" ] || openssl genrsa -out "$dir/key.pem" 2048 2>/dev/null
  modulus="$(openssl rsa -in "$dir/key.pem" -noout -modulus)"
  n="$(printf '%b' "$(sed 's/../\\x&/g' <<<"${modulus#Modulus=}")" | encode)"
  printf '{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"k1","n":"%s","e":"AQAB"}]}\n' "$n" >"$dir/keys.json"
  ;;
token)
  dir="${2:?a folder}"
  claims="${3:-}"
  claims="${claims:-{\}}"
  now="$(date +%s)"
  for pair in "\"iss\":\"https://login.example.com\"" "\"aud\":\"api\"" "\"jti\":\"$(openssl rand -hex 8)\"" \
    "\"iat\":$now" "\"exp\":$((now + 600))"; do
    name="${pair%%:*}"
    case "$claims" in *"$name"*) continue ;; esac
    rest="${claims#\{}"
    if [ "$rest" = "}" ]; then claims="{$pair}"; else claims="{$pair,$rest"; fi
  done
  message="$(printf '{"alg":"RS256","typ":"JWT","kid":"k1"}' | encode).$(printf '%s' "$claims" | encode)"
  printf '%s.%s\n' "$message" "$(printf '%s' "$message" | openssl dgst -sha256 -sign "$dir/key.pem" -binary | encode)"
  ;;
*)
  sed -n '2,5p' "$0" | cut -c3- >&2
  exit 2
  ;;
esac
