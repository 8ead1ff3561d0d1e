# One machine, both roles, every secret generated.
import json

API = "http://127.0.0.1:8080/api/v1"

start_all()
machine.wait_for_unit("hydraneckwebrtc-controller.service")
machine.wait_for_unit("hydraneckwebrtc.service")
machine.wait_for_unit("coturn.service")
body.wait_for_open_port(47990, "192.168.1.1")
token = machine.succeed("cat /var/lib/hydraneckwebrtc-secrets/admin-token").strip()
auth = f"-H 'Authorization: Bearer {token}'"

with subtest("the worker finds its controller on the loopback address"):
    machine.wait_until_succeeds(
        f"curl -sf {auth} {API}/workers | jq -e '.[0].status == \"healthy\"'", timeout=30
    )
    worker = json.loads(machine.succeed(f"curl -sf {auth} {API}/workers"))[0]
    assert worker["url"] == "http://127.0.0.1:8090", worker

with subtest("it has the generated name, also after a restart"):
    name = machine.succeed("cat /var/lib/hydraneckwebrtc-secrets/worker-id").strip()
    assert worker["worker_id"] == name and name.startswith("machine-"), worker
    machine.succeed("systemctl restart hydraneckwebrtc.service")
    machine.wait_until_succeeds(
        f"curl -sf {auth} {API}/workers | jq -e '.[0].worker_id == \"{name}\"'", timeout=30
    )

with subtest("health says that there is no tunnel"):
    health = json.loads(machine.succeed("curl -sf http://127.0.0.1:8090/api/v1/health"))
    assert health["status"] == "degraded" and health["extra"]["wireguard"] is False, health
    assert any("WireGuard" in problem for problem in health["extra"]["problems"]), health

with subtest("the operator's commands take the service's own configuration"):
    own = (
        "CREDENTIALS_DIRECTORY=/run/credentials/hydraneckwebrtc.service"
        " hydraneckwebrtc --config /run/hydraneckwebrtc/config.yaml"
    )
    listed = json.loads(machine.succeed(f"{own} workers list --json"))
    assert name in json.dumps(listed), listed
    # No tunnel here, which is what it says; everything else is well.
    code, words = machine.execute(f"{own} doctor 2>&1")
    machine.log(words)
    assert "WireGuard" in words, words
    # What a script needs of it: nobody but root can do this.
    machine.fail("runuser -u nobody -- cat /run/hydraneckwebrtc/config.yaml")

with subtest("only the controller is reachable from outside"):
    body.fail("curl -s --max-time 3 http://machine:8090/api/v1/health")

with subtest("a session streams through the controller's address"):
    request = '{"body_ip":"192.168.1.1","sunshine_user":"sunshine","sunshine_pass":"sunshine"}'
    created = json.loads(
        machine.succeed(
            f"curl -s --fail-with-body {auth} -H 'Content-Type: application/json' -d '{request}' {API}/sessions"
        )
    )
    url = created["stream_url"]
    assert created["session_id"] in url, created
    machine.succeed(f"curl -sf '{url}' | grep _neck")
    found = json.loads(machine.succeed(f"python3 /etc/tests/tools/signalling.py '{url}'"))
    address = machine.succeed("cat /run/hydraneckwebrtc-addresses/address").strip()
    assert any(f"turn:{address}:3478" in u for s in found["ice_servers"] for u in s["urls"]), found
    machine.succeed(f"curl -sf -X DELETE {auth} {API}/sessions/{created['session_id']}")
    machine.wait_until_fails("pgrep -f '[t]estcard'", timeout=20)
