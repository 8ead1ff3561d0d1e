"""What controllers hold: heartbeats, creates, memory and lag, alone and on etcd.

The fleet is simulated (programs/fleet): real HTTP over loopback, from the same machine, so that the
load takes its own share of the cores. Figures per core are by the CPU time of the controllers'
processes alone. Registering is not measured. Writes the tables into docs/scale.md.
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

    def readings(self):
        """CPU of the controllers and of etcd, and etcd's revision: each write counts it up."""
        own = sum(c.cpu() for c in self.controllers)
        return own, self.etcd.cpu() if self.etcd else 0.0, self.revision()

    def settle(self):
        """Waits until every controller has written what it heard, and had time to read the rest."""
        deadline = time.monotonic() + 120
        for url in self.urls:
            call = urllib.request.Request(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
            while self.etcd and time.monotonic() < deadline:
                text = urllib.request.urlopen(call).read().decode()
                if float(re.search(r"^\w*store_waiting ([\d.e+-]+)$", text, re.M)[1]) == 0:
                    break
                time.sleep(0.2)
        time.sleep(2)

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
    """Runs the simulated fleet to its end."""
    return Fleet(target, *words, **environment).found()


class Fleet:
    """The simulated fleet at work."""

    def __init__(self, target, *words, **environment):
        command = [str(target / "release/examples/fleet"), *map(str, words)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      env=os.environ | environment)

    def is_registered(self):
        """Waits until every worker is."""
        self.child.stdout.readline()

    def go_on(self):
        self.child.stdin.write("\n")
        self.child.stdin.flush()

    def found(self):
        line = self.child.stdout.readline()
        if self.child.wait():
            raise SystemExit(f"{self.child.args}: failed")
        return json.loads(line)


class Measured:
    """What a fleet found, and what it cost from the registration's end on."""

    def __init__(self, setting, target, *words, **environment):
        simulated = Fleet(target, *words, *setting.urls, **environment)
        simulated.is_registered()
        setting.settle()
        before, begun = setting.readings(), time.monotonic()
        simulated.go_on()
        self.found = simulated.found()
        self.took = time.monotonic() - begun
        self.cpu, self.etcd_cpu, self.writes = (b - a for a, b in zip(before, setting.readings()))
        self.memory = f"{max(c.resident_mib() for c in setting.controllers):.0f} MiB"
        self.p50, self.p99 = (f"{self.found['latency'][p] / 1000:.1f} ms" for p in ("p50_us", "p99_us"))


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


SETTINGS = [("embedded", 1, False), ("etcd", 1, True), ("etcd", 3, True)]


def say(line):
    print(line, file=sys.stderr, flush=True)


def places(sizes, target, seconds, _):
    rows = []
    for workers in sizes:
        found = fleet(target, "place", workers, seconds)
        rows.append([f"{workers:,}", f"{found['placements_per_second']:,.0f}"])
        say(rows[-1])
    return ("Placements, made and ended, in a second of one core, the fleet two thirds full:\n\n"
            + table(["workers", "placements/s"], rows))


def beats(sizes, target, seconds, directory):
    rows = []
    for workers in sizes:
        for name, count, store in SETTINGS:
            for changing in (0, 10):
                with Setting(target, directory, count, store) as setting:
                    m = Measured(setting, target, "beat", workers, seconds, changing)
                    n = m.found["heartbeats"]
                    rows.append([
                        f"{workers:,}", f"{name}, {count}", f"{changing} %",
                        f"{m.found['heartbeats_per_second']:,.0f}", f"{n / m.cpu:,.0f}", m.p99,
                        f"{m.writes / n:.3f}" if store else "-",
                        f"{m.etcd_cpu / n * 1e6:.0f} us" if store else "-", m.memory,
                    ])
                    say([*rows[-1], f"failed {m.found['failed']}"])
    return "Heartbeats with two sessions each, as fast as they are answered:\n\n" + table(
        ["workers", "store, controllers", "that say something new", "heartbeats/s", "per core of a controller",
         "p99", "writes of etcd per heartbeat", "CPU of etcd per heartbeat", "memory of a controller"], rows)


def paced(sizes, target, seconds, directory):
    rows = []
    for workers in sizes:
        for name, count, store in SETTINGS:
            with Setting(target, directory, count, store) as setting:
                m = Measured(setting, target, "beat", workers, 3 * seconds, 1, PACE="5")
                rows.append([
                    f"{workers:,}", f"{name}, {count}", f"{m.found['heartbeats_per_second']:,.0f}",
                    f"{m.cpu / m.took / count * 100:.1f} %",
                    f"{m.etcd_cpu / m.took * 100:.1f} %" if store else "-", m.memory, m.found["failed"],
                ])
                say(rows[-1])
    return "A fleet that beats every 5 s, one heartbeat in a hundred saying something new:\n\n" + table(
        ["workers", "store, controllers", "heartbeats/s", "of a core, each controller",
         "of a core, etcd", "memory of a controller", "failed"], rows)


def creates(sizes, target, seconds, directory):
    rows = []
    for workers in sizes:
        for name, count, store in SETTINGS:
            with Setting(target, directory, count, store) as setting:
                m = Measured(setting, target, "create", workers, seconds, CLIENTS)
                n = max(m.found["creates"], 1)
                rows.append([
                    f"{workers:,}", f"{name}, {count}", f"{m.found['creates_per_second']:,.0f}",
                    m.p50, m.p99, f"{m.cpu / m.took / count * 100:.0f} %",
                    f"{m.etcd_cpu / m.took * 100:.0f} %" if store else "-", f"{m.writes / n:.1f}" if store else "-",
                    m.found["refused"],
                ])
                say(rows[-1])
    return (f"Creates through HTTP by {CLIENTS} clients, with workers that make a session at once and beat every "
            "5 s:\n\n" + table(
                ["workers", "store, controllers", "creates/s", "p50", "p99", "of a core, each controller",
                 "of a core, etcd", "writes of etcd per create", "refused"], rows))


def lags(sizes, target, seconds, directory):
    rows = []
    for workers in [0, *sizes]:
        with Setting(target, directory, 3, True) as setting:
            if workers:
                load = Fleet(target, "beat", workers, 3 * seconds, 1, *setting.urls, PACE="5")
                load.is_registered()
                setting.settle()
                load.go_on()
            found = fleet(target, "lag", 20 * seconds, *setting.urls[:2])
            if workers:
                load.found()
            lag = [f"{found['lag'][p] / 1000:.1f} ms" for p in ("p50_us", "p99_us", "max_us")]
            rows.append([f"{workers:,}", found["samples"], *lag])
            say(rows[-1])
    return ("From a heartbeat at one controller of three until another's event stream shows it, while so many workers "
            "beat every 5 s:\n\n" + table(["workers", "samples", "p50", "p99", "most"], rows))


PARTS = {"places": places, "beats": beats, "paced": paced, "creates": creates, "lags": lags}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--workers", default="1000,10000")
    parser.add_argument("--parts", default=",".join(PARTS), help="which tables; the others are left out")
    parser.add_argument("--no-write", action="store_true")
    arguments = parser.parse_args()
    sizes = [int(n) for n in arguments.workers.split(",")]
    directory = Path(tempfile.mkdtemp(prefix="neck-fleet-"))
    parts = [PARTS[name] for name in arguments.parts.split(",")]
    text = "\n\n".join(part(sizes, arguments.target, arguments.seconds, directory) for part in parts)
    if arguments.no_write:
        print(text)
        return
    document = DOCUMENT.read_text()
    before, rest = document.split(BEGIN, 1)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END, 1)[1]}")


main()
