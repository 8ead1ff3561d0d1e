# The sandbox of each unit as systemd judges it (0 best, 10 worst), and what it keeps out.
OURS = [
    "hydraneckwebrtc.service",
    "hydraneckwebrtc-addresses.service",
    "hydraneckwebrtc-controller.service",
    "hydraneckwebrtc-secrets.service",
]

start_all()
machine.wait_for_unit("hydraneckwebrtc-controller.service")
machine.wait_for_unit("hydraneckwebrtc.service")
machine.wait_for_unit("coturn.service")

for unit, limit in [*((u, 15) for u in OURS), ("coturn.service", 20)]:
    with subtest(f"{unit} is exposed at most {limit / 10}"):
        verdict = machine.succeed(f"systemd-analyze security --no-pager --threshold={limit} {unit} | tail -1")
        machine.log(verdict.strip())

with subtest("a controller below port 1024 is, too, and has that one capability"):
    edge.wait_for_unit("hydraneckwebrtc-controller.service")
    edge.succeed("systemd-analyze security --no-pager --threshold=15 hydraneckwebrtc-controller.service")
    pid = edge.succeed("systemctl show -P MainPID hydraneckwebrtc-controller.service").strip()
    # bit 10: CAP_NET_BIND_SERVICE
    edge.succeed(f"grep -q '^CapEff:\\s*0000000000000400$' /proc/{pid}/status")

with subtest("no service of ours runs as root"):
    for unit in ("hydraneckwebrtc.service", "hydraneckwebrtc-controller.service", "coturn.service"):
        pid = machine.succeed(f"systemctl show -P MainPID {unit}").strip()
        user = machine.succeed(f"stat -c %u /proc/{pid}").strip()
        assert user != "0", f"{unit} runs as root"

with subtest("secrets are root's alone, and in no file of the configuration"):
    found = machine.succeed("find /var/lib/hydraneckwebrtc-secrets -type f -printf '%m %u %f\\n' | sort -k3")
    assert found.split() == [
        "600",
        "root",
        "admin-token",
        "600",
        "root",
        "turn-secret",
        "600",
        "root",
        "worker-id",
    ], found
    machine.fail("runuser -u nobody -- ls /var/lib/hydraneckwebrtc-secrets")
    machine.fail(
        "grep -rqFf /var/lib/hydraneckwebrtc-secrets/admin-token /etc /proc/[0-9]*/cmdline /proc/[0-9]*/environ"
    )

with subtest("generated secrets survive a restart of everything"):
    before = machine.succeed("cat /var/lib/hydraneckwebrtc-secrets/*")
    machine.succeed(
        "systemctl restart hydraneckwebrtc-secrets.service hydraneckwebrtc-controller.service hydraneckwebrtc.service coturn.service"
    )
    machine.wait_for_unit("hydraneckwebrtc.service")
    assert machine.succeed("cat /var/lib/hydraneckwebrtc-secrets/*") == before

with subtest("an empty secret is a failure with a name, once"):
    machine.succeed("systemctl stop hydraneckwebrtc-controller.service hydraneckwebrtc-secrets.service")
    machine.succeed("cp /var/lib/hydraneckwebrtc-secrets/admin-token /run/admin-token")
    machine.succeed("truncate -s 0 /var/lib/hydraneckwebrtc-secrets/admin-token")
    machine.fail("systemctl start hydraneckwebrtc-controller.service")
    machine.wait_until_succeeds(
        "journalctl -u hydraneckwebrtc-secrets.service | grep 'admin-token is empty'", timeout=15
    )
    machine.succeed("cp /run/admin-token /var/lib/hydraneckwebrtc-secrets/admin-token")
    machine.succeed("systemctl start hydraneckwebrtc-controller.service")
    machine.wait_for_unit("hydraneckwebrtc-controller.service")

with subtest("a missing secret file stops the start and does not start a storm"):
    machine.succeed("systemctl stop hydraneckwebrtc-controller.service")
    machine.succeed(
        "mkdir -p /run/systemd/system/hydraneckwebrtc-controller.service.d",
        "printf '[Service]\\nLoadCredential=more:/run/not-there\\n' > /run/systemd/system/hydraneckwebrtc-controller.service.d/more.conf",
        "systemctl daemon-reload",
    )
    machine.fail("systemctl start hydraneckwebrtc-controller.service")
    machine.sleep(5)  # longer than RestartSec
    machine.require_unit_state("hydraneckwebrtc-controller.service", "failed")
    assert machine.succeed("systemctl show -P NRestarts hydraneckwebrtc-controller.service").strip() == "0"
    machine.succeed("journalctl -u hydraneckwebrtc-controller.service | grep 'Failed to set up credentials'")
