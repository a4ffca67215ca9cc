#!/usr/bin/env bash
# Builds programs of llama.cpp from the sources in the PyPI sdist of llama-cpp-python, into the
# cache, and prints their paths. Does nothing for those that are there.
# Usage: load_tests/build_llama_cpp.sh [TARGET...]
# Default target: llama-batched-bench, five minutes on two cores; llama-server takes three more,
# llama-quantize none to speak of.
set -euo pipefail

version=0.3.36
cache="${XDG_CACHE_HOME:-$HOME/.cache}/pregate/llama.cpp/$version"
source="$cache/source"
build="$cache/release"
targets=("${@:-llama-batched-bench}")
repository="$(cd "$(dirname "$0")/.." && pwd)"

fetch_source() {
  mkdir -p "$cache"
  work="$(mktemp -d "$cache/.fetch.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" download -q --disable-pip-version-check --no-deps \
    --no-binary llama-cpp-python -d "$work" "llama-cpp-python==$version" >&2
  tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work"
  cat "$repository/load_tests/llama_cpp_amx.h" >> \
    "$work"/llama_cpp_python-*/vendor/llama.cpp/ggml/src/ggml-cpu/amx/common.h
  mv "$work"/llama_cpp_python-*/vendor/llama.cpp "$source"
}

for target in "${targets[@]}"; do
  if [[ ! -x "$build/bin/$target" ]]; then
    [[ -d "$source" ]] || fetch_source
    cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
      -DGGML_BLAS=OFF -DGGML_CUDA=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_UI=OFF \
      -DLLAMA_USE_PREBUILT_UI=OFF -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_APP=OFF \
      -DLLAMA_BUILD_EXAMPLES=OFF >&2
    cmake --build "$build" --target "$target" >&2
  fi
  echo "$build/bin/$target"
done
