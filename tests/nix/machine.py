"""Machines booted by systemd-nspawn, with the methods of the NixOS test driver's Machine.

Names, arguments and results of the public methods follow that driver, so that one script of
vm-tests/ serves both.
"""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

# How long a condition may take that a script sets no time for, as in the NixOS driver.
PATIENCE_SECONDS = 900
# Boot takes one second on an idle machine.
BOOT_SECONDS = 120
# Conditions are looked at this often.
POLL_SECONDS = 0.25
# Where the cgroup tree is; see in_a_mount_namespace_of_our_own in driver.py.
CGROUPS = Path("/sys/fs/cgroup")
# What each machine of a NixOS test has beside the network of the tests: an interface with QEMU's
# own address, the same for all, and the default route by it. Nobody is there.
OUTSIDE = "10.0.2.15/24"
ROUTER = "10.0.2.2"
# What a machine may do to its own network, and to nothing of the host's.
CAPABILITIES = "CAP_NET_ADMIN,CAP_NET_RAW"

_BEGIN = time.monotonic()


class RequestedAssertionFailed(Exception):
    """A machine did not do what a script wanted; the name is the NixOS driver's."""


def log(text):
    print(f"[{time.monotonic() - _BEGIN:7.2f}] {text}", flush=True)


def host(*command, check=True):
    """Runs a command on the host."""
    return subprocess.run(command, check=check, text=True, capture_output=True)


def retry(condition, timeout_seconds=PATIENCE_SECONDS):
    """Calls condition(is_last_try) until it is true."""
    end = time.monotonic() + timeout_seconds
    while time.monotonic() < end:
        if condition(False):
            return
        time.sleep(POLL_SECONDS)
    if not condition(True):
        raise RequestedAssertionFailed(f"action timed out after {timeout_seconds} seconds")


class Lan:
    """A network namespace with the bridge that all machines are plugged into."""

    def __init__(self, tag):
        self.namespace = f"{tag}-lan"
        host("ip", "netns", "add", self.namespace)
        self.ip("link", "add", "br1", "type", "bridge")
        self.ip("link", "set", "br1", "up")

    def ip(self, *command, check=True):
        host("ip", "-n", self.namespace, *command, check=check)

    def plug(self, namespace, ports, addresses, mac):
        """Gives a machine's namespace an eth0 that leads nowhere, and an eth1 on the bridge."""
        for name, port in zip(("eth0", "eth1"), ports):
            self.ip("link", "add", port, "type", "veth", "peer", "name", name, "netns", namespace)
            self.ip("link", "set", port, "up")
        self.ip("link", "set", ports[1], "master", "br1")
        for command in (
            ["link", "set", "lo", "up"],
            ["addr", "add", OUTSIDE, "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["route", "add", "default", "via", ROUTER, "dev", "eth0"],
            ["link", "set", "eth1", "address", mac],
            # There is nobody else who might have the address.
            *(["addr", "add", address, "dev", "eth1", "nodad"] for address in addresses),
            ["link", "set", "eth1", "up"],
        ):
            host("ip", "-n", namespace, *command)

    def close(self):
        host("ip", "netns", "del", self.namespace, check=False)


class Machine:
    """One machine: the shared root below, its overlay in between, what it writes on top."""

    def __init__(self, name, number, root, overlay, work, lan, tag):
        self.name = name
        self.addresses = [f"192.168.1.{number}", f"2001:db8:1::{number}"]
        self.mac = f"52:54:00:12:01:{number:02x}"
        self.lan = lan
        self.namespace = f"{tag}-{name}"
        self.ports = [f"{kind}-{name}"[:15] for kind in ("out", "lan")]
        self.cgroup = CGROUPS / f"{tag}.{name}"
        self.directory = Path(work) / name
        self.layers = f"{overlay}:{root}"
        self.hosts = ""
        self.process = None
        self.leader = None
        self.is_booted = False
        for layer in ("upper", "work", "root"):
            (self.directory / layer).mkdir(parents=True)

    def log(self, text):
        log(f"{self.name}: {text}")

    @contextlib.contextmanager
    def nested(self, text):
        self.log(text)
        begin = time.monotonic()
        yield
        self.log(f"(finished: {text}, in {time.monotonic() - begin:.2f} seconds)")

    # --- its life ---

    def start(self, allow_reboot=False):
        """Boots the machine, without waiting for it."""
        if self.process:
            return
        host("ip", "netns", "add", self.namespace)
        with_prefixes = [f"{self.addresses[0]}/24", f"{self.addresses[1]}/64"]
        self.lan.plug(self.namespace, self.ports, with_prefixes, self.mac)
        root = self.directory / "root"
        if not os.path.ismount(root):
            layers = f"lowerdir={self.layers},upperdir={self.directory}/upper,workdir={self.directory}/work"
            host("mount", "-t", "overlay", "overlay", "-o", layers, str(root))
        (root / "etc/hostname").write_text(f"{self.name}\n")
        more = (root / "etc/hosts.more").read_text()
        own = f"127.0.0.1 localhost\n::1 localhost\n127.0.0.2 {self.name}\n"
        (root / "etc/hosts").write_text(f"{own}{self.hosts}{more}")
        self.cgroup.mkdir(exist_ok=True)
        command = [
            "systemd-nspawn",
            "--boot",
            "--quiet",
            f"--directory={root}",
            f"--machine={self.namespace}",
            f"--hostname={self.name}",
            # The host's service manager, if there is one, is not involved.
            "--register=no",
            "--keep-unit",
            f"--network-namespace-path=/run/netns/{self.namespace}",
            f"--capability={CAPABILITIES}",
            "--bind=/dev/net/tun",
            "--bind-ro=/nix/store",
            "--console=pipe",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
        ]
        enter = lambda: (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))
        with open(self.directory / "console.log", "ab") as console:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                preexec_fn=enter,
                start_new_session=True,
            )
        self.log(f"started (pid {self.process.pid})")

    def find_leader(self):
        """The host's process id of the machine's init."""
        if self.leader and Path(f"/proc/{self.leader}").exists():
            return self.leader
        end = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                console = (self.directory / "console.log").read_text(errors="replace")
                raise RequestedAssertionFailed(f"{self.name} did not boot: {console[-2000:]}")
            for pid in descendants(self.process.pid):
                if is_init(pid):
                    self.leader = pid
                    return pid
            time.sleep(0.05)
        raise RequestedAssertionFailed(f"{self.name} has no init after {BOOT_SECONDS} seconds")

    def connect(self):
        """Waits until the machine has booted."""
        self.start()
        if self.is_booted:
            return
        begin = time.monotonic()
        is_up = "systemctl is-system-running 2>/dev/null | grep -Eq 'running|degraded'"
        retry(lambda _: self.run(is_up, 10)[0] == 0, BOOT_SECONDS)
        self.is_booted = True
        self.log(f"booted (waited {time.monotonic() - begin:.2f} s)")

    def is_up(self):
        return self.process is not None

    def wait_for_shutdown(self):
        if self.process:
            self.process.wait()
            self.process, self.leader, self.is_booted = None, None, False
            self.unplug()

    def shutdown(self):
        if self.process:
            self.execute("systemctl poweroff --no-block")
            self.wait_for_shutdown()

    def crash(self):
        """A power failure: no unit gets a chance to stop."""
        if self.process:
            os.kill(self.find_leader(), signal.SIGKILL)
            self.process.kill()
            self.wait_for_shutdown()

    def reboot(self):
        self.shutdown()
        self.start()

    def unplug(self):
        for port in self.ports:
            self.lan.ip("link", "del", port, check=False)
        host("ip", "netns", "del", self.namespace, check=False)

    def block(self):
        """Pulls the cable of the network of the tests."""
        self.lan.ip("link", "set", self.ports[1], "down")

    def unblock(self):
        self.lan.ip("link", "set", self.ports[1], "up")

    def release(self):
        """Leaves nothing of the machine behind."""
        if self.process:
            with contextlib.suppress(RequestedAssertionFailed, ProcessLookupError):
                os.kill(self.find_leader(), signal.SIGKILL)
            self.process.kill()
            self.wait_for_shutdown()
        host("umount", "--lazy", str(self.directory / "root"), check=False)
        # Processes take a moment to leave their cgroups.
        for _ in range(20):
            host("find", str(self.cgroup), "-depth", "-type", "d", "-exec", "rmdir", "{}", ";", check=False)
            if not self.cgroup.exists():
                return
            time.sleep(0.1)

    # --- commands in it ---

    def run(self, command, timeout):
        """Runs a shell command in the machine; returns (exit code, standard output)."""
        enter = [
            "nsenter",
            f"--target={self.find_leader()}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--cgroup",
        ]
        done = subprocess.run(
            [*enter, "/bin/bash", "-c", f"set -eo pipefail; source /etc/profile; set -u; {command}"],
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=timeout,
            text=True,
            errors="replace",
        )
        return done.returncode, done.stdout

    def execute(self, command, check_return=True, check_output=True, timeout=PATIENCE_SECONDS):
        self.connect()
        try:
            code, output = self.run(command, timeout)
        except subprocess.TimeoutExpired:
            return 124, ""
        return code if check_return else -1, output

    def succeed(self, *commands, timeout=None):
        return "".join(self.expect(True, command, timeout) for command in commands)

    def fail(self, *commands, timeout=None):
        return "".join(self.expect(False, command, timeout) for command in commands)

    def expect(self, is_success, command, timeout):
        with self.nested(f"must {'succeed' if is_success else 'fail'}: {command}"):
            code, output = self.execute(command, timeout=timeout)
            if (code == 0) == is_success:
                return output
            self.log(f"output: {output}")
            if is_success:
                raise RequestedAssertionFailed(f"command `{command}` failed (exit code {code})")
            raise RequestedAssertionFailed(f"command `{command}` unexpectedly succeeded")

    def wait_until_succeeds(self, command, timeout=PATIENCE_SECONDS):
        return self.until(True, command, timeout)

    def wait_until_fails(self, command, timeout=PATIENCE_SECONDS):
        return self.until(False, command, timeout)

    def until(self, is_success, command, timeout):
        last = ""

        def holds(_):
            nonlocal last
            code, last = self.execute(command, timeout=timeout)
            return (code == 0) == is_success

        with self.nested(f"waiting for {'success' if is_success else 'failure'}: {command}"):
            retry(holds, timeout)
        return last

    def sleep(self, secs):
        self.succeed(f"sleep {secs}")

    def wait_for_file(self, filename, timeout=PATIENCE_SECONDS):
        self.wait_until_succeeds(f"test -e {filename}", timeout)

    def wait_for_open_port(self, port, addr="localhost", timeout=PATIENCE_SECONDS):
        self.wait_until_succeeds(f"nc -z {addr} {port}", timeout)

    def wait_for_closed_port(self, port, addr="localhost", timeout=PATIENCE_SECONDS):
        self.wait_until_fails(f"nc -z {addr} {port}", timeout)

    def copy_from_host(self, source, target):
        self.connect()
        path = Path(f"/proc/{self.find_leader()}/root") / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        host("cp", "-r", str(source), str(path))

    # --- its units ---

    def systemctl(self, q, user=None):
        return self.execute(f"systemctl {q}")

    def get_unit_property(self, unit, property, user=None):
        return self.succeed(f"systemctl show --value --property={property} '{unit}'").strip()

    def require_unit_state(self, unit, require_state="active"):
        state = self.get_unit_property(unit, "ActiveState")
        if state != require_state:
            raise RequestedAssertionFailed(
                f"Expected unit '{unit}' to be in state '{require_state}' but it is in state '{state}'"
            )

    def wait_for_unit(self, unit, user=None, timeout=PATIENCE_SECONDS):
        state_of = f"systemctl show --value --property=ActiveState '{unit}'"

        def is_active(_):
            state = self.execute(state_of)[1].strip()
            if state == "failed":
                raise RequestedAssertionFailed(f'unit "{unit}" reached state "{state}"')
            if state == "inactive":
                jobs = self.execute("systemctl list-jobs --full 2>&1")[1]
                if "No jobs" in jobs and self.execute(state_of)[1].strip() == state:
                    raise RequestedAssertionFailed(f'unit "{unit}" is inactive and there are no pending jobs')
            return state == "active"

        with self.nested(f"waiting for unit {unit}"):
            retry(is_active, timeout)

    def start_job(self, jobname, user=None):
        return self.systemctl(f"start {jobname}")

    def stop_job(self, jobname, user=None):
        return self.systemctl(f"stop {jobname}")


def descendants(pid):
    """All processes below one, children first."""
    pending = [pid]
    while pending:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parent = pending.pop(0)
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            pending += [int(child) for child in children]
            yield from [int(child) for child in children]


def is_init(pid):
    """Whether a process is process 1 of a namespace and systemd, no longer what nspawn forked."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        numbers = next(line for line in status if line.startswith("NSpid:")).split()[1:]
        is_first = len(numbers) > 1 and numbers[-1] == "1"
        return is_first and os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "systemd"
    return False
