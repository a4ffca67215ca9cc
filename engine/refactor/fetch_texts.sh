#!/usr/bin/env bash
# Makes the texts that the recipe runs on, from Debian packages: FOLDER/<domain>/*.txt.
# Usage: engine/refactor/fetch_texts.sh FOLDER
# Nothing is installed: the packages are downloaded, unpacked beside, read and removed.
set -euo pipefail

folder="${1:?usage: $0 FOLDER}"
packages=(
  libpython3.11-stdlib                             # python
  libc6-dev linux-libc-dev postgresql-server-dev-15  # c
  perl-doc                                         # perl
  postgresql-doc-15                                # manual
  dict-gcide                                       # dictionary
  dict-jargon dict-foldoc                          # computing
  fortunes fortunes-min                            # quotes
)
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"
work="$(mktemp -d "$folder/.fetch.XXXXXX")"
trap 'rm -rf "$work"' EXIT

cd "$work"
echo "Fetching ${packages[*]} ..." >&2
apt-get download -qq -o APT::Sandbox::User=root "${packages[@]}"
mkdir tree
for package in *.deb; do
  dpkg-deb -x "$package" tree
done
cd - >/dev/null
PYTHONPATH="$(dirname "${BASH_SOURCE[0]}")/.." python3 -m refactor.texts "$work/tree" "$folder"
(cd "$work" && printf '%s\n' *.deb) >"$folder/packages.txt"
