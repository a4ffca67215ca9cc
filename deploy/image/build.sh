#!/usr/bin/env bash
# Builds the programs of the image: installs what that needs from Debian, configures the release
# preset without the tests, builds, and takes out what the image is made of.
# Usage: deploy/image/build.sh [--cuda TOOLKIT] OUT [TARGET...]
#   TOOLKIT  with the CUDA module, by this folder of cuda_toolkit.sh; without, the module is left out
#            also where there is a compiler for it
#   OUT      folder for what collect.sh takes out
#   TARGET   build only this, and take nothing out
# The same sources and the same packages give the same bytes, in whatever folder they lie: the
# folder's name is taken out of what asserts say. Of the CUDA module only in a folder of the same name,
# by which its compiler names kernels.
set -euo pipefail

cuda=()
if [[ "${1:-}" == --cuda ]]; then
  cuda=(--cuda "$(realpath "${2:?usage: $0 [--cuda TOOLKIT] OUT [TARGET...]}")")
  shift 2
fi
out="$(realpath -m "${1:?usage: $0 [--cuda TOOLKIT] OUT [TARGET...]}")"
shift
cd "$(dirname "$0")/../.."

deploy/install_deps.sh
build="$PWD/build/image" module=(-DPREGATE_CUDA=OFF)
targets=(pregate pregate_client)
if [[ ${#cuda[@]} -gt 0 ]]; then
  build+="-cuda"
  # In the image all libraries are where the loader looks: no other path belongs into the module.
  module=(-DPREGATE_CUDA=ON "-DCMAKE_CUDA_COMPILER=${cuda[1]}/bin/nvcc" -DCMAKE_SKIP_RPATH=ON)
  targets+=(kernels_cuda)
fi
cmake --preset release -B "$build" -DPREGATE_TESTS=OFF "${module[@]}" \
  "-DCMAKE_CXX_FLAGS=-ffile-prefix-map=$PWD=." >/dev/null
if [[ $# -gt 0 ]]; then
  exec cmake --build "$build" --target "$@"
fi
cmake --build "$build" --target "${targets[@]}"
deploy/image/collect.sh "${cuda[@]}" "$build" "$out"
