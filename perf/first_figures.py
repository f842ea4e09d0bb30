#!/usr/bin/env python3
"""First figures, honestly: 1 MiB sequential reads of one file and 10,000 small files, each through the mount beside raw
ext4 on the same data, interleaved round by round in one run. Writes perf/out/first_figures.md.

"warm" means: in Forebay's cache, not in the kernel's page cache (dropped before each pass). "kernel-cached" is the same
pass again at once. For ext4, "cold" and "hot" are the same two passes.
"""

import argparse
import os
import resource
import statistics
import sys
import time

from cluster import ROOT, Cluster, host_lines

MIB = 1 << 20
BUFFER = bytearray(MIB)


def drop(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def read_file(path):
    descriptor, total = os.open(path, os.O_RDONLY), 0
    while got := os.readv(descriptor, [BUFFER]):
        total += got
    os.close(descriptor)
    return total


def sequential(folder):
    return read_file(f"{folder}/large.bin")


def small(folder, names):
    return sum(read_file(f"{folder}/{name}") for name in names)


def own_cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large-mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--file-kib", type=int, default=100)
    parser.add_argument("--dir", help="a directory on the disk to use [default: the temporary directory]")
    arguments = parser.parse_args()

    lines = host_lines()
    cluster = Cluster(arguments.dir)
    data = cluster.dir / "data"
    with open(data / "large.bin", "wb") as file:
        for _ in range(arguments.large_mib):
            file.write(os.urandom(MIB))
    names = [f"d{index % 20:02d}/f{index:05d}" for index in range(arguments.files)]
    for index in range(20):
        (data / f"d{index:02d}").mkdir()
    for name in names:
        (data / name).write_bytes(os.urandom(arguments.file_kib << 10))
    os.sync()
    time.sleep(2)
    idle = cluster.resident_mib()
    cluster.cli("fs", "mount", "--freshness", "1h", "/data", f"file://{data}")
    cluster.cli("fs", "load", "-R", "/data")
    time.sleep(5)

    mounted = cluster.mountpoint / "data"
    want = {"large": arguments.large_mib * MIB, "small": arguments.files * (arguments.file_kib << 10)}
    # (work, system, state) -> list of (seconds, daemons' CPU, own CPU)
    results = {}

    def measure(work, system, state, folder):
        before, own = cluster.cpu_seconds(), own_cpu()
        start = time.monotonic()
        got = sequential(folder) if work == "large" else small(folder, names)
        took = time.monotonic() - start
        after = cluster.cpu_seconds()
        if got != want[work]:
            sys.exit(f"{work} through {system}: {got} bytes, want {want[work]}")
        cpu = sum(after[role] - before[role] for role in after) if system == "forebay" else 0.0
        results.setdefault((work, system, state), []).append((took, cpu, own_cpu() - own))

    for _ in range(arguments.rounds):
        for work in ("large", "small"):
            for system, folder, states in (("ext4", data, ("cold", "hot")), ("forebay", mounted, ("warm", "kernel-cached"))):
                for path in ["large.bin"] if work == "large" else names:
                    drop(f"{folder}/{path}")
                for state in states:
                    measure(work, system, state, folder)

    lines += [
        f"- command: perf/first_figures.py {' '.join(sys.argv[1:])}".rstrip(),
        f"- one file of {arguments.large_mib} MiB in 1 MiB reads; {arguments.files} files of {arguments.file_kib} KiB, open, read, "
        f"close, one thread; {arguments.rounds} interleaved rounds; default settings, SSD tier on the same disk as ext4",
        "- idle resident memory, MiB: " + ", ".join(f"{role} {mib:.0f}" for role, mib in idle.items())
        + f"; together {sum(idle.values()):.0f}",
        "",
        "| work | system | state | min | median | max | daemons' CPU s (median) | reader's CPU s (median) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (work, system, state), runs in sorted(results.items()):
        amount, unit = (want["large"] / 1e6, "MB/s") if work == "large" else (arguments.files, "files/s")
        rates = sorted(amount / took for took, _, _ in runs)
        shown = " | ".join(f"{rate:,.0f} {unit}" for rate in (rates[0], statistics.median(rates), rates[-1]))
        cpu = " | ".join(f"{statistics.median(run[column] for run in runs):.2f}" for column in (1, 2))
        label = "1 MiB sequential" if work == "large" else f"{arguments.files:,} small files"
        lines.append(f"| {label} | {system} | {state} | {shown} | {cpu} |")
    text = "# First figures\n\n" + "\n".join(lines) + "\n"
    out = ROOT / "perf" / "out"
    out.mkdir(exist_ok=True)
    (out / "first_figures.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
