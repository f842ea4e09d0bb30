#!/usr/bin/env bash
# Proves a release tarball: unpacks it into a root directory that holds nothing else but the C library and cmp, starts a
# cluster there, reads a file through the mount, stops it; then installs it twice over copies of /etc and /usr/local.
# Needs root, changes nothing of the host.
set -euo pipefail
[ $# = 1 ] || { echo "check_dist.sh: want: check_dist.sh TARBALL" >&2; exit 2; }
tarball=$(realpath "$1")
if [ -z "${FOREBAY_IN_NAMESPACE:-}" ]; then
  root=$(mktemp -d)
  trap 'rm -rf --one-file-system "$root"' EXIT
  FOREBAY_IN_NAMESPACE=$root unshare --mount --propagation private "$0" "$tarball"
  exit
fi
root=$FOREBAY_IN_NAMESPACE
(cd "$(dirname "$tarball")" && sha256sum --quiet --check SHA256SUMS)
tar -xzf "$tarball" -C "$root"
mv "$root"/forebay-* "$root/forebay"
(cd "$root/forebay" && sha256sum --quiet --check SHA256SUMS)
mkdir -p "$root"/{proc,dev,sys,tmp,data,usr/bin}
copy() { install -D "$(realpath "$1")" "$root$1"; }
install -D "$(command -v cmp)" "$root/usr/bin/cmp"
for library in /lib64/ld-linux-x86-64.so.2 /lib/x86_64-linux-gnu/{libc.so.6,libm.so.6,libgcc_s.so.1}; do copy "$library"; done
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
head -c 3000000 /dev/urandom >"$root/data/file"
in_root() { env -i HOME=/home PATH=/usr/bin "$(command -v chroot)" "$root" "$@"; }
forebay() { in_root /forebay/bin/forebay "$@"; }
port=${FOREBAY_CHECK_PORT:-17400}
ended() { forebay down --dir /home/f >/dev/null 2>&1 || true; }
trap ended EXIT
mkdir "$root/home"
in_root /forebay/bin/forebay-worker --config /forebay/etc/forebay.toml --check-config
forebay up --dir /home/f --port-base "$port" >/dev/null
forebay --config /home/f/forebay.toml fs mount /data file:///data
in_root /usr/bin/cmp /data/file /home/f/mnt/data/file
forebay --config /home/f/forebay.toml admin doctor --no-speed | tail -1
forebay down --dir /home/f
trap - EXIT

# install.sh, on copies of this host's directories that only this namespace sees: twice, as an upgrade does.
mkdir "$root/over"
mount -t tmpfs tmpfs "$root/over"
for directory in /etc /usr/local; do
  mkdir -p "$root/over$directory"/{upper,work}
  mount -t overlay overlay -o "lowerdir=$directory,upperdir=$root/over$directory/upper,workdir=$root/over$directory/work" "$directory"
done
rm -rf /etc/forebay
"$root/forebay/install.sh" >/dev/null
before=$(sha256sum /etc/forebay/*)
"$root/forebay/install.sh" >/dev/null
[ "$before" = "$(sha256sum /etc/forebay/*)" ] || { echo "check_dist.sh: installing again changed /etc/forebay" >&2; exit 1; }
[ "$(stat -c '%U %a' /etc/forebay/secret)" = "forebay 400" ] || { echo "check_dist.sh: the secret is not forebay's alone" >&2; exit 1; }
env -i /usr/local/bin/forebay-worker --config /etc/forebay/forebay.toml --check-config
for role in master worker fuse; do [ -e "/etc/systemd/system/forebay-$role.service" ]; done
echo "check_dist.sh: $(basename "$tarball"): unpacked, checked, started, read, stopped with the C library alone; installed twice"
