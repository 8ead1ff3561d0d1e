"""Runs HAProxy, nginx and us in rotation on the same upstream and prints ratios.

Absolute figures say more about the machine than about a proxy, so every round runs all proxies
one after the other, the first one changing from round to round, and what is printed is the median
over the rounds of (ours / theirs). CPU time is that of all threads by /proc/<pid>/task/<tid>/schedstat.
"""

import argparse
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

CORES = os.cpu_count()
SNIPPET = '<script src="/overlay.js" defer></script>'
PORTS = {"origin": 9100, "tunnel-origin": 9101, "ours": 9110, "ours-html": 9111, "ours-second": 9112,
         "ours-tunnel": 9113, "haproxy": 9120, "haproxy-second": 9121, "haproxy-tunnel": 9122,
         "haproxy-tcp": 9123, "nginx": 9130, "nginx-html": 9131, "nginx-second": 9132, "nginx-tunnel": 9133,
         "ours-tls": 9114, "ours-tunnel-tls": 9115, "haproxy-tls": 9124, "haproxy-tunnel-tls": 9125,
         "haproxy-tcp-tls": 9126, "nginx-tls": 9134, "nginx-tunnel-tls": 9135}
# A media session: 50 Mbit/s, so many seconds of it.
MEDIA_RATE, MEDIA_SECONDS = 50_000_000 // 8, 10
# Idle WebSockets held at once, whatever an idle connection costs on average.
MANY = 10_000
# Descriptors wanted for them.
FILES = 65_536
DOC = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "performance.md")
BEGIN, END = "<!-- last run -->", "<!-- end of last run -->"


def allow_files():
    """As many descriptors as the rows need, or as many as may be had."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, hard)))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tunnels_held():
    """How many of the wanted tunnels a process has descriptors for: two each, and some of its own."""
    return min(MANY, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 50) // 2)


def at(name):
    return f"127.0.0.1:{PORTS[name]}"


def nginx_conf(folder, servers, extra=""):
    return f"""
{"user root;" if os.getuid() == 0 else ""} worker_processes {CORES}; worker_rlimit_nofile 65536; daemon off; pid {folder}/pid; error_log {folder}/error crit;
events {{ worker_connections 30000; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600; sendfile on; tcp_nopush on;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; types {{ text/html html; }} {extra} {servers} }}"""


HAPROXY = """
global
  nbthread {cores}
  maxconn {tunnels}
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout tunnel 600s
listen one
  bind {listen}{crypt}
  option forwardfor
  server s {upstream}
"""

HAPROXY_TCP = HAPROXY.replace("mode http\n  option http-keep-alive\n  http-reuse always", "mode tcp").replace(
    "  option forwardfor\n", "")


def nginx_server(name, to, more="", crypt=""):
    return f"""upstream u{PORTS[name]} {{ server {at(to)}; keepalive 64; }}
  server {{ listen {at(name)} {crypt}backlog=4096; location / {{ proxy_pass http://u{PORTS[name]}; proxy_http_version 1.1;
    proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr; {more} }} }}"""


class Fleet:
    """The processes of a run."""

    def __init__(self, target, folder):
        self.folder, self.running, self.pids = folder, [], {}
        self.load = os.path.join(target, "release", "examples", "load")
        self.proxy = os.environ.get(
            "PROXY", os.path.join(target, "release", "examples", "proxy") + " {listen} {upstream}")

    def start(self, name, command, wait=None):
        log = open(os.path.join(self.folder, f"{name}.log"), "wb")
        process = subprocess.Popen(command, stdout=log, stderr=log)
        self.running.append(process)
        self.pids[name] = process.pid
        deadline = time.monotonic() + 10
        while wait:
            try:
                socket.create_connection(("127.0.0.1", PORTS[wait]), 1).close()
                return
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{name} did not start: see {log.name}")
                time.sleep(0.05)

    def nginx(self, name, servers, extra=""):
        folder = os.path.join(self.folder, name + "-files")
        os.mkdir(folder)
        path = os.path.join(folder, "conf")
        with open(path, "w") as conf:
            conf.write(nginx_conf(folder, servers, extra))
        self.start(name, ["nginx", "-p", folder, "-c", path], name)

    def crypt(self):
        """A certificate for all listeners under TLS: ECDSA, as ACME clients ask for by default."""
        self.certificate, self.key, both = (os.path.join(self.folder, f) for f in ("cert", "key", "both"))
        if not os.path.exists(both):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                            "-nodes", "-days", "30", "-subj", "/CN=localhost", "-keyout", self.key,
                            "-out", self.certificate, "-addext", "subjectAltName=DNS:localhost",
                            "-addext", "basicConstraints=critical,CA:FALSE"], check=True, capture_output=True)
            with open(both, "w") as out:
                for part in (self.certificate, self.key):
                    with open(part) as f:
                        out.write(f.read())
        return self.certificate, self.key, both

    def haproxy(self, name, upstream, text):
        crypt = f" ssl crt {self.crypt()[2]}" if name.endswith("-tls") else ""
        path = os.path.join(self.folder, name + ".cfg")
        with open(path, "w") as conf:
            conf.write(text.format(cores=CORES, tunnels=tunnels_held(), listen=at(name), upstream=at(upstream), crypt=crypt))
        self.start(name, ["haproxy", "-db", "-f", path], name)

    def ours(self, name, upstream, *more):
        command = [w.format(listen=at(name), upstream=at(upstream)) for w in shlex.split(self.proxy)]
        crypt = ["--tls", *self.crypt()[:2]] if name.endswith("-tls") else []
        self.start(name, command + crypt + list(more), name)

    def stop(self):
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            process.wait(10)


def family(pid):
    """The process and its children: nginx works in children."""
    pids = [pid]
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            for child in f.read().split():
                pids += family(int(child))
    except OSError:
        pass
    return pids


def cpu(pids):
    total = 0
    for pid in (p for top in pids for p in family(top)):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
    return total / 1e9


def rss(pid):
    total = 0
    for p in family(pid):
        with open(f"/proc/{p}/status") as f:
            total += int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) * 1024
    return total


def wrk(name, path, seconds, connections=32):
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"{'https' if name.endswith('-tls') else 'http'}://{at(name)}{path}"],
                         capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"{name}{path}: {out}")
    count, span = re.search(r"(\d+) requests in ([\d.]+)s", out).groups()
    return int(count), float(span)


def syscalls(fleet, names, path, seconds=2):
    """Calls per request, by strace, in a run of its own."""
    pids = [p for n in names for p in family(fleet.pids[n])]
    report = os.path.join(fleet.folder, "strace")
    tracer = subprocess.Popen(["strace", "-c", "-f", "-o", report] + [w for p in pids for w in ("-p", str(p))],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    count, _ = wrk(names[0], path, seconds)
    tracer.send_signal(signal.SIGINT)
    tracer.wait(10)
    with open(report) as f:
        lines = [line.split() for line in f if re.match(r"\s*[\d.]+\s", line)]
    calls = {words[-1]: int(words[3]) for words in lines if words[-1] != "total"}
    for waiting in ("futex", "restart_syscall"):
        if calls.get(waiting, 0) < count / 100:
            calls.pop(waiting, None)
    detail = " ".join(f"{n}:{c / count:.2f}" for n, c in sorted(calls.items(), key=lambda c: -c[1])
                      if c >= count / 50)
    return sum(calls.values()) / count, detail


def rotate(names, round_number):
    shift = round_number % len(names)
    return names[shift:] + names[:shift]


def rows_http(fleet, rounds, seconds, wanted):
    rows = [
        ("1k", "1 KiB, keep-alive", "/1k.bin", {"ours": ["ours"], "haproxy": ["haproxy"], "nginx": ["nginx"]}),
        ("64k", "64 KiB", "/64k.bin", {"ours": ["ours"], "haproxy": ["haproxy"], "nginx": ["nginx"]}),
        ("two", "two hops, 1 KiB", "/1k.bin", {"ours": ["ours-second", "ours"],
                                              "haproxy": ["haproxy-second", "haproxy"],
                                              "nginx": ["nginx-second", "nginx"]}),
        ("html", "HTML with injection, 16 KiB", "/page.html",
         {"ours": ["ours-html"], "haproxy": ["haproxy"], "nginx": ["nginx-html"]}),
        ("tls1k", "1 KiB, keep-alive, under TLS", "/1k.bin",
         {"ours": ["ours-tls"], "haproxy": ["haproxy-tls"], "nginx": ["nginx-tls"]}),
        ("tls64k", "64 KiB under TLS", "/64k.bin",
         {"ours": ["ours-tls"], "haproxy": ["haproxy-tls"], "nginx": ["nginx-tls"]}),
    ]
    table = []
    for key, title, path, proxies in rows:
        if key not in wanted:
            continue
        seen = {n: [] for n in proxies}
        for entry in proxies.values():
            wrk(entry[0], path, 1)
        for number in range(rounds):
            for name in rotate(list(proxies), number):
                pids = [fleet.pids[n] for n in proxies[name]]
                before = cpu(pids)
                count, span = wrk(proxies[name][0], path, seconds)
                seen[name].append(((cpu(pids) - before) / count * 1e6, count / span))
        calls = {n: syscalls(fleet, p, path) for n, p in proxies.items()}
        for name, (_, detail) in calls.items():
            print(f"  [{key}] {name} calls: {detail}", flush=True)
        for rival in ("haproxy", "nginx"):
            ratio = [statistics.median(o[i] / t[i] for o, t in zip(seen["ours"], seen[rival])) for i in (0, 1)]
            table.append((title, rival, f"{ratio[0]:.2f}", f"{ratio[1]:.2f}",
                          f"{calls['ours'][0]:.1f} / {calls[rival][0]:.1f}"))
            print(" | ".join(table[-1]), flush=True)
        for name in proxies:
            print(f"  [{key}] {name}: {statistics.median(c for c, _ in seen[name]):.1f} us/request, "
                  f"{statistics.median(r for _, r in seen[name]):.0f} requests/s", flush=True)
    return table


def rows_latency(fleet, rounds, seconds):
    seen = {n: [] for n in ("ours", "haproxy", "nginx")}
    for number in range(rounds):
        for name in rotate(list(seen), number):
            out = subprocess.run([fleet.load, "rate", at(name), "/1k.bin", "4000", str(seconds), "16"],
                                 capture_output=True, text=True, check=True).stdout.split()
            seen[name].append((int(out[0]), int(out[1])))
    table = []
    for rival in ("haproxy", "nginx"):
        ratio = [statistics.median(o[i] / t[i] for o, t in zip(seen["ours"], seen[rival])) for i in (0, 1)]
        table.append(("latency at 4,000 requests/s, 1 KiB", rival, f"p50 {ratio[0]:.2f}", f"p99 {ratio[1]:.2f}"))
        print(" | ".join(table[-1]), flush=True)
    return table


def rows_tunnel(fleet, rounds, wanted):
    table = []
    plain = {"ours": "ours-tunnel", "haproxy-tcp": "haproxy-tcp", "haproxy": "haproxy-tunnel", "nginx": "nginx-tunnel"}
    for key, title, names, piece, total in (
            ("tunnel1400", "tunnel, writes of 1400 B", plain, 1400, 128 << 20),
            ("tunnel64k", "tunnel, writes of 65536 B", plain, 65536, 512 << 20),
            ("tlstunnel", "tunnel under TLS, writes of 65536 B",
             {n: p + "-tls" for n, p in plain.items()}, 65536, 128 << 20)):
        if key not in wanted:
            continue
        seen = {n: [] for n in names}
        for number in range(rounds):
            for name in rotate(list(names), number):
                pids = [fleet.pids[names[name]]]
                ca = [fleet.certificate] if names[name].endswith("-tls") else []
                before, begin = cpu(pids), time.monotonic()
                subprocess.run([fleet.load, "flood", at(names[name]), str(piece), str(total), "4", *ca], check=True)
                giga = 4 * total / 1e9
                seen[name].append(((cpu(pids) - before) / giga, giga / (time.monotonic() - begin)))
        for rival in (n for n in names if n != "ours"):
            ratio = [statistics.median(o[i] / max(t[i], 1e-9) for o, t in zip(seen["ours"], seen[rival]))
                     for i in (0, 1)]
            table.append((title, rival, f"{ratio[0]:.2f}", f"{ratio[1]:.2f}"))
            print(" | ".join(table[-1]), flush=True)
        for name in names:
            print(f"  [{key}] {name}: {statistics.median(c for c, _ in seen[name]):.3f} s/GB, "
                  f"{statistics.median(r for _, r in seen[name]):.2f} GB/s", flush=True)
    return table


def rows_media(fleet, rounds):
    """One session's media over a WebSocket: what it takes of one core."""
    table = []
    names = {"ours": "ours-tunnel", "haproxy": "haproxy-tunnel", "nginx": "nginx-tunnel"}
    total = MEDIA_RATE * MEDIA_SECONDS
    for title, piece in (("frames in one write", 1 << 20), ("packets of 1400 B", 1400)):
        seen = {n: [] for n in names}
        for number in range(rounds):
            for name in rotate(list(names), number):
                pids = [fleet.pids[names[name]]]
                before, begin = cpu(pids), time.monotonic()
                subprocess.run([fleet.load, "media", at(names[name]), str(piece), str(MEDIA_RATE), str(total)],
                               check=True)
                seen[name].append((cpu(pids) - before) / (time.monotonic() - begin) * 100)
        table.append((f"media session of 50 Mbit/s, {title}",
                      *(f"{statistics.median(seen[n]):.2f} %" for n in names)))
        print(" | ".join(table[-1]), flush=True)
    return table


def rows_idle(target, folder, count, wanted):
    """Fresh processes: what a connection holds is told apart from what a process has."""
    table = []
    tunnels = ("ours-tunnel", "haproxy-tunnel", "nginx-tunnel")
    for key, title, path, names, number in (
            ("idle", f"idle keep-alive connection, of {count:,}", "/1k.bin", ("ours", "haproxy", "nginx"), count),
            ("idle", f"idle tunnel, of {count:,}", "/idle", tunnels, count),
            ("many", f"{tunnels_held():,} idle WebSockets, the whole process", "/idle", tunnels, tunnels_held() - 100)):
        if key not in wanted:
            continue
        cost = {}
        for name in names:
            fresh = Fleet(target, tempfile.mkdtemp(dir=folder))
            try:
                origins(fresh)
                start_one(fresh, name)
                hold = lambda n: subprocess.Popen([fresh.load, "idle", at(name), path, str(n)],
                                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                first = hold(100)
                first.stdout.readline()
                before = rss(fresh.pids[name])
                rest = hold(number)
                if rest.stdout.readline().strip() == b"ready":
                    time.sleep(0.5)
                    held = rss(fresh.pids[name])
                    cost[name.split("-")[0]] = held / 1024 if key == "many" else (held - before) / number
                for holder in (first, rest):
                    holder.communicate()
            finally:
                fresh.stop()
        unit = "MiB" if key == "many" else "KiB"
        table.append((title, *(f"{cost.get(n, float('nan')) / 1024:.2f} {unit}" for n in ("ours", "haproxy", "nginx"))))
        print(" | ".join(table[-1]), flush=True)
    return table


def origins(fleet):
    root = os.path.join(fleet.folder, "root")
    os.mkdir(root)
    for name, size in (("1k.bin", 1024), ("64k.bin", 65536)):
        with open(os.path.join(root, name), "wb") as f:
            f.write(b"x" * size)
    with open(os.path.join(root, "page.html"), "w") as f:
        f.write("<!doctype html><html><head><title>t</title></head><body>" + "<p>text</p>\n" * 1360 + "</body></html>")
    fleet.nginx("origin", f"server {{ listen {at('origin')} backlog=4096; root {root}; }}",
                "open_file_cache max=100;")
    fleet.start("tunnel-origin", [fleet.load, "origin", at("tunnel-origin")], "tunnel-origin")


def start_one(fleet, name):
    upgrade = ('proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; '
               "proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k; proxy_read_timeout 600s;")
    secure, more = "", ""
    if name.endswith("-tls"):
        certificate, key, _ = fleet.crypt()
        secure, more = "ssl ", f"ssl_certificate {certificate}; ssl_certificate_key {key};"
    html = f"proxy_set_header Accept-Encoding identity; sub_filter '<head>' '<head>{SNIPPET}';"
    nginx = lambda to, extra="": fleet.nginx(name, nginx_server(name, to, extra, secure), more)
    haproxy = lambda to, text=HAPROXY: fleet.haproxy(name, to, text)
    ours = lambda to, *words: fleet.ours(name, to, *words)
    start, *given = {
        "ours": (ours, "origin"),
        "ours-second": (ours, "ours"),
        "ours-html": (ours, "origin", SNIPPET),
        "ours-tunnel": (ours, "tunnel-origin"),
        "haproxy": (haproxy, "origin"),
        "haproxy-second": (haproxy, "haproxy"),
        "haproxy-tunnel": (haproxy, "tunnel-origin"),
        "haproxy-tcp": (haproxy, "tunnel-origin", HAPROXY_TCP),
        "nginx": (nginx, "origin"),
        "nginx-second": (nginx, "nginx"),
        "nginx-html": (nginx, "origin", html),
        "nginx-tunnel": (nginx, "tunnel-origin", upgrade),
    }[name.removesuffix("-tls")]
    start(*given)


def markdown(tables):
    heads = {
        "http": "| row | rival | CPU per request | requests/s | system calls per request, ours / theirs |",
        "latency": "| row | rival | p50 | p99 |",
        "tunnel": "| row | rival | CPU per byte | bytes/s |",
        "media": "| row, of one core | ours | HAProxy | nginx |",
        "idle": "| row | ours | HAProxy | nginx |",
    }
    text = ""
    for key, rows in tables.items():
        if rows:
            text += heads[key] + "\n|" + " --- |" * len(rows[0]) + "\n"
            text += "".join("| " + " | ".join(row) + " |\n" for row in rows) + "\n"
    return text


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--target", default="target")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=3)
    arguments.add_argument("--idle", type=int, default=5000)
    arguments.add_argument("--rows", default="1k,64k,two,html,tls1k,tls64k,latency,tunnel1400,tunnel64k,tlstunnel,media,idle,many")
    arguments.add_argument("--no-write", action="store_true")
    given = arguments.parse_args()
    wanted = given.rows.split(",")
    folder = tempfile.mkdtemp(prefix="bench-")
    fleet = Fleet(given.target, folder)
    allow_files()
    tables = {"http": [], "latency": [], "tunnel": [], "media": [], "idle": []}
    try:
        if set(wanted) - {"idle", "many"}:
            origins(fleet)
            for name in PORTS:
                if "origin" not in name:
                    start_one(fleet, name)
            tables["http"] = rows_http(fleet, given.rounds, given.seconds, wanted)
            if "latency" in wanted:
                tables["latency"] = rows_latency(fleet, given.rounds, given.seconds)
            tables["tunnel"] = rows_tunnel(fleet, given.rounds, wanted)
            if "media" in wanted:
                tables["media"] = rows_media(fleet, given.rounds)
    finally:
        fleet.stop()
    if set(wanted) & {"idle", "many"}:
        tables["idle"] = rows_idle(given.target, folder, given.idle, wanted)
    shutil.rmtree(folder, ignore_errors=True)
    text = markdown(tables)
    print("\n" + text)
    if not given.no_write:
        with open(DOC) as f:
            whole = f.read()
        before, rest = whole.split(BEGIN, 1)
        after = rest.split(END, 1)[1]
        with open(DOC, "w") as f:
            f.write(f"{before}{BEGIN}\n\n{text}{END}{after}")


main()
