#!/usr/bin/env bash
# Builds and runs every test: tests/run.sh [ctest arguments]
# Installs what is missing, fetches the sample models (the tests that need them skip visibly when
# that fails), builds release and runs ctest. What needs a GPU is labelled `gpu` and left out here.
set -euo pipefail
cd "$(dirname "$0")/.."

started=$SECONDS
deploy/install_deps.sh --test
for model in smollm2 gemma3; do
  deploy/fetch_model.sh "$model" >/dev/null || echo "tests/run.sh: no $model; its tests will skip"
done
tests/make_venv.sh

cmake --preset release >/dev/null
cmake --build --preset release
built=$SECONDS
ctest --preset release "$@"
echo "built in $((built - started)) s, tested in $((SECONDS - built)) s"
