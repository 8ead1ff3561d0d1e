# Registration, a session's whole life, a restarted controller, a crashed worker.
import json

API = "http://controller:8080/api/v1"
AUTH = "-H 'Authorization: Bearer fleet-token'"


def get(path: str) -> str:
    return controller.succeed(f"curl -sf {AUTH} {API}/{path}")


def create() -> dict:
    return json.loads(
        controller.succeed(
            f"curl -s --fail-with-body {AUTH} -H 'Content-Type: application/json'"
            f' -d \'{{"body_ip":"192.168.1.1"}}\' {API}/sessions'
        )
    )


def stream_processes() -> list:
    """Process ids of stream servers on the worker."""
    return worker.execute("pgrep -f '[t]estcard'")[1].split()


start_all()
controller.wait_for_unit("hydraneckwebrtc-controller.service")
worker.wait_for_unit("hydraneckwebrtc.service")
body.wait_for_open_port(47990, "192.168.1.1")

with subtest("the worker registers"):
    controller.wait_until_succeeds(
        f"curl -sf {AUTH} {API}/workers | jq -e '.[0].status == \"healthy\"'", timeout=30
    )
    view = json.loads(get("workers"))[0]
    assert view["worker_id"] == "worker", view
    # Its address on the way to the controller, whose name has addresses of both families.
    assert view["url"] in ("http://192.168.1.3:47990", "http://[2001:db8:1::3]:47990"), view

with subtest("nobody gets in without the token"):
    for token in ("", "-H 'Authorization: Bearer wrong'"):
        for call in (f"{API}/workers", f"-d '{{}}' {API}/sessions", f"-d '{{}}' {API}/workers/heartbeat"):
            code = controller.succeed(f"curl -s -o /dev/null -w '%{{http_code}}' {token} {call}")
            assert code == "401", f"{call}: {code}"

with subtest("a session is created and ready"):
    created = create()
    session, url = created["session_id"], created["stream_url"]
    assert created["worker_id"] == "worker", created
    assert url.startswith(f"http://controller:8080/session/{session}/"), created
    assert created["status"] == "ready", created
    # The controller's list is what the worker said last.
    controller.wait_until_succeeds(
        f"curl -sf {AUTH} {API}/sessions/{session} | jq -e '.status == \"ready\"'", timeout=15
    )

with subtest("the page comes through the controller, with the neck's own script in it"):
    page = controller.succeed(f"curl -sf '{url}'")
    assert f"/session/{session}/_neck/" in page, page[:400]
    controller.succeed(f"curl -sf http://controller:8080/session/{session}/_neck/page.js > /dev/null")

with subtest("the page's WebSocket opens, and its credentials open the worker's relay"):
    found = json.loads(controller.succeed(f"python3 /etc/tests/tools/signalling.py '{url}' --offer"))
    relays = [s for s in found["ice_servers"] if any(u.startswith("turn:192.168.1.3") for u in s["urls"])]
    assert relays, found
    user, password = relays[0]["username"], relays[0]["credential"]
    answer = controller.succeed(
        f"python3 /etc/tests/tools/turn-client.py 192.168.1.3 - echo --user '{user}' --password '{password}'"
    )
    assert answer.strip() == "ok ok ok ok", answer

with subtest("the session ends when it is deleted, and nothing of it is left"):
    controller.succeed(f"curl -sf -X DELETE {AUTH} {API}/sessions/{session}")
    # 503 as long as the controller has just started and may not have heard of every session.
    controller.wait_until_succeeds(
        f"test 404 = $(curl -s -o /dev/null -w '%{{http_code}}' -X DELETE {AUTH} {API}/sessions/{session})",
        timeout=60,
    )
    worker.wait_until_fails("pgrep -f '[t]estcard'", timeout=20)
    worker.wait_until_succeeds('test -z "$(ls -A /var/lib/private/hydraneckwebrtc/workspaces)"', timeout=20)

with subtest("a body that is not there is an error with a name, and leaves nothing"):
    answer = controller.succeed(
        f"curl -s {AUTH} -H 'Content-Type: application/json' -d '{{\"body_ip\":\"192.168.1.77\"}}' {API}/sessions"
    )
    assert json.loads(answer)["reason"] == "body_unreachable", answer
    assert stream_processes() == []

created = create()
session, url = created["session_id"], created["stream_url"]
before = stream_processes()

with subtest("a restarted controller knows the session after a round of heartbeats"):
    controller.succeed("systemctl restart hydraneckwebrtc-controller.service")
    controller.wait_until_succeeds(f"curl -sf {AUTH} {API}/sessions/{session}", timeout=30)
    controller.succeed(f"curl -sf '{url}' > /dev/null")

with subtest("a crashed worker comes back and adopts its session"):
    worker.succeed("systemctl kill --kill-whom=main --signal=KILL hydraneckwebrtc.service")
    worker.wait_until_succeeds("test $(systemctl show -P NRestarts hydraneckwebrtc.service) = 1", timeout=30)
    worker.wait_for_unit("hydraneckwebrtc.service")
    controller.wait_until_succeeds(f"curl -sf '{url}' > /dev/null", timeout=30)
    assert set(before) <= set(stream_processes()), f"{before} became {stream_processes()}"
    controller.succeed(f"python3 /etc/tests/tools/signalling.py '{url}' > /dev/null")

with subtest("a worker without its network is not given sessions, and comes back by itself"):
    worker.block()
    controller.wait_until_succeeds(
        f"curl -sf {AUTH} {API}/workers | jq -e '.[0].status == \"unhealthy\"'", timeout=30
    )
    refusal = json.loads(
        controller.succeed(
            f"curl -s {AUTH} -H 'Content-Type: application/json' -d '{{\"body_ip\":\"192.168.1.1\"}}' {API}/sessions"
        )
    )
    assert refusal["code"] == 503 and refusal["reason"] == "no_workers", refusal
    worker.unblock()
    controller.wait_until_succeeds(f"curl -sf '{url}' > /dev/null", timeout=60)
    controller.succeed(f"curl -sf -X DELETE {AUTH} {API}/sessions/{session}")
