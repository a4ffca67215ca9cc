#!/usr/bin/env bash
# Pregate beside llama.cpp and its fastest fork, ik_llama.cpp, on the same cores and files, by
# turns: the kernels (vs_peers_bench.py) and the servers (vs_peers_serve.py). Exit status 1 if a
# bar is missed. Writes load_tests/results/vs_peers_{bench,serve}.{md,json}.
#
# Usage: load_tests/vs_peers.sh [--only bench|serve] [--models NAME,NAME] [--rounds N] [--busy]
#   --models  of the bench; default: all that peer_models.sh knows
#   --rounds  5
#   --busy    try it out on a busy machine; keeps no result
# IK_LLAMA_CPP_DIR    a checkout of ik_llama.cpp (github.com/ikawrakow/ik_llama.cpp); without it the
#                     fork is not measured
# IK_LLAMA_CPP_COMMIT what to call its version, if the checkout has no git history
#
# Wants build/release/pregate and loadgen. The first run also builds the peers (half an hour).
# Forty minutes on two cores; --only bench: 30.
set -euo pipefail
cd "$(dirname "$0")/.."

only=
models=smollm2-q4_1,smollm2-q4_0,smollm2-q8_0,gemma3-q4_k_m,random-1.5b-q4_k,random-olmoe-q4_0
flags=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --only) only="$2" && shift 2 ;;
    --models) models="$2" && shift 2 ;;
    --rounds) flags+=(--rounds "$2") && shift 2 ;;
    --busy) flags+=(--busy) && shift ;;
    *) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2 && exit 2 ;;
  esac
done

case "$only" in
  "" | bench | serve) ;;
  *) echo "--only: must be bench or serve; got $only" >&2 && exit 2 ;;
esac

for program in pregate loadgen; do
  if [[ ! -x "build/release/$program" ]]; then
    echo "build/release/$program is missing: build it first, as tests/run.sh does" >&2
    exit 2
  fi
done

status=0
if [[ "$only" != serve ]]; then
  IFS=, read -ra names <<<"$models"
  paths="$(load_tests/peer_models.sh "${names[@]}")"
  mapfile -t paths <<<"$paths"
  llama="$(load_tests/build_llama_cpp.sh llama-batched-bench)"
  ik=()
  if [[ -n "${IK_LLAMA_CPP_DIR:-}" ]]; then
    ik_bench="$(load_tests/build_ik_llama_cpp.sh "$IK_LLAMA_CPP_DIR")"
    ik=(--ik "$ik_bench")
  fi
  load_tests/vs_peers_bench.py --llama "$llama" "${ik[@]}" "${flags[@]}" "${paths[@]}" || status=1
fi
if [[ "$only" != bench ]]; then
  model="$(load_tests/peer_models.sh smollm2-q4_1)"
  llama="$(load_tests/build_llama_cpp.sh llama-server)"
  load_tests/vs_peers_serve.py --llama "$llama" --model "$model" "${flags[@]}" || status=1
fi
exit "$status"
