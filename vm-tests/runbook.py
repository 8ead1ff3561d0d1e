# Every shell command of the runbook's Common Operations, TURN and troubleshooting sections that
# can be run on machines without the internet, as an operator would paste it: only tokens, the
# body's address and session ids are filled in.
import json

TRUST = "export CURL_CA_BUNDLE=/etc/tests/tls/cert.pem;"
SITE = "https://hydraneckwebrtc.experiencenet.com"
TOKEN = "fleet-token"


def at_controller(command: str) -> str:
    return controller.succeed(f"{TRUST} {command}")


start_all()
body.wait_for_open_port(47990, "192.168.1.1")

with subtest("start the services"):
    # NixOS enables units by configuration; there `enable` changes nothing.
    controller.succeed(
        "systemctl enable --now hydraneckwebrtc-controller || systemctl start hydraneckwebrtc-controller"
    )
    worker.succeed("systemctl enable --now hydraneckwebrtc || systemctl start hydraneckwebrtc")
    controller.wait_for_unit("hydraneckwebrtc-controller.service")
    worker.wait_for_unit("hydraneckwebrtc.service")

with subtest("check health"):
    health = json.loads(at_controller(f"curl -sf {SITE}/api/v1/health | jq ."))
    assert health["service"] == "hydraneckwebrtc", health
    health = json.loads(worker.succeed("curl -sf http://localhost:47990/api/v1/health | jq ."))
    assert health["extra"]["max_sessions"] == 3, health

with subtest("quick readiness check, on either role"):
    summary = """jq '{
      status: .status,
      wireguard: .extra.wireguard,
      sessions: "\\(.extra.active_sessions)/\\(.extra.max_sessions)",
      process_id: .extra.process_id,
      uptime: .extra.uptime
    }'"""
    controller.wait_until_succeeds(
        f"{TRUST} curl -sf {SITE}/api/v1/health | jq -e '.extra.max_sessions == 3'", timeout=30
    )
    ready = json.loads(at_controller(f"curl -sf {SITE}/api/v1/health | {summary}"))
    assert ready["sessions"] == "0/3" and ready["process_id"] and ready["uptime"], ready
    ready = json.loads(worker.succeed(f"curl -sf http://localhost:47990/api/v1/health | {summary}"))
    assert ready["sessions"] == "0/3" and ready["status"] == "degraded", ready

with subtest("list workers"):
    workers = json.loads(
        at_controller(f'curl -H "Authorization: Bearer {TOKEN}" \\\n  {SITE}/api/v1/workers')
    )
    assert [w["worker_id"] for w in workers] == ["worker"], workers

with subtest("create a session"):
    created = json.loads(
        at_controller(
            f'curl -X POST -H "Authorization: Bearer {TOKEN}" \\\n'
            '  -H "Content-Type: application/json" \\\n'
            '  -d \'{"body_ip":"192.168.1.1","sunshine_user":"sunshine","sunshine_pass":"sunshine"}\' \\\n'
            f"  {SITE}/api/v1/sessions"
        )
    )
    session = created["session_id"]
    assert created["stream_url"].startswith(f"{SITE}/session/{session}/"), created
    assert created["worker_id"] == "worker", created
    at_controller(f"curl -sf '{created['stream_url']}' | grep _neck")

with subtest("list sessions"):
    fleet = json.loads(at_controller(f'curl -H "Authorization: Bearer {TOKEN}" \\\n  {SITE}/api/v1/sessions'))
    assert [s["id"] for w in fleet for s in w["sessions"]] == [session], fleet

with subtest("delete a session"):
    at_controller(
        f'curl -f -X DELETE -H "Authorization: Bearer {TOKEN}" \\\n  {SITE}/api/v1/sessions/{session}'
    )
    worker.wait_until_fails("pgrep -f '[t]estcard'", timeout=20)

with subtest("check version, check for an update"):
    assert "hydraneckwebrtc" in worker.succeed("hydraneckwebrtc version")
    # A release server of this test; the machines have no internet.
    body.succeed(
        "mkdir -p /srv/releases/production",
        "echo '{\"version\":\"v9.9.9\"}' > /srv/releases/production/latest.json",
        "systemd-run --unit=releases python3 -m http.server --directory /srv/releases 9100",
    )
    body.wait_for_open_port(9100, "192.168.1.1")
    worker.succeed("echo 'update: {base_url: \"http://192.168.1.1:9100\"}' > /tmp/update.yaml")
    news = worker.succeed("hydraneckwebrtc --config /tmp/update.yaml check-update")
    assert "can be updated to 9.9.9" in news, news

with subtest("an update is left to NixOS, where the binary is in the store"):
    code, words = worker.execute("hydraneckwebrtc --config /tmp/update.yaml update 2>&1")
    assert code == 1 and "/nix/store" in words, words
    worker.require_unit_state("hydraneckwebrtc.service", "active")

with subtest("coturn is running and listening"):
    worker.succeed("systemctl status coturn --no-pager")
    worker.succeed("ss -ulnp | grep 3478")

with subtest("WireGuard status, and what health says without it"):
    worker.succeed("wg show")
    worker.succeed("ip link show type wireguard")
    assert (
        worker.succeed("curl -sf http://localhost:47990/api/v1/health | jq .extra.wireguard").strip()
        == "false"
    )

with subtest("verify that a body is reachable"):
    worker.succeed("ping -c 2 -W 3 192.168.1.1")
    worker.succeed("curl -sk -u sunshine:sunshine https://192.168.1.1:47990/api/currentClient")

with subtest("logs, under the runbook's prefixes"):
    log_of_worker = worker.succeed("timeout 2 journalctl -u hydraneckwebrtc -f -n 500 || test $? = 124")
    log_of_controller = controller.succeed(
        "timeout 2 journalctl -u hydraneckwebrtc-controller -f -n 500 || test $? = 124"
    )
    assert "[worker]" in log_of_worker and f"[session {session}]" in log_of_worker, log_of_worker
    assert "[controller]" in log_of_controller, log_of_controller
    for secret in (TOKEN, "sunshine:sunshine"):
        assert secret not in log_of_worker + log_of_controller
