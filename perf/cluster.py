"""A local Forebay cluster of real processes for measurements; Python's standard library only."""

import atexit
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BIN = pathlib.Path(os.environ.get("FOREBAY_TEST_BIN_DIR", TARGET / "release"))
ROLES = ("master", "worker", "fuse")
TICKS = os.sysconf("SC_CLK_TCK")


def free_ports(count):
    """The first of `count` ports in a row that nobody listens on, below the ephemeral range."""
    for base in range(21000 + os.getpid() % 5000, 32000, count):
        sockets = []
        try:
            for port in range(base, base + count):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
    raise SystemExit("no free ports")


class Cluster:
    """Master, worker and mount in a directory that is removed at the end."""

    def __init__(self, folder=None, ssd="16GiB", settings=""):
        for role in ROLES:
            if not (BIN / f"forebay-{role}").is_file():
                raise SystemExit(f"{BIN}/forebay-{role} is not there: cargo build --release, or set FOREBAY_TEST_BIN_DIR")
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="forebay-perf-", dir=folder))
        self.mountpoint = self.dir / "mnt"
        for name in ("mnt", "run", "data"):
            (self.dir / name).mkdir()
        self.config = self.dir / "forebay.toml"
        master, cores = free_ports(1), os.cpu_count()
        self.config.write_text(
            f"""[cluster]
masters = ["127.0.0.1:{master}"]
socket_dir = "{self.dir}/run"
[master]
listen = "127.0.0.1:{master}"
http = "off"
dir = "{self.dir}/master"
[worker]
listen = "127.0.0.1:{free_ports(cores + 1) + 1}"
http = "off"
dir = "{self.dir}/worker"
ssd = ["{self.dir}/cache={ssd}"]
[fuse]
http = "off"
mountpoint = "{self.mountpoint}"
{settings}"""
        )
        self.processes = {}
        atexit.register(self.stop)
        for role in ROLES:
            self.start(role)
        time.sleep(2)

    def start(self, role):
        """Starts a role and waits until its log says that it is ready. Gives the time of its start."""
        log = self.dir / f"{role}.log"
        before = log.stat().st_size if log.exists() else 0
        started = time.monotonic()
        with open(log, "ab") as out:
            command = [BIN / f"forebay-{role}", "--config", self.config]
            self.processes[role] = subprocess.Popen(command, stdout=out, stderr=out)
        while f"{role} ready" not in log.read_text(errors="replace")[before:]:
            if self.processes[role].poll() is not None or time.monotonic() - started > 60:
                raise SystemExit(f"{role} does not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.02)
        return started

    def kill(self, role):
        """SIGKILL."""
        self.processes[role].kill()
        self.processes[role].wait()

    def cli(self, *arguments):
        """Runs `forebay` and gives its standard output."""
        command = [BIN / "forebay", "--config", self.config, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr}")
        return done.stdout

    def cpu_seconds(self):
        """CPU seconds used so far by each role."""
        used = {}
        for role, process in self.processes.items():
            fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            used[role] = (int(fields[11]) + int(fields[12])) / TICKS
        return used

    def resident_mib(self):
        """Resident memory of each role, MiB."""
        resident = {}
        for role, process in self.processes.items():
            for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    resident[role] = int(line.split()[1]) / 1024
        return resident

    def stop(self):
        """Stops everything and removes the directory."""
        for role in reversed(ROLES):
            process = self.processes.pop(role, None)
            if process and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        subprocess.run(["umount", "-l", self.mountpoint], capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)


def host_lines():
    """What ran where, as Markdown list items."""
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    memory = int(open("/proc/meminfo").readline().split()[1]) >> 20
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    version = subprocess.run([BIN / "forebay", "--version"], capture_output=True, text=True).stdout.strip()
    return [
        f"- {version}, commit {commit}",
        f"- {os.cpu_count()} x {cpu}, {memory} GiB of memory, kernel {os.uname().release}",
        f"- load average at the start: {os.getloadavg()[0]:.2f}",
    ]
