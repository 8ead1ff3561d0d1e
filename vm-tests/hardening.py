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

with subtest("so is the coturn of an older NixOS, which has no sandbox of its own"):
    edge.wait_for_unit("coturn.service")
    edge.wait_for_open_port(3478, "192.168.1.1")
    edge.succeed("systemd-analyze security --no-pager --threshold=20 coturn.service")
    edge.succeed("systemctl restart coturn.service")
    edge.wait_for_open_port(3478, "192.168.1.1")

with subtest("a relay below port 1024 is reached, and has that one capability"):
    relay.wait_for_unit("coturn.service")
    relay.wait_for_open_port(443, "192.168.1.3")
    relay.succeed("systemd-analyze security --no-pager --threshold=20 coturn.service")
    pid = relay.succeed("systemctl show -P MainPID coturn.service").strip()
    relay.succeed(f"grep -q '^CapEff:\\s*0000000000000400$' /proc/{pid}/status")

with subtest("a machine that is up before its network waits for an address"):
    # A network of its own stands for one that is not there yet.
    drop_in = "/run/systemd/system/hydraneckwebrtc-addresses.service.d"
    relay.succeed(
        "ip netns add late",
        f"mkdir -p {drop_in}",
        f"printf '[Service]\\nNetworkNamespacePath=/run/netns/late\\n' > {drop_in}/late.conf",
        "systemctl daemon-reload",
        "systemctl restart --no-block coturn.service",
    )
    relay.wait_until_succeeds(
        "journalctl -u hydraneckwebrtc-addresses.service | grep 'waiting ten minutes'", timeout=30
    )
    relay.require_unit_state("hydraneckwebrtc-addresses.service", "activating")
    relay.succeed("ip -n late address add 192.0.2.7/24 dev lo")
    relay.wait_until_succeeds("grep -Fx allowed-peer-ip=192.0.2.7 /run/coturn/turnserver.cfg", timeout=30)
    relay.wait_for_unit("coturn.service")

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
        "systemctl restart hydraneckwebrtc-controller.service hydraneckwebrtc.service coturn.service"
    )
    machine.wait_for_unit("hydraneckwebrtc.service")
    assert machine.succeed("cat /var/lib/hydraneckwebrtc-secrets/*") == before

with subtest("what prepares a start does not stay active, so that a new version of it stops nobody"):
    for unit in ("hydraneckwebrtc-addresses.service", "hydraneckwebrtc-secrets.service"):
        machine.require_unit_state(unit, "inactive")

with subtest("an empty secret is a failure with a name, once"):
    machine.succeed("systemctl stop hydraneckwebrtc-controller.service")
    machine.succeed("cp /var/lib/hydraneckwebrtc-secrets/admin-token /run/admin-token")
    machine.succeed("truncate -s 0 /var/lib/hydraneckwebrtc-secrets/admin-token")
    machine.fail("systemctl start hydraneckwebrtc-controller.service")
    machine.wait_until_succeeds(
        "journalctl -u hydraneckwebrtc-secrets.service | grep 'admin-token is empty'", timeout=15
    )
    machine.succeed("cp /run/admin-token /var/lib/hydraneckwebrtc-secrets/admin-token")
    machine.succeed("systemctl start hydraneckwebrtc-controller.service")
    machine.wait_for_unit("hydraneckwebrtc-controller.service")


def fails_once(unit: str, words: str) -> None:
    """The unit does not start, says why in the journal, and is not started again.

    The words are the service's or systemd's own: what systemd's child says before it becomes the
    service may reach the journal after that child's end, and is under no unit then.
    """
    machine.fail(f"systemctl start {unit}")
    # A unit that waits for its restart is `activating`.
    machine.require_unit_state(unit, "failed")
    restarts = machine.succeed(f"systemctl show -P NRestarts {unit}").strip()
    assert restarts == "0", f"{unit} was started again {restarts} times"
    machine.wait_until_succeeds(f"journalctl -u {unit} -n 30 -o cat | grep -F '{words}'", timeout=15)


with subtest("a missing secret file stops the start and does not start a storm"):
    machine.succeed("systemctl stop hydraneckwebrtc-controller.service")
    drop_in = "/run/systemd/system/hydraneckwebrtc-controller.service.d"
    machine.succeed(
        f"mkdir -p {drop_in}",
        f"printf '[Service]\\nLoadCredential=more:/run/not-there\\n' > {drop_in}/more.conf",
        "systemctl daemon-reload",
    )
    fails_once("hydraneckwebrtc-controller.service", "status=243/CREDENTIALS")
    machine.succeed(f"rm {drop_in}/more.conf", "systemctl daemon-reload")

with subtest("so does a secret file with something else in it"):
    token = "/var/lib/hydraneckwebrtc-secrets/admin-token"
    for content, words in (
        ("one\\ntwo\\n", "has several lines"),
        ("\\n", "is empty"),
        ("\\377\\376\\n", "UTF-8"),
    ):
        machine.succeed(f"printf '{content}' > {token}")
        fails_once("hydraneckwebrtc-controller.service", words)
        # Which key of the configuration, and which file.
        machine.succeed(
            "journalctl -u hydraneckwebrtc-controller.service -n 30 -o cat"
            f" | grep -F 'server.admin_token_file' | grep -F 'admin-token' | grep -F '{words}'"
        )
        machine.succeed("systemctl reset-failed hydraneckwebrtc-controller.service")
    machine.succeed(f"cp /run/admin-token {token}")

with subtest("the relay with a certificate file that is missing fails once, too"):
    machine.succeed(
        "systemctl stop coturn.service",
        "mkdir -p /run/systemd/system/coturn.service.d",
        "printf '[Service]\\nLoadCredential=tls-key:/run/not-there\\n' > /run/systemd/system/coturn.service.d/more.conf",
        "systemctl daemon-reload",
    )
    fails_once("coturn.service", "status=243/CREDENTIALS")
    machine.succeed("rm /run/systemd/system/coturn.service.d/more.conf", "systemctl daemon-reload")
    machine.succeed("systemctl start coturn.service")

with subtest("a taken port is tried a few times and then left, with its number in the journal"):
    machine.succeed("systemd-run --unit=squatter python3 -m http.server 8080")
    machine.wait_for_open_port(8080)
    machine.execute("systemctl start hydraneckwebrtc-controller.service")
    machine.wait_until_succeeds(
        "journalctl -u hydraneckwebrtc-controller.service | grep 'Start request repeated too quickly'",
        timeout=120,
    )
    machine.require_unit_state("hydraneckwebrtc-controller.service", "failed")
    machine.succeed(
        "journalctl -u hydraneckwebrtc-controller.service | grep 'cannot listen on .*:8080: another program does'"
    )
    machine.succeed("systemctl stop squatter.service")
    machine.succeed("systemctl reset-failed hydraneckwebrtc-controller.service")

with subtest("put right it starts, and the worker is back with it"):
    machine.succeed("systemctl start hydraneckwebrtc-controller.service")
    token = machine.succeed(f"cat {token}").strip()
    machine.wait_until_succeeds(
        f"curl -sf -H 'Authorization: Bearer {token}' http://127.0.0.1:8080/api/v1/workers"
        " | jq -e '.[0].status == \"healthy\"'",
        timeout=60,
    )
