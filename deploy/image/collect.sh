#!/usr/bin/env bash
# Takes the programs of the image out of a build: without symbols, and with the list of the Debian
# packages whose headers or archives have gone into them, since libraries of headers alone leave no
# other trace.
# Usage: deploy/image/collect.sh BUILD OUT     BUILD: a folder in which Ninja has built them
set -euo pipefail

build="$(realpath "${1:?usage: $0 BUILD OUT}")"
out="${2:?usage: $0 BUILD OUT}"
mkdir -p "$out"

for program in pregate pregate-client; do
  strip --strip-all -o "$out/$program" "$build/$program"
done

inputs="$(ninja -C "$build" -t inputs pregate pregate_client)"
mapfile -t objects < <(grep '\.o$' <<<"$inputs")
{
  ninja -C "$build" -t deps "${objects[@]}" | sed -n 's|^ *\(/usr/.*\)$|\1|p'
  grep '^/usr/.*\.a$' <<<"$inputs" || true
} | sort -u | xargs realpath | sort -u | xargs dpkg-query -S |
  sed 's|^\([^:, ]*\).*|\1|' | sort -u >"$out/compiled_in.txt"
