#!/usr/bin/env bash
# What `make dist` does: a release tarball in dist/, with SHA256SUMS beside it. RocksDB and its compression libraries are
# linked statically, so that the binaries need nothing but the C library and libgcc of glibc 2.36 or later.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
: "${CARGO_TARGET_DIR:?dist.sh: is not set: run make dist}"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=forebay-$version-linux-$(uname -m)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/$name

# The linker finds librocksdb.so and libstdc++.so in a directory of ours, as scripts that name archives. Building without
# it, as `make up` does, compiles RocksDB's bindings and the master anew.
link=$CARGO_TARGET_DIR/dist-link
mkdir -p "$link"
archive() {
  local path
  path=$(realpath "$(cc -print-file-name="lib$1.a")")
  [ -e "$path" ] || { echo "dist.sh: lib$1.a is missing: install the packages that deploy/install.sh names" >&2; return 1; }
  echo "$path"
}
group=
for library in rocksdb snappy lz4 zstd bz2 z stdc++; do group+=" $(archive "$library")"; done
echo "GROUP ($group )" >"$link/librocksdb.so"
echo "GROUP ( $(archive stdc++) )" >"$link/libstdc++.so"
ROCKSDB_LIB_DIR=$link cargo build --release --locked -p forebay-cli -p forebay-master -p forebay-worker -p forebay-fuse

mkdir -p "$stage"/{bin,etc,systemd,grafana,doc}
for binary in forebay forebay-master forebay-worker forebay-fuse; do
  strip -o "$stage/bin/$binary" "$CARGO_TARGET_DIR/release/$binary"
  chmod 0755 "$stage/bin/$binary"
  needed=$(ldd "$stage/bin/$binary" | awk '{ print $1 }' | grep -vE '^(linux-vdso|libc|libm|libgcc_s|/lib64/ld-linux)' || true)
  [ -z "$needed" ] || { echo "dist.sh: $binary needs $needed beside the C library" >&2; exit 1; }
done
{
  echo "# Forebay $version. Each setting with its default and meaning; take the # off what you change."
  echo "# One file for the whole cluster. A flag --set section.key=value and the environment FOREBAY_SECTION_KEY beat it."
  echo "# forebay worker --check-config --config FILE checks it, forebay admin doctor checks the host beside it."
  echo
  env -i "$stage/bin/forebay-worker" --print-config |
    sed -E 's/^([a-z_]+) = (.*) # default: (.*)$/# \3\n# \1 = \2\n/'
} >"$stage/etc/forebay.toml"
cp deploy/systemd/*.service "$stage/systemd/"
cp deploy/grafana/forebay.json "$stage/grafana/"
cp deploy/tarball_install.sh "$stage/install.sh"
cp -r docs/. "$stage/doc/"
cp README.md CHANGELOG.md LICENSE "$stage/"
if "$stage/bin/forebay" man --help >/dev/null 2>&1; then
  mkdir "$stage/man" && "$stage/bin/forebay" man --dir "$stage/man" >/dev/null
fi
if "$stage/bin/forebay" completion --help >/dev/null 2>&1; then
  mkdir "$stage/completion"
  for shell in bash zsh fish; do "$stage/bin/forebay" completion "$shell" >"$stage/completion/forebay.$shell"; done
fi
(cd "$stage" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >"$work/sums" && mv "$work/sums" SHA256SUMS)

mkdir -p dist
tar --create --gzip --file "dist/$name.tar.gz" --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner \
  --mtime="@$(git log -1 --format=%ct 2>/dev/null || echo 0)" "$name"
(cd dist && sha256sum "$name.tar.gz" >SHA256SUMS)
ls -l "dist/$name.tar.gz"
