#!/usr/bin/env bash
# From a clean clone to a streamed answer: installs what is missing, builds, fetches a small real
# model, serves it and asks it a question through gRPC.
# Usage: deploy/quickstart.sh [--once] [--read-me]
#   --once      leave after the answer; exit status 0 only if it streamed
#   --read-me   serve it as a Read-ME model: seven overlapping experts, and a router that names them
#               ahead (a test of serving, not of quality: the experts are pruned and not tuned)
set -euo pipefail
cd "$(dirname "$0")/.."

once=false
read_me=()
for word in "$@"; do
  case "$word" in
    --once) once=true ;;
    --read-me) read_me=(--read-me tests/testdata/read_me_smollm2) ;;
    *) echo "usage: $0 [--once] [--read-me]" >&2; exit 2 ;;
  esac
done

say() { printf '\n== %s\n' "$*"; }

say "Packages"
deploy/install_deps.sh

say "Build"
cmake --preset release >/dev/null
targets=(pregate pregate_client)
if [[ -e /dev/nvidiactl ]] && cmake --build --preset release --target help | grep -q '^kernels_cuda:'; then
  targets+=(kernels_cuda)  # the module that the server loads where there is a GPU
fi
cmake --build --preset release --target "${targets[@]}"

say "Model"
model="$(deploy/fetch_model.sh smollm2)"
echo "$model"

say "Serve"
grpc_port="${PREGATE_GRPC_PORT:-8001}"
http_port="${PREGATE_HTTP_PORT:-8000}"
metrics_port="${PREGATE_METRICS_PORT:-8002}"
log=build/quickstart.log
build/release/pregate serve "$model" "${read_me[@]}" --served-model-name smollm2 \
  --port "$http_port" --grpc-port "$grpc_port" --metrics-port "$metrics_port" >"$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
client=(build/release/pregate-client --target "127.0.0.1:$grpc_port")
"${client[@]}" --wait 60 &
if ! wait -n -p ended "$server" $! || [[ "$ended" == "$server" ]]; then
  cat "$log" >&2
  echo "The server did not become ready; its messages are above." >&2
  exit 1
fi
cat "$log"

question="What is the capital of France? Answer in one sentence."
say "Question: $question"
answer="$(mktemp)"
if ! "${client[@]}" --chat "$question" --temperature 0 --max-tokens 64 | tee "$answer" || [[ ! -s "$answer" ]]; then
  rm -f "$answer"
  echo "No answer was streamed." >&2
  exit 1
fi
rm -f "$answer"

cat <<END

HTTP     http://127.0.0.1:$http_port/v1   (OpenAI's API)
gRPC     127.0.0.1:$grpc_port   (pregate.v1.Inference, grpc.health.v1.Health, reflection)
metrics  http://127.0.0.1:$metrics_port/metrics
log      $log

Try:
  build/release/pregate-client --target 127.0.0.1:$grpc_port --chat "Tell me a short story."
  curl -N http://127.0.0.1:$http_port/v1/completions -H 'Content-Type: application/json' \\
    -d '{"prompt": "Once upon a time", "max_tokens": 64, "stream": true}'
  build/release/pregate generate $model${read_me[*]:+ ${read_me[*]}} -p "Why is the sky blue?"
END
if [[ ${#read_me[@]} -gt 0 ]]; then
  echo "  curl -s http://127.0.0.1:$metrics_port/metrics | grep expert"
fi
$once && exit 0
echo
echo "Ctrl-C stops the server."
wait "$server"
