#!/usr/bin/env bash
# Makes a virtual environment that `python -m refactor` runs in. Does nothing when it is there.
# Usage: engine/refactor/make_venv.sh [FOLDER]      default: build/torch_venv
# Takes PyTorch from the system if it has it (Debian: python3-torch), else from a package index.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="${1:-$here/../../build/torch_venv}"

[[ -f "$venv/ready" ]] && exit 0
options=(--clear)
wanted=()
if python3 -c 'import torch' 2>/dev/null; then
  options+=(--system-site-packages)
else
  wanted+=(torch)
fi
mkdir -p "$(dirname "$venv")"
python3 -m venv "${options[@]}" "$venv"
"$venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt" "${wanted[@]}"
touch "$venv/ready"
