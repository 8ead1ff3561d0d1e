# docs/debian.md, followed to the letter; only the address and the stream program are
# this machine's.
ADDRESS = "192.168.1.1"

machine.wait_for_unit("multi-user.target")

with subtest("every block of the document works"):
    machine.succeed(f"sed -i 's/203.0.113.20/{ADDRESS}/' /etc/tests/debian.sh")
    machine.succeed("sed -i 's,/opt/moonlight-web-stream/web-server,testcard,' /etc/tests/debian.sh")
    # The packages are there already, and there is no network to fetch them from.
    machine.succeed("cd /etc/tests/release; apt-get() { :; }; set -x; source /etc/tests/debian.sh")

for unit in ("hydraneckwebrtc", "hydraneckwebrtc-controller", "coturn"):
    with subtest(f"{unit} runs, sandboxed, and starts at boot"):
        machine.wait_for_unit(f"{unit}.service")
        limit = 20 if unit == "coturn" else 15
        machine.log(
            machine.succeed(
                f"systemd-analyze security --no-pager --threshold={limit} {unit}.service | tail -1"
            ).strip()
        )
        machine.succeed(f"systemctl is-enabled {unit}.service")
        pid = machine.succeed(f"systemctl show -P MainPID {unit}.service").strip()
        assert machine.succeed(f"stat -c %u /proc/{pid}").strip() != "0"

with subtest("the worker registers"):
    token = machine.succeed("sed -n 's/.*admin_token: //p' /etc/hydraneckwebrtc/controller.yaml").strip()
    workers = f"curl -sf -H 'Authorization: Bearer {token}' http://127.0.0.1:8080/api/v1/workers"
    machine.wait_until_succeeds(f"{workers} | jq -e '.[0].status == \"healthy\"'", timeout=30)

with subtest("the worker sees its tunnel, which knows the body by the key of the document"):
    health = "curl -sf http://127.0.0.1:8090/api/v1/health"
    machine.wait_until_succeeds(f"{health} | jq -e '.extra.wireguard'", timeout=30)
    machine.succeed("wg show wg0 allowed-ips | grep -F 10.10.100.6/32")
    for file in ("wireguard/wg0.conf", "hydraneckwebrtc/worker.yaml", "hydraneckwebrtc/controller.yaml"):
        assert machine.succeed(f"stat -c '%a %U' /etc/{file}").strip() == "600 root", file

with subtest("the relay serves this worker's sessions and is no open relay"):
    secret = machine.succeed("cat /var/lib/hydraneckwebrtc-secrets/turn-secret").strip()
    client = f"python3 /etc/tests/tools/turn-client.py {ADDRESS} {secret}"
    assert machine.succeed(f"{client} echo").strip() == "ok ok ok ok"
    for peer in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "10.10.100.6", "169.254.169.254", "198.51.100.1"):
        assert machine.succeed(f"{client} permission {peer}").strip() in ("403", "443"), peer
    assert machine.succeed(f"{client} allocate --ttl -60").strip() == "401"

with subtest("a power failure later everything comes back"):
    machine.crash()
    machine.start()
    for unit in ("hydraneckwebrtc", "hydraneckwebrtc-controller", "coturn", "wg-quick@wg0"):
        machine.wait_for_unit(f"{unit}.service")
    machine.wait_until_succeeds(f"{workers} | jq -e '.[0].status == \"healthy\"'", timeout=30)

with subtest("the runbook's own units run both roles with root's configuration"):
    machine.succeed("systemctl disable --now hydraneckwebrtc hydraneckwebrtc-controller")
    machine.succeed("systemctl kill --kill-whom=all hydraneckwebrtc || true")
    machine.succeed("cp /etc/tests/release/scripts/hydraneckwebrtc.service /etc/systemd/system/")
    machine.succeed("cp /etc/tests/release/scripts/hydraneckwebrtc-controller.service /etc/systemd/system/")
    machine.succeed("systemctl daemon-reload; install -d -m 0700 /root/.hydraneckwebrtc")
    # The runbook's controller, by server.listen (its dev mode), and its colocated worker.
    machine.succeed(
        "printf 'mode: controller\\nserver: {listen: \":8080\", admin_token: t}\\nworkers: {heartbeat_timeout: 60s}\\n'"
        " > /root/.hydraneckwebrtc/config.yaml"
    )
    machine.succeed(
        "printf 'server: {listen: \":8090\", admin_token: t}\\ncontroller: {url: \"http://127.0.0.1:8080\", token: t}\\n"
        "sessions: {max: 15, port_range_start: 8100, web_server: testcard}\\n"
        "sunshine: {username: sunshine, password: sunshine}\\n'"
        " > /root/.hydraneckwebrtc/worker.yaml"
    )
    machine.succeed("echo HYDRANECKWEBRTC_CONFIG=/root/.hydraneckwebrtc/worker.yaml > /etc/default/hydraneckwebrtc")
    machine.succeed("systemctl enable --now hydraneckwebrtc-controller")
    machine.succeed("systemctl enable --now hydraneckwebrtc")
    for unit in ("hydraneckwebrtc", "hydraneckwebrtc-controller"):
        machine.wait_for_unit(f"{unit}.service")
        pid = machine.succeed(f"systemctl show -P MainPID {unit}.service").strip()
        assert machine.succeed(f"stat -c %u /proc/{pid}").strip() == "0"
    workers = "curl -sf -H 'Authorization: Bearer t' http://127.0.0.1:8080/api/v1/workers"
    machine.wait_until_succeeds(f"{workers} | jq -e '.[0].status == \"healthy\"'", timeout=30)
    machine.wait_until_succeeds("curl -sf http://localhost:8090/api/v1/health | jq .", timeout=30)
