#!/usr/bin/env bash
# Installs what building (and, with --tests or --perf, testing and measuring) Forebay needs and this machine lacks. Does nothing when all is there.
set -euo pipefail

packages=(build-essential clang fuse3 libclang-dev librocksdb-dev pkg-config)
with_tests=false
case "${1:-}" in
  "") ;;
  --tests) with_tests=true; packages+=(chromium fio groff-base python3 xfsprogs) ;;
  --perf) with_tests=true; packages+=(fio libfuse2 maven python3 rclone s3fs xfsprogs)
    command -v java >/dev/null || packages+=(default-jre-headless) ;;
  *) echo "install.sh: got $1, want nothing, --tests or --perf" >&2; exit 2 ;;
esac

if ! command -v cargo >/dev/null && [ -r "$HOME/.cargo/env" ]; then
  echo "install.sh: cargo is installed but not in PATH: run . \"$HOME/.cargo/env\" first" >&2
  exit 1
fi
if ! command -v cargo >/dev/null; then
  echo "install.sh: cargo is missing: install Rust with rustup, see https://rustup.rs (rust-toolchain.toml picks the version)" >&2
  exit 1
fi
if $with_tests && ! command -v go >/dev/null && ! [ -x /usr/local/go/bin/go ]; then
  echo "install.sh: Go is missing: the tests build their S3 server with it; install it from https://go.dev/dl or your distribution" >&2
  exit 1
fi

missing=()
if command -v dpkg-query >/dev/null; then
  for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
  done
else
  echo "install.sh: this is no Debian or Ubuntu: make sure that you have what these packages hold: ${packages[*]}" >&2
fi

if [ ${#missing[@]} -gt 0 ]; then
  sudo=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
      echo "install.sh: ${missing[*]} are missing and there is no sudo: run as root: apt-get install ${missing[*]}" >&2
      exit 1
    }
    sudo=(sudo)
  fi
  echo "installing ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! [ -e /dev/fuse ]; then
  echo "install.sh: /dev/fuse is missing: load the kernel's fuse module (modprobe fuse), or give the container --device /dev/fuse" >&2
  exit 1
fi
