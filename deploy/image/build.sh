#!/usr/bin/env bash
# Builds the programs of the image: installs what that needs from Debian, configures the release
# preset without the tests, builds, strips.
# Usage: deploy/image/build.sh OUT [TARGET...]
#   OUT      folder for the programs and for compiled_in.txt, the Debian packages of whose headers and
#            archives they are made
#   TARGET   what to build; default: pregate and pregate_client, the whole image
# The same sources and the same Debian packages give the same bytes, in whatever folder they lie:
# the folder's name is taken out of what asserts say.
set -euo pipefail

out="$(realpath -m "${1:?usage: $0 OUT [TARGET...]}")"
shift
targets=("$@")
[[ $# -gt 0 ]] || targets=(pregate pregate_client)
cd "$(dirname "$0")/../.."

deploy/install_deps.sh
build="$PWD/build/image"
cmake --preset release -B "$build" -DPREGATE_TESTS=OFF \
  -DCMAKE_CXX_FLAGS="-ffile-prefix-map=$PWD=." >/dev/null
cmake --build "$build" --target "${targets[@]}"

mkdir -p "$out"
deploy/image/compiled_in.sh "$build" "${targets[@]}" >"$out/compiled_in.txt"
for program in pregate pregate-client; do
  if [[ -e "$build/$program" ]]; then
    strip --strip-all -o "$out/$program" "$build/$program"
  fi
done
