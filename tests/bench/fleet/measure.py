"""What controllers hold: heartbeats, creates, memory and lag, alone and on etcd.

The fleet is simulated (programs/fleet.rs): real HTTP over loopback, from the same machine, so that
the load takes its own share of the cores. Figures per core are by the CPU time of the controllers'
processes alone. Writes the tables into docs/scale.md.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]
DOCUMENT = REPO / "docs/scale.md"
BEGIN, END = "<!-- measured: tests/bench/fleet/run -->", "<!-- end of measured -->"
TOKEN = "bench-token"
TICKS = os.sysconf("SC_CLK_TCK")
CLIENTS = 16


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    def __init__(self, command, log):
        self.child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def cpu(self):
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_mib(self):
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Setting:
    """Controllers, and an etcd under them if there are to be several or one that could be."""

    def __init__(self, target, directory, controllers, store):
        self.log = open(directory / "log", "a")
        self.etcd, self.controllers, self.urls = None, [], []
        if store:
            client, peer = free_port(), free_port()
            self.etcd_url = f"http://127.0.0.1:{client}"
            data = tempfile.mkdtemp(dir=directory)
            self.etcd = Process(
                ["etcd", "--data-dir", data, "--log-level", "error",
                 "--listen-client-urls", self.etcd_url, "--advertise-client-urls", self.etcd_url,
                 "--listen-peer-urls", f"http://127.0.0.1:{peer}"],
                self.log,
            )
            wait(lambda: socket.create_connection(("127.0.0.1", client)).close())
            time.sleep(1)
        for n in range(controllers):
            port = free_port()
            config = {
                "mode": "controller",
                "server": {"listen": f"127.0.0.1:{port}", "admin_token": TOKEN},
                "log": {"level": "warn"},
            }
            if store:
                config["store"] = {"etcd": {"endpoints": self.etcd_url}}
            file = directory / f"controller-{n}-{port}.yaml"
            file.write_text(json.dumps(config))
            binary = target / "release/hydraneckwebrtc"
            self.controllers.append(Process([str(binary), "--config", str(file), "controller"], self.log))
            self.urls.append(f"http://127.0.0.1:{port}")
            wait(lambda: urllib.request.urlopen(f"{self.urls[-1]}/livez").read())

    def cpu(self):
        return sum(c.cpu() for c in self.controllers), self.etcd.cpu() if self.etcd else 0.0

    def revision(self):
        if not self.etcd:
            return 0
        call = urllib.request.Request(f"{self.etcd_url}/v3/kv/range", data=b'{"key":"YQ=="}')
        return int(json.load(urllib.request.urlopen(call))["header"]["revision"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in [*self.controllers, *([self.etcd] if self.etcd else [])]:
            process.stop()


def wait(attempt):
    deadline = time.monotonic() + 20
    while True:
        try:
            return attempt()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def fleet(target, *words, **environment):
    command = [str(target / "release/examples/fleet"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--workers", default="1000,10000")
    parser.add_argument("--no-write", action="store_true")
    arguments = parser.parse_args()
    target, seconds = arguments.target, arguments.seconds
    sizes = [int(n) for n in arguments.workers.split(",")]
    settings = [("embedded", 1, False), ("etcd", 1, True), ("etcd", 3, True)]
    directory = Path(tempfile.mkdtemp(prefix="neck-fleet-"))
    say = lambda line: print(line, file=sys.stderr, flush=True)
    out = []

    rows = []
    for workers in sizes:
        found = fleet(target, "place", workers, seconds)
        rows.append([f"{workers:,}", f"{found['placements_per_second']:,.0f}"])
        say(rows[-1])
    out.append("Placements, made and ended, in a second of one core, the fleet two thirds full:\n\n"
               + table(["workers", "placements/s"], rows))

    rows = []
    for workers in sizes:
        for name, count, store in settings:
            for changing in (0, 10):
                with Setting(target, directory, count, store) as setting:
                    # Registering is not what is measured.
                    fleet(target, "beat", workers, 1, 0, *setting.urls)
                    time.sleep(3)
                    (own, etcd), before = setting.cpu(), setting.revision()
                    found = fleet(target, "beat", workers, seconds, changing, *setting.urls)
                    (own_after, etcd_after), after = setting.cpu(), setting.revision()
                    beats = found["heartbeats"]
                    rows.append([
                        f"{workers:,}", f"{name}, {count}", f"{changing} %",
                        f"{found['heartbeats_per_second']:,.0f}",
                        f"{beats / (own_after - own):,.0f}",
                        f"{found['latency']['p99_us'] / 1000:.1f} ms",
                        f"{(after - before) / beats:.3f}" if store else "-",
                        f"{(etcd_after - etcd) / beats * 1e6:.0f} us" if store else "-",
                        f"{max(c.resident_mib() for c in setting.controllers):.0f} MiB",
                    ])
                    say([*rows[-1], f"failed {found['failed']}"])
    out.append("Heartbeats with two sessions each, as fast as they are answered:\n\n" + table(
        ["workers", "store, controllers", "that say something new", "heartbeats/s", "per core of a controller",
         "p99", "writes of etcd per heartbeat", "CPU of etcd per heartbeat", "memory of a controller"], rows))

    rows = []
    for workers in sizes:
        for name, count, store in settings:
            with Setting(target, directory, count, store) as setting:
                (own, etcd), begun = setting.cpu(), time.monotonic()
                found = fleet(target, "beat", workers, 3 * seconds, 1, *setting.urls, PACE="5")
                (own_after, etcd_after), took = setting.cpu(), time.monotonic() - begun
                rows.append([
                    f"{workers:,}", f"{name}, {count}", f"{found['heartbeats'] / took:,.0f}",
                    f"{(own_after - own) / took / count * 100:.1f} %",
                    f"{(etcd_after - etcd) / took * 100:.1f} %" if store else "-",
                    f"{max(c.resident_mib() for c in setting.controllers):.0f} MiB",
                    found["failed"],
                ])
                say(rows[-1])
    out.append("A fleet that beats every 5 s, one heartbeat in a hundred saying something new (registering "
               "included):\n\n" + table(
                   ["workers", "store, controllers", "heartbeats/s", "of a core, each controller",
                    "of a core, etcd", "memory of a controller", "failed"], rows))

    rows = []
    for workers in sizes:
        for name, count, store in settings:
            with Setting(target, directory, count, store) as setting:
                found = fleet(target, "create", workers, seconds, CLIENTS, *setting.urls)
                rows.append([
                    f"{workers:,}", f"{name}, {count}", f"{found['creates_per_second']:,.0f}",
                    f"{found['latency']['p50_us'] / 1000:.1f} ms", f"{found['latency']['p99_us'] / 1000:.1f} ms",
                    found["refused"],
                ])
                say(rows[-1])
    out.append(f"Creates through HTTP by {CLIENTS} clients, with workers that make a session at once:\n\n" + table(
        ["workers", "store, controllers", "creates/s", "p50", "p99", "refused"], rows))

    with Setting(target, directory, 2, True) as setting:
        found = fleet(target, "lag", 50 * seconds, *setting.urls)
        lag = found["lag"]
        out.append(f"From a heartbeat at one controller until another's event stream shows it, {found['samples']} times: "
                   f"p50 {lag['p50_us'] / 1000:.1f} ms, p99 {lag['p99_us'] / 1000:.1f} ms, "
                   f"most {lag['max_us'] / 1000:.1f} ms.")
        say(out[-1])

    text = "\n\n".join(out)
    if arguments.no_write:
        print(text)
        return
    document = DOCUMENT.read_text()
    before, rest = document.split(BEGIN, 1)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END, 1)[1]}")


main()
