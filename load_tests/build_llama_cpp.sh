#!/usr/bin/env bash
# Builds llama.cpp's batched benchmark from the sources in the PyPI sdist of llama-cpp-python, into
# the cache, and prints the binary's path. Does nothing when it is there. About ten minutes.
set -euo pipefail

cache="${XDG_CACHE_HOME:-$HOME/.cache}/pregate/llama.cpp"
version=0.3.36
binary="$cache/$version/build/bin/llama-batched-bench"
if [[ -x "$binary" ]]; then
  echo "$binary"
  exit 0
fi
mkdir -p "$cache/$version"
work="$(mktemp -d "$cache/.fetch.XXXXXX")"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" download -q --disable-pip-version-check --no-deps \
  --no-binary llama-cpp-python -d "$work" "llama-cpp-python==$version" >&2
tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work"
source="$(echo "$work"/llama_cpp_python-*/vendor/llama.cpp)"
cmake -S "$source" -B "$cache/$version/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DGGML_NATIVE=ON -DGGML_BLAS=OFF -DGGML_CUDA=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_CURL=OFF \
  -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_APP=OFF \
  -DLLAMA_BUILD_EXAMPLES=OFF >&2
cmake --build "$cache/$version/build" --target llama-batched-bench >&2
echo "$binary"
