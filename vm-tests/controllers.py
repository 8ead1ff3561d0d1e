# A session made at one controller and served by the other; a controller killed in a create, cut
# off, rolled; the store gone for a minute.
import json
import time

AUTH = "-H 'Authorization: Bearer fleet-token'"
controllers = [controller1, controller2]
workers = [worker1, worker2]


def get(node, path: str):
    return json.loads(node.succeed(f"curl -sf {AUTH} http://localhost:8080/api/v1/{path}"))


def wish(key: str = "") -> str:
    header = f"-H 'Idempotency-Key: {key}'" if key else ""
    return f"curl -s {AUTH} {header} -H 'Content-Type: application/json' -d '{{\"body_ip\":\"192.168.1.1\"}}'"


def create(node, key: str = "") -> dict:
    return json.loads(node.succeed(f"{wish(key)} http://localhost:8080/api/v1/sessions"))


def sessions(node) -> set:
    return {s["id"] for w in get(node, "sessions") for s in w["sessions"]}


def on_workers() -> set:
    found = set()
    for w in workers:
        all = json.loads(w.succeed(f"curl -sf {AUTH} http://localhost:47990/api/v1/sessions"))
        found |= {s["id"] for s in all if s["status"] not in ("ending", "ended")}
    return found


def whole(node) -> None:
    node.wait_until_succeeds(
        f"curl -sf {AUTH} http://localhost:8080/api/v1/workers"
        " | jq -e '[.[] | select(.status == \"healthy\")] | length == 2'",
        timeout=60,
    )


def store_is(node, there: bool) -> None:
    node.wait_until_succeeds(
        "curl -sf http://localhost:8080/api/v1/health"
        " | jq -e '(.extra.problems | tostring | contains(\"shared store\")) == "
        + f"{json.dumps(not there)}'",
        timeout=60,
    )


start_all()
store.wait_for_unit("etcd.service")
for node in controllers:
    node.wait_for_unit("hydraneckwebrtc-controller.service")
for node in workers:
    node.wait_for_unit("hydraneckwebrtc.service")
body.wait_for_open_port(47990, "192.168.1.1")

with subtest("both controllers know both workers"):
    for node in controllers:
        whole(node)

with subtest("a session made at one is served by the other"):
    created = create(controller1)
    first = created["session_id"]
    path = "/session/" + created["stream_url"].split("/session/")[1]
    controller2.succeed(f"curl -sf 'http://localhost:8080{path}' > /dev/null")
    assert first in sessions(controller2)

with subtest("a controller killed in a create: the retry at the other one doubles nothing"):
    controller1.succeed(f"({wish('once')} http://localhost:8080/api/v1/sessions > /dev/null 2>&1 &)")
    controller1.succeed("systemctl kill --kill-whom=main --signal=KILL hydraneckwebrtc-controller.service")
    controller2.wait_until_succeeds(
        f"{wish('once')} http://localhost:8080/api/v1/sessions | jq -e .session_id", timeout=60
    )
    again = create(controller2, "once")["session_id"]
    assert on_workers() == {first, again}, on_workers()
    controller1.wait_for_unit("hydraneckwebrtc-controller.service")
    whole(controller1)
    assert create(controller1, "once")["session_id"] == again

with subtest("a controller without its network is not missed, and is one of them again"):
    controller1.block()
    third = create(controller2)["session_id"]
    controller1.unblock()
    whole(controller1)
    controller1.wait_until_succeeds(f"curl -sf {AUTH} http://localhost:8080/api/v1/sessions/{third}", timeout=60)

with subtest("the store is gone for a minute"):
    store.succeed("systemctl stop etcd.service")
    for node in controllers:
        store_is(node, False)
        refused = create(node, "needs-the-store")
        assert refused["reason"] == "store_away", refused
        node.succeed("curl -sf http://localhost:8080/livez")
    alone = create(controller1)["session_id"]
    time.sleep(60)
    for node in controllers:
        node.succeed(f"curl -sf 'http://localhost:8080{path}' > /dev/null")
    store.succeed("systemctl start etcd.service")
    for node in controllers:
        store_is(node, True)
        whole(node)
        node.wait_until_succeeds(f"curl -sf {AUTH} http://localhost:8080/api/v1/sessions/{alone}", timeout=60)
        assert sessions(node) == {first, again, third, alone} == on_workers()

with subtest("both are rolled, one after the other"):
    for node, other in ((controller1, controller2), (controller2, controller1)):
        node.succeed("systemctl restart hydraneckwebrtc-controller.service")
        other.succeed(f"curl -sf 'http://localhost:8080{path}' > /dev/null")
        node.succeed(f"curl -sf 'http://localhost:8080{path}' > /dev/null")
        whole(node)

with subtest("every session ends, at whichever controller that is asked"):
    for n, session in enumerate(sorted(on_workers())):
        node = controllers[n % 2]
        node.succeed(f"curl -sf -X DELETE {AUTH} http://localhost:8080/api/v1/sessions/{session}")
    assert on_workers() == set()
