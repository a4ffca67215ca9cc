#!/usr/bin/env bash
# Prints the Debian packages whose headers or archives have gone into what was built, one a line:
# libraries of headers alone leave no other trace.
# Usage: deploy/image/compiled_in.sh BUILD TARGET...     BUILD: a folder of Ninja's
set -euo pipefail

build="${1:?usage: $0 BUILD TARGET...}"
shift
ninja -C "$build" -t inputs "$@" >/dev/null  # says what is wrong with a target's name

mapfile -t objects < <(ninja -C "$build" -t inputs "$@" | grep '\.o$')
{
  ninja -C "$build" -t deps "${objects[@]}" | sed -n 's|^ *\(/usr/.*\)$|\1|p'
  ninja -C "$build" -t inputs "$@" | grep '^/usr/.*\.a$' || true
} | sort -u | xargs realpath | sort -u | xargs dpkg-query -S | sed 's|^\([^:, ]*\).*|\1|' | sort -u
