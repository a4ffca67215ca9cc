#!/usr/bin/env bash
# Puts together the image's root folder: the programs, their loader and the shared libraries that it
# would load, the few files that these read at run time, and who made each of them. No shell.
# Usage: deploy/image/assemble.sh OUT ROOTFS
#   OUT      what deploy/image/build.sh made; of the CUDA variant where the module is there
#   ROOTFS   folder to make; must not be there
# Everything is root's (when root runs this), nobody else's to write, and as old as
# SOURCE_DATE_EPOCH (default 0), so that the same input gives the same bytes when it is packed.
set -euo pipefail

out="$(realpath "${1:?usage: $0 OUT ROOTFS}")"
root="${2:?usage: $0 OUT ROOTFS}"
mkdir -p "$(dirname "$root")"
mkdir "$root"
root="$(realpath "$root")"
cd "$(dirname "$0")/../.."
umask 022
programs=("$out/pregate" "$out/pregate-client")
cuda=()  # of the CUDA variant alone: the module, and what it loads by name
if [[ -f "$out/libpregate_cuda.so" ]]; then
  cuda=("$out/libpregate_cuda.so" "$out"/libcublasLt.so.*)
fi

# put FILE [MODE]: under its real name, and as a link where it is reached through one.
put() {
  local real
  real="$(realpath "$1")"
  install -D -m "${2:-0644}" "$real" "$root$real"
  [[ "$(basename "$1")" == "$(basename "$real")" ]] ||
    ln -sfr "$root$real" "$root$(dirname "$real")/$(basename "$1")"
}

# owners FILE...: the packages that they are of. Debian's lists have some under the names of before
# /lib became /usr/lib.
owners() {
  local owned
  owned="$(realpath "$@" | sed 'p; s|^/usr||' | xargs dpkg-query -S 2>/dev/null || true)"
  if [[ "$(wc -l <<<"$owned")" -ne $# ]]; then
    echo "$0: not all of these are of one Debian package: $*" >&2
    return 1
  fi
  cut -d: -f1 <<<"$owned"
}

# --- Programs, libraries, loader ---
for program in "${programs[@]}"; do
  install -D -m 0755 "$program" "$root/usr/bin/$(basename "$program")"
done
found="$(ldd "${programs[@]}" "${cuda[@]}")"
if grep 'not found' <<<"$found" >&2; then
  echo "$0: the libraries above are not here" >&2
  exit 1
fi
mapfile -t libraries < <(awk '$2 == "=>" { print $3 }' <<<"$found" | sort -u)
loader="$(awk '$1 ~ /^\/.*ld-/ && NF == 2 { print $1 }' <<<"$found" | sort -u)"
for library in "${libraries[@]}"; do
  put "$library"
done
put "$loader" 0755
if [[ ${#cuda[@]} -gt 0 ]]; then
  install -D -m 0644 -t "$root/usr/lib/pregate" "${cuda[0]}"
  # Beside the others, where the loader looks.
  install -m 0644 -t "$root$(dirname "$(realpath "${libraries[0]}")")" "${cuda[@]:1}"
fi
# The kernel looks for the loader by the name in the programs; /lib and /lib64 are Debian's links.
mkdir -p "$root/usr/lib" "$root/usr$(dirname "$loader")"
ln -sfr "$root$(realpath "$loader")" "$root/usr$loader"
for folder in lib "$(basename "$(dirname "$loader")")"; do
  ln -sfn "usr/$folder" "$root/$folder"
done

# --- What is read at run time ---
put /usr/lib/os-release
mkdir -p "$root"/etc/ssl/certs "$root"/usr/lib/ssl
ln -s ../usr/lib/os-release "$root/etc/os-release"
cp /etc/debian_version "$root/etc/"  # by which NVIDIA's runtime knows where drivers' libraries go
cp /etc/ssl/openssl.cnf "$root/etc/ssl/"  # the lowest version and security level of TLS
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"  # for pregate-client
ln -s /etc/ssl/openssl.cnf /etc/ssl/certs "$root/usr/lib/ssl/"
cat >"$root/etc/passwd" <<END
root:x:0:0:root:/:/nonexistent
nonroot:x:65532:65532:nonroot:/:/nonexistent
END
cat >"$root/etc/group" <<END
root:x:0:
nonroot:x:65532:
END
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"  # engines lay their own over it
# Places for what is mounted.
mkdir -p "$root"/{dev,models,proc,run,sys,tmp,var/tmp}

# --- Whose it is: licences of all, and what scanners of images read ---
packages="$(owners "${libraries[@]}" "$loader")"
mapfile -t packages < <(sort -u <<<"$packages"$'\n'base-files$'\n'ca-certificates$'\n'openssl)
mkdir -p "$root"/var/lib/dpkg/status.d "$root"/usr/share/pregate "$root"/usr/share/doc/pregate
for package in "${packages[@]}"; do
  dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
done
cp "$out/compiled_in.txt" "$root/usr/share/pregate/"
mapfile -t compiled_in <"$out/compiled_in.txt"
for package in "${packages[@]}" "${compiled_in[@]}"; do
  mkdir -p "$root/usr/share/doc/$package"
  cp -L "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/"
done
if [[ ${#cuda[@]} -gt 0 ]]; then
  cp -r "$out/wheels" "$root/usr/share/pregate/"
  for wheel in "$out"/wheels/*; do
    install -D -m 0644 "$wheel/License.txt" "$root/usr/share/doc/$(basename "$wheel")/copyright"
    rm "$root/usr/share/pregate/wheels/$(basename "$wheel")/License.txt"
  done
fi
cp LICENSE "$root/usr/share/doc/pregate/copyright"
cp -r /usr/share/common-licenses "$root/usr/share/"
deploy/image/sbom.py "$root" >"$root/usr/share/pregate/sbom.cdx.json"

# --- The same bytes each time ---
chmod -R u=rwX,go=rX "$root"
chmod 1777 "$root"/{tmp,var/tmp}
if [[ $EUID -eq 0 ]]; then chown -hR 0:0 "$root"; fi
find "$root" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
