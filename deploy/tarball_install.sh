#!/usr/bin/env bash
# Installs what this tarball holds: binaries, an example configuration, a secret, systemd units. Run as root. What is
# there already (configuration, secret, user) stays as it is, so that an upgrade is the same command.
set -euo pipefail
cd "$(dirname "$0")"
prefix=/usr/local etc=/etc/forebay units=/etc/systemd/system
while [ $# -gt 0 ]; do
  case $1 in
    --prefix) prefix=${2:?install.sh: --prefix: want a directory}; shift 2 ;;
    *) echo "install.sh: got $1, want: install.sh [--prefix DIRECTORY]" >&2; exit 2 ;;
  esac
done
if [ "$(id -u)" != 0 ]; then
  echo "install.sh: not root: run it with sudo, or use it without installing: bin/forebay up" >&2
  exit 1
fi
sha256sum --quiet --check SHA256SUMS

getent passwd forebay >/dev/null || useradd --system --home-dir /var/lib/forebay --shell /usr/sbin/nologin forebay
# Renamed into place: a running binary keeps its own file.
install -d "$prefix/bin"
for binary in forebay forebay-master forebay-worker forebay-fuse; do
  install -m 0755 "bin/$binary" "$prefix/bin/.$binary.new"
  mv "$prefix/bin/.$binary.new" "$prefix/bin/$binary"
done
if [ -d man ]; then install -d "$prefix/share/man/man1" && install -m 0644 man/* "$prefix/share/man/man1/"; fi
if [ -e completion/forebay.bash ]; then
  install -D -m 0644 completion/forebay.bash "$prefix/share/bash-completion/completions/forebay"
fi
install -d "$etc"
[ -e "$etc/forebay.toml" ] || install -m 0644 etc/forebay.toml "$etc/forebay.toml"
if ! [ -e "$etc/secret" ]; then
  (umask 077 && head -c 32 /dev/urandom | base64 >"$etc/secret")
  chown forebay: "$etc/secret" && chmod 0400 "$etc/secret"
  sed -i "s|^# secret_file = \"\"$|secret_file = \"$etc/secret\"|" "$etc/forebay.toml"
fi
if [ -d "$units" ]; then
  for unit in systemd/*.service; do
    sed "s|/usr/local/bin/|$prefix/bin/|" "$unit" >"$units/$(basename "$unit")"
  done
  if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
fi
command -v fusermount3 >/dev/null || echo "install.sh: fusermount3 is not there: users other than root need it to mount (package fuse3)"
echo "installed in $prefix/bin; configuration in $etc/forebay.toml; the same $etc/secret belongs on every host"
echo "then: systemctl enable --now forebay-master forebay-worker forebay-fuse   (each where it belongs)"
echo "and:  forebay --config $etc/forebay.toml admin doctor"
