# The tunnel up, down and up again: sessions, health, and what may be reached through it.
import json

API = "http://controller:8080/api/v1"
AUTH = "-H 'Authorization: Bearer fleet-token' -H 'Content-Type: application/json'"
HEALTH = "curl -sf http://worker:47990/api/v1/health"


def create(body_ip: str) -> dict:
    return json.loads(controller.succeed(f'curl -s {AUTH} -d \'{{"body_ip":"{body_ip}"}}\' {API}/sessions'))


start_all()
controller.wait_for_unit("hydraneckwebrtc-controller.service")
worker.wait_for_unit("wireguard-wg0.service")
worker.wait_for_unit("hydraneckwebrtc.service")
body.wait_for_unit("wireguard-wg0.service")
worker.wait_until_succeeds("curl -sk --max-time 2 https://10.10.100.6:47990/ > /dev/null", timeout=30)
controller.wait_until_succeeds(
    f"curl -sf {AUTH} {API}/workers | jq -e '.[0].status == \"healthy\"'", timeout=30
)

with subtest("the worker started after the tunnel, and says that it is there"):
    started = "systemctl show -P ActiveEnterTimestampMonotonic"
    tunnel = int(worker.succeed(f"{started} wireguard-wg0.service"))
    assert tunnel <= int(worker.succeed(f"{started} hydraneckwebrtc.service"))
    health = json.loads(worker.succeed(HEALTH))
    assert health["extra"]["wireguard"] is True, health
    assert health["status"] == "ok", health

with subtest("a body behind the tunnel is streamed from"):
    created = create("10.10.100.6")
    assert "session_id" in created, created
    url = created["stream_url"]
    controller.succeed(f"curl -sf '{url}' > /dev/null")

with subtest("only bodies of the tunnel's peers are allowed"):
    for elsewhere in ("192.168.1.2", "10.10.0.2", "127.0.0.1", "169.254.169.254"):
        answer = create(elsewhere)
        assert answer["code"] == 400, answer

with subtest("no peer of the tunnel can be reached through the relay"):
    secret = worker.succeed("cat /var/lib/hydraneckwebrtc-secrets/turn-secret").strip()
    for peer in ("10.10.100.6", "10.10.0.2"):
        said = controller.succeed(
            f"python3 /etc/tests/tools/turn-client.py 192.168.1.3 {secret} permission {peer}"
        )
        assert said.strip() == "403", f"{peer}: {said}"

with subtest("without the tunnel the worker is degraded, and says which body it misses"):
    worker.succeed("systemctl stop wireguard-wg0.service")
    worker.wait_until_succeeds(
        f"{HEALTH} | jq -e '.status == \"degraded\" and .extra.wireguard == false'", timeout=30
    )
    problems = worker.succeed(f"{HEALTH} | jq -r '.extra.problems[]'")
    assert "WireGuard" in problems, problems
    answer = create("10.10.100.6")
    assert answer["reason"] == "body_unreachable", answer
    worker.require_unit_state("hydraneckwebrtc.service", "active")

with subtest("with the tunnel back it is well again, and the session was kept"):
    worker.succeed("systemctl start wireguard-wg0.service")
    worker.wait_until_succeeds(
        f"{HEALTH} | jq -e '.status == \"ok\" and .extra.wireguard == true'", timeout=30
    )
    controller.succeed(f"curl -sf '{url}' > /dev/null")
    worker.wait_until_succeeds("curl -sk --max-time 2 https://10.10.100.6:47990/ > /dev/null", timeout=30)
    assert "session_id" in create("10.10.100.6")

with subtest("the worker starts without the tunnel, too"):
    # Its start fails from now on, and the worker's start asks for it.
    drop_in = "/run/systemd/system/wireguard-wg0.service.d"
    worker.succeed(
        "systemctl stop wireguard-wg0.service",
        f"mkdir -p {drop_in}",
        f"printf '[Unit]\\nAssertPathExists=/not-there\\n' > {drop_in}/never.conf",
        "systemctl daemon-reload",
        "systemctl restart hydraneckwebrtc.service",
    )
    worker.wait_for_unit("hydraneckwebrtc.service")
    worker.fail("systemctl start wireguard-wg0.service", "ip link show dev wg0")
    worker.wait_until_succeeds(
        f"{HEALTH} | jq -e '.status == \"degraded\" and .extra.wireguard == false'", timeout=30
    )
