#!/usr/bin/env bash
# Takes the programs of the image out of a build: without symbols, and with the list of the Debian
# packages whose headers or archives have gone into them, since libraries of headers alone leave no
# other trace (what is under /usr/local is not Debian's). With --cuda also the CUDA module, the library that it loads, and what is said in NVIDIA's
# wheels of whose these are.
# Usage: deploy/image/collect.sh [--cuda TOOLKIT] BUILD OUT
#   TOOLKIT  the folder of cuda_toolkit.sh, or a like one
#   BUILD    a folder in which Ninja has built them
set -euo pipefail

toolkit=""
if [[ "${1:-}" == --cuda ]]; then
  toolkit="$(realpath "${2:?usage: $0 [--cuda TOOLKIT] BUILD OUT}")"
  shift 2
fi
build="$(realpath "${1:?usage: $0 [--cuda TOOLKIT] BUILD OUT}")"
out="${2:?usage: $0 [--cuda TOOLKIT] BUILD OUT}"
mkdir -p "$out"
targets=(pregate pregate_client)

for program in pregate pregate-client; do
  strip --strip-all -o "$out/$program" "$build/$program"
done
if [[ -n "$toolkit" ]]; then
  targets+=(kernels_cuda)
  strip --strip-all -o "$out/libpregate_cuda.so" "$build/libpregate_cuda.so"
  cp "$toolkit"/lib/libcublasLt.so.[0-9]* "$out/"
  while IFS='=' read -r wheel _; do
    mkdir -p "$out/wheels/$wheel"
    from=("$toolkit/dist-info/${wheel//-/_}"-*.dist-info)
    cp "${from[0]}/METADATA" "${from[0]}/licenses/License.txt" "$out/wheels/$wheel/"
  done < <(grep -v '^#' "$(dirname "$0")/cuda_wheels.txt")
fi

inputs="$(ninja -C "$build" -t inputs "${targets[@]}")"
mapfile -t objects < <(grep '\.o$' <<<"$inputs")
{
  ninja -C "$build" -t deps "${objects[@]}" | sed -n 's|^ *\(/usr/.*\)$|\1|p'
  grep '^/usr/.*\.a$' <<<"$inputs" || true
} | grep -v '^/usr/local/' | sort -u | xargs realpath | sort -u | xargs dpkg-query -S |
  sed 's|^\([^:, ]*\).*|\1|' | sort -u >"$out/compiled_in.txt"
