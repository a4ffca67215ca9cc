#!/usr/bin/env bash
# Checks and measures the CUDA backend on this machine's GPU, in a quarter of an hour once built.
#
# Usage: load_tests/gpu_report.sh [OUT]              OUT: a folder, load_tests/results/gpu by default
#        load_tests/gpu_report.sh --collect FOLDER   for a machine on which nothing can be installed:
#                                                    the programs with their libraries, to be copied
#                                                    there with this repository and named by
#                                                    PREGATE_GPU_PROGRAMS=FOLDER
# Writes roofs.json, tests.txt, sanitizer.txt, bench.jsonl, experts.jsonl, ranks.txt, peers.jsonl
# and report.md.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=(gpu_bench gpu_roofs libpregate_cuda.so tests/kernels/gpu/kernels_gpu_test
          tests/kernels/gpu/models_gpu_test)

build() {
  deploy/install_deps.sh --test
  cmake --preset release -DPREGATE_CUDA=ON >/dev/null
  cmake --build --preset release --target gpu_bench gpu_roofs kernels_cuda gpu_tests
}

if [[ "${1:-}" == "--collect" ]]; then
  folder="${2:?usage: $0 --collect FOLDER}"
  build
  mkdir -p "$folder/lib"
  for program in "${programs[@]}"; do
    strip --strip-debug -o "$folder/$(basename "$program")" "build/release/$program"
    # The system's C library is there; CUDA's libraries come with its toolkit.
    ldd "build/release/$program" | awk '$3 ~ /^\// {print $3}' |
      grep -Ev '/(libc|libm|libpthread|libdl|librt|ld-linux[^/]*|libcu[^/]*)\.so' |
      xargs -r cp -L -t "$folder/lib"
  done
  du -sh "$folder"
  exit 0
fi

command -v nvidia-smi >/dev/null || { echo "$0: no GPU here (nvidia-smi is missing)" >&2; exit 1; }
out="${1:-load_tests/results/gpu}"
if [[ -n "${PREGATE_GPU_PROGRAMS:-}" ]]; then
  bin="$(realpath "$PREGATE_GPU_PROGRAMS")"
  export LD_LIBRARY_PATH="$bin/lib:${LD_LIBRARY_PATH:-}" PREGATE_CUDA_MODULE="$bin/libpregate_cuda.so"
  chmod +x "$bin"/* 2>/dev/null || true
else
  build
  bin="$(mktemp -d)"
  trap 'rm -rf "$bin"' EXIT
  for program in "${programs[@]}"; do ln -s "$PWD/build/release/$program" "$bin/"; done
  export PREGATE_CUDA_MODULE="$PWD/build/release/libpregate_cuda.so"
fi
mkdir -p "$out"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$out/gpu.txt"

step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

step "roofs"
"$bin/gpu_roofs" | tee "$out/roofs.json"

step "tests: every kernel against the reference, models against transformers"
export CUDA_LAUNCH_BLOCKING=1
{
  timeout 150 "$bin/kernels_gpu_test" --gtest_brief=1 || echo "kernels_gpu_test: exit status $?"
  timeout 60 "$bin/models_gpu_test" --gtest_brief=1 \
    --gtest_filter='*EveryTable*:*ExpertTiers*:*RoundedActivations*:*TinyParity.RowsDoNot*' || echo "models_gpu_test: exit status $?"
} >"$out/tests.txt" 2>&1
tail -n 5 "$out/tests.txt"
unset CUDA_LAUNCH_BLOCKING

step "compute-sanitizer"
if command -v compute-sanitizer >/dev/null; then
  # A selection: under it a kernel takes a hundred times as long. Tools whose memory it cannot see,
  # as that of managed allocations, would say nothing of it.
  for tool in memcheck racecheck; do
    echo "$tool:"
    timeout 60 compute-sanitizer --tool "$tool" --error-exitcode 9 "$bin/models_gpu_test" \
      --gtest_brief=1 --gtest_filter='*Families*LogitsOfRounded*/llama' 2>&1 | tail -n 4 ||
      echo "$tool: exit status $?"
  done | tee "$out/sanitizer.txt"
else
  echo "not there" | tee "$out/sanitizer.txt"
fi

step "steps of models"
: >"$out/bench.jsonl"
for case in llama-8b-bf16-prefill llama-8b-bf16 llama-8b-q4_k llama-8b-q4_k-prefill \
            qwen3-30b-a3b-bf16; do
  timeout 90 "$bin/gpu_bench" "$case" | tee -a "$out/bench.jsonl" || echo "$case: exit status $?"
done

step "experts in the host's memory"
: >"$out/experts.jsonl"
for case in experts-8b-{25,50,75}-{planned,demand}; do
  timeout 120 "$bin/gpu_bench" "$case" | tee -a "$out/experts.jsonl" || echo "$case: exit status $?"
done

step "the same on several GPUs"
gpus="$(nvidia-smi --query-gpu=name --format=csv,noheader | wc -l)"
for ranks in 2 4 8; do
  if ((gpus < ranks)); then
    echo "$ranks ranks: skipped, there are $gpus GPUs"
    continue
  fi
  for case in llama-8b-bf16 qwen3-30b-a3b-bf16; do
    timeout 90 "$bin/gpu_bench" "$case" --tensor-parallel-size "$ranks" |
      tee -a "$out/bench.jsonl" || echo "$case, $ranks ranks: exit status $?"
  done
done | tee "$out/ranks.txt"

step "transformers on the same shapes"
if python3 -c 'import torch, transformers' 2>/dev/null; then
  timeout 150 python3 load_tests/gpu_transformers.py | tee "$out/peers.jsonl" ||
    echo "transformers: exit status $?"
else
  echo "not there" && : >"$out/peers.jsonl"
fi

step "report"
python3 load_tests/gpu_report.py "$out" | tee "$out/report.md"
