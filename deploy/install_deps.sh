#!/usr/bin/env bash
# Installs what building and testing Pregate needs from Debian, if anything is missing.
# Usage: deploy/install_deps.sh [--test]     --test: also what only the tests need
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache pkg-config
  libgrpc++-dev libgrpc-dev protobuf-compiler-grpc protobuf-compiler libprotobuf-dev libabsl-dev
  prometheus-cpp-dev libgtest-dev libgmock-dev libbenchmark-dev
  nlohmann-json3-dev libyaml-cpp-dev libcli11-dev libpcre2-dev libutf8proc-dev libicu-dev
  libboost1.81-dev libssl-dev liburing-dev
  python3 python3-venv ca-certificates
)
if [[ "${1:-}" == "--test" ]]; then
  packages+=(libboost-context1.81-dev libnghttp2-dev clang-format curl haproxy prometheus openssl)
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
    missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "These Debian packages are missing and apt-get is not here: ${missing[*]}" >&2
  exit 1
fi
sudo=()
if [[ $EUID -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "Not root and no sudo. Please have installed: ${missing[*]}" >&2
    exit 1
  fi
  sudo=(sudo)
fi
echo "Installing from Debian: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
