#!/usr/bin/env python3
"""How soon a killed worker serves its cache again: fills the cache, SIGKILLs the worker, starts it, and times the first hit
and what had to be fetched again. Writes perf/out/warm_restart.md."""

import argparse
import json
import os
import sys
import time

from cluster import ROOT, Cluster, host_lines

MIB = 1 << 20


def store_reads(cluster):
    time.sleep(2)
    return sum(worker["counters"]["store_read_bytes"] for worker in json.loads(cluster.cli("admin", "report", "--json"))["workers"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=int, default=10)
    parser.add_argument("--dir", help="a directory on the disk to use [default: the temporary directory]")
    arguments = parser.parse_args()
    lines = host_lines()
    cluster = Cluster(arguments.dir, ssd=f"{arguments.gib + 2}GiB")
    data = cluster.dir / "data"
    block = os.urandom(64 * MIB)
    for index in range(arguments.gib * 8):
        with open(data / f"f{index:04d}", "wb") as file:
            file.write(index.to_bytes(8, "little") + block[8:] + block)
    for index in range(1000):
        (data / f"s{index:04d}").write_bytes(os.urandom(50_000))
    cluster.cli("fs", "mount", "--freshness", "1h", "/data", f"file://{data}")
    cluster.cli("fs", "load", "-R", "/data")
    time.sleep(5)
    expected = (data / "s0500").read_bytes()
    total = sum(path.stat().st_size for path in data.iterdir())
    mounted = cluster.mountpoint / "data"
    list(mounted.iterdir())

    cluster.kill("worker")
    started = cluster.start("worker")
    ready = time.monotonic() - started
    if (mounted / "s0500").read_bytes() != expected:
        sys.exit("wrong bytes after the restart")
    first_hit = time.monotonic() - started
    fetched_first = store_reads(cluster)
    cluster.cli("fs", "load", "-R", "/data")
    fetched = store_reads(cluster)
    lines += [
        f"- command: perf/warm_restart.py {' '.join(sys.argv[1:])}".rstrip(),
        f"- {total:,} bytes cached; ready {ready:.2f} s and first hit {first_hit:.2f} s after the start "
        f"({fetched_first} bytes from the store for it)",
        f"- fetched again in all: {fetched:,} bytes, so {100 * (1 - fetched / total):.2f} % was warm",
    ]
    text = "# Warm restart\n\n" + "\n".join(lines) + "\n"
    out = ROOT / "perf" / "out"
    out.mkdir(exist_ok=True)
    (out / "warm_restart.md").write_text(text)
    print(text)
    if first_hit > 2 or fetched > total / 100:
        sys.exit("too slow or too cold: want the first hit within 2 s and 99 % warm")


if __name__ == "__main__":
    main()
