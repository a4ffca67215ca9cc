#!/usr/bin/env bash
# Makes the model files of the comparison with other programs and prints their paths; does nothing
# for those that are there.
# Usage: load_tests/peer_models.sh NAME...
#   smollm2-q4_1  gemma3-q4_k_m   the samples of deploy/fetch_model.sh
#   smollm2-q4_0  smollm2-q8_0    the first one, quantised again by llama-quantize: for measurements
#                                 of speed only, its answers are worse than they need be
#   random-1.5b-q4_k              make_random_llama.py
#   random-olmoe-q4_0             make_random_moe.py: a mixture of experts
set -euo pipefail
cd "$(dirname "$0")/.."

models="${PREGATE_MODELS:-${XDG_CACHE_HOME:-$HOME/.cache}/pregate/models}"

requantised() {
  local kind="$1" file="$models/SmolLM2-135M-Instruct.requantised.$1.gguf" source quantize
  if [[ ! -f "$file" ]]; then
    source="$(deploy/fetch_model.sh smollm2)"
    quantize="$(load_tests/build_llama_cpp.sh llama-quantize)"
    "$quantize" --allow-requantize "$source" "$file.unfinished" "$kind" >/dev/null 2>&1
    mv "$file.unfinished" "$file"
  fi
  echo "$file"
}

random_model() {
  local file="$models/$1" script="$2" source work
  if [[ ! -f "$file" ]]; then
    source="$(deploy/fetch_model.sh smollm2)"
    work="$(mktemp -d)"
    python3 -m venv "$work"
    "$work/bin/pip" install -q --disable-pip-version-check gguf==0.19.0 >&2
    "$work/bin/python" "load_tests/$script" "$file" "$source" >&2
    rm -rf "$work"
  fi
  echo "$file"
}

for name in "$@"; do
  case "$name" in
    smollm2-q4_1) deploy/fetch_model.sh smollm2 ;;
    smollm2-q4_0) requantised Q4_0 ;;
    smollm2-q8_0) requantised Q8_0 ;;
    gemma3-q4_k_m) deploy/fetch_model.sh gemma3 ;;
    random-1.5b-q4_k) random_model random-llama-1.5b.Q4_K.gguf make_random_llama.py ;;
    random-olmoe-q4_0) random_model random-olmoe-1b.Q4_0.gguf make_random_moe.py ;;
    *)
      echo "$0: no model is called $name" >&2
      exit 2
      ;;
  esac
done
