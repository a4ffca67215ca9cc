#!/usr/bin/env bash
# Makes build/venv with the independent implementations that tests compare with and the clients
# that we did not write (tests/requirements.txt). Does nothing when it is current.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=build/venv
stamp="$venv/requirements.txt"
if cmp -s tests/requirements.txt "$stamp"; then
  exit 0
fi
mkdir -p build
python3 -m venv --clear "$venv"
"$venv/bin/pip" install -q --disable-pip-version-check -r tests/requirements.txt
cp tests/requirements.txt "$stamp"
