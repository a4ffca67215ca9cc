#!/usr/bin/env bash
# Builds the programs of the image: installs what that needs from Debian, configures the release
# preset without the tests and the CUDA module, builds, and takes out what the image is made of.
# Usage: deploy/image/build.sh OUT [TARGET...]
#   OUT      folder for what collect.sh takes out
#   TARGET   build only this, and take nothing out
# The same sources and the same Debian packages give the same bytes, in whatever folder they lie:
# the folder's name is taken out of what asserts say.
set -euo pipefail

out="$(realpath -m "${1:?usage: $0 OUT [TARGET...]}")"
shift
cd "$(dirname "$0")/../.."

deploy/install_deps.sh
build="$PWD/build/image"
cmake --preset release -B "$build" -DPREGATE_TESTS=OFF -DPREGATE_CUDA=OFF \
  -DCMAKE_CXX_FLAGS="-ffile-prefix-map=$PWD=." >/dev/null
if [[ $# -gt 0 ]]; then
  exec cmake --build "$build" --target "$@"
fi
cmake --build "$build" --target pregate pregate_client
deploy/image/collect.sh "$build" "$out"
