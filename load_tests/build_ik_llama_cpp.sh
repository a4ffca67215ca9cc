#!/usr/bin/env bash
# Builds llama-batched-bench of ik_llama.cpp, a fork of llama.cpp, in a checkout of it, and prints
# its path. Does nothing when it is there.
# Usage: load_tests/build_ik_llama_cpp.sh CHECKOUT          a quarter of an hour on two cores
set -euo pipefail

source="$(cd "$1" && pwd)"
build="$source/build"
target=llama-batched-bench

if [[ ! -x "$build/bin/$target" ]]; then
  cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DGGML_CUDA=OFF -DGGML_BLAS=OFF -DLLAMA_CURL=OFF -DBUILD_SHARED_LIBS=OFF >&2
  cmake --build "$build" --target "$target" >&2
fi
echo "$build/bin/$target"
