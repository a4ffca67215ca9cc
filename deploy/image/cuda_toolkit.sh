#!/usr/bin/env bash
# Makes a folder with what the CUDA module needs of CUDA's toolkit: NVIDIA's wheels of
# cuda_wheels.txt, each refused unless it has its digest, laid out as CUDA's own installer does.
# dist-info/ says which they are. Does nothing where the same ones are there.
# Usage: deploy/image/cuda_toolkit.sh FOLDER
set -euo pipefail

folder="$(realpath -m "${1:?usage: $0 FOLDER}")"
wheels="$(dirname "$(realpath "$0")")/cuda_wheels.txt"
if cmp -s "$wheels" "$folder/cuda_wheels.txt"; then
  exit 0
fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check --require-hashes --no-deps \
  --only-binary :all: --no-compile --target "$work/wheels" -r "$wheels"

rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
mv "$work/wheels/nvidia/cu13" "$folder"
mkdir "$folder/dist-info"
mv "$work"/wheels/*.dist-info "$folder/dist-info/"
ln -s lib "$folder/lib64"
# Wheels have no links by which a linker finds libraries.
for library in "$folder"/lib/lib*.so.*; do
  ln -sf "$(basename "$library")" "${library%%.so.*}.so"
done
cp "$wheels" "$folder/cuda_wheels.txt"
