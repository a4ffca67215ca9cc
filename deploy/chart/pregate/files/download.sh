# Fetches files that are not there yet, each whole and with the right digest or not at all.
# Usage: sh -c SCRIPT download FOLDER HEADER [PATH URL SHA256]...
#   HEADER   a file with a line for the request, such as "Authorization: Bearer ..."; "": none
set -eu
cd "$1"
header="$2"
shift 2
# The first process of a container hears of SIGTERM only if it asks.
child=
trap 'kill $child 2>/dev/null; exit 143' TERM
has_digest() { printf '%s  %s\n' "$2" "$1" | sha256sum -c >/dev/null 2>&1; }
while [ $# -gt 0 ]; do
  path="$1" url="$2" sha256="$3"
  shift 3
  if [ -f "$path" ] && has_digest "$path" "$sha256"; then
    echo "$path: there already"
    continue
  fi
  mkdir -p "$(dirname "$path")"
  part="$(mktemp "$path.XXXXXX")"  # a name of its own: others may fetch into the same volume
  trap 'rm -f "$part"' EXIT
  echo "$path: from $url"
  curl --fail --silent --show-error --location --retry 5 --retry-connrefused --connect-timeout 20 \
    --speed-limit 1024 --speed-time 60 ${header:+--header "@$header"} --output "$part" "$url" &
  child=$!
  wait "$child"
  if ! has_digest "$part" "$sha256"; then
    echo "$path: the SHA-256 of what came is not $sha256" >&2
    exit 1
  fi
  chmod 0644 "$part"
  mv "$part" "$path"
done
