#!/usr/bin/env bash
# What `make up` shows: starts a cluster, mounts sample data, reads it twice through the mount, leaves the cluster running.
set -euo pipefail
shopt -s inherit_errexit
[ $# -ge 2 ] || { echo "demo.sh: got $# arguments, want: demo.sh FOREBAY_BINARY DIRECTORY [FLAG OF UP]..." >&2; exit 2; }
forebay=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd -P)
sample=$dir/sample
small_files=200 small_kib=100 large_mib=256

if ! [ -e "$sample/complete" ]; then
  echo "making sample data in $sample: $small_files files of $small_kib KiB and one of $large_mib MiB"
  mkdir -p "$sample/small"
  for n in $(seq -w "$small_files"); do
    head -c "${small_kib}K" /dev/urandom >"$sample/small/$n.bin"
  done
  head -c "${large_mib}M" /dev/urandom >"$sample/large.bin"
  touch "$sample/complete"
fi

"$forebay" up --dir "$dir" "${@:3}" | sed "/^$/,\$d"
run() { "$forebay" --config "$dir/forebay.toml" "$@"; }
mnt=$("$forebay" --config "$dir/forebay.toml" fuse --print-config | sed -n 's/^mountpoint = "\(.*\)" #.*/\1/p')

if ! run fs mounts --json | grep -q '"path":"/sample"'; then
  run fs mount /sample "file://$sample" --readonly
fi
now_ms() { date +%s%3N; }
speed() { # bytes, milliseconds
  awk -v bytes="$1" -v ms="$2" 'BEGIN { printf "%8.1f MB/s", bytes / 1e6 / ((ms > 0 ? ms : 1) / 1e3) }'
}
# The kernel's own copies of what this mount showed are dropped before each read, so that both figures are Forebay's.
drop_kernel_copies() {
  for file in "$mnt"/sample/large.bin "$mnt"/sample/small/*.bin; do
    dd if="$file" iflag=nocache count=0 status=none
  done
}
read_large() { dd if="$mnt/sample/large.bin" of=/dev/null bs=1M status=none; }
read_small() { cat "$mnt"/sample/small/*.bin >/dev/null; }
timed() { local start; start=$(now_ms); "$1"; echo $(($(now_ms) - start)); }

large_bytes=$((large_mib << 20)) small_bytes=$((small_files * small_kib << 10))
# An earlier run may have left pages in the cache: the cold read is to come from the store.
run fs free -R /sample >/dev/null
drop_kernel_copies
cold_large=$(timed read_large)
cold_small=$(timed read_small)
drop_kernel_copies
warm_large=$(timed read_large)
warm_small=$(timed read_small)

echo
echo "Read through $mnt/sample"
echo "  cold: Forebay holds nothing and fetches from the store, which here is a directory of this host and so quick itself"
echo "  warm: the same bytes again, from Forebay's cache; the kernel's copies were dropped before each read"
echo "  one file of $large_mib MiB        cold $(speed $large_bytes "$cold_large")    warm $(speed $large_bytes "$warm_large")"
echo "  $small_files files of $small_kib KiB      cold $(speed $small_bytes "$cold_small")    warm $(speed $small_bytes "$warm_small")"
for part in large.bin small/001.bin "small/$small_files.bin"; do
  cmp "$sample/$part" "$mnt/sample/$part"
done
echo "  compared with the source: equal"
echo
echo "The cluster is running. Your own bucket:"
echo "  $forebay --config $dir/forebay.toml fs mount /mine s3://BUCKET/PREFIX --option region=REGION"
echo "      (keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the cluster's environment, a profile, the"
echo "       instance's role, or --option access_key=.. --option secret_key=.. ; for other stores --option endpoint=URL)"
echo "  ls $mnt/mine"
echo "  $forebay --config $dir/forebay.toml admin report"
echo "Stop it: make down"
