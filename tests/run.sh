#!/usr/bin/env bash
# Builds and runs every test: tests/run.sh [--gpu] [ctest arguments]
# Installs what is missing, fetches the sample models (the tests that need them skip visibly when
# that fails), builds release and runs ctest. What needs a GPU is labelled `gpu` and
# left out; --gpu runs that alone, without fetching anything. Where there is no GPU it is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

started=$SECONDS
deploy/install_deps.sh --test
if [[ "${1:-}" == "--gpu" ]]; then
  cmake --preset release -DPREGATE_CUDA=ON >/dev/null
  cmake --build --preset release --target gpu_tests
  exec ctest --preset gpu "${@:2}"
fi
models=()
for model in smollm2 gemma3; do
  if path="$(deploy/fetch_model.sh "$model")"; then
    models+=("$path")
  else
    echo "tests/run.sh: no $model; its tests will skip"
  fi
done
deploy/fetch_model.sh minilm >/dev/null || echo "tests/run.sh: no minilm; its tests will skip"
tests/make_venv.sh

cmake --preset release >/dev/null
cmake --build --preset release
built=$SECONDS

# The longest test is deterministic: where it has passed, it is not run again until its program, its
# numbers or a model change. tests/run.sh -R parity_test runs it all the same.
parity="$(sha256sum build/release/tests/model/parity_test tests/testdata/parity/* "${models[@]}")"
parity_passed=build/release/parity_passed.sha256
if [[ $# -gt 0 ]]; then
  ctest --preset release "$@"
elif cmp -s "$parity_passed" - <<<"$parity"; then
  echo "parity_test: passed with this very program, numbers and models; not run again"
  ctest --preset release -E '^parity_test$'
else
  ctest --preset release
  echo "$parity" >"$parity_passed"
fi
echo "built in $((built - started)) s, tested in $((SECONDS - built)) s"
