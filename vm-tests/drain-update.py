# A restart keeps sessions; a draining worker keeps those it has and takes no more.
import json

API = "http://controller:8080/api/v1"
AUTH = "-H 'Authorization: Bearer fleet-token'"
REQUEST = "-H 'Content-Type: application/json' -d '{\"body_ip\":\"192.168.1.1\"}'"


def create() -> dict:
    return json.loads(controller.succeed(f"curl -s --fail-with-body {AUTH} {REQUEST} {API}/sessions"))


def status_is(word: str) -> str:
    return f"curl -sf {AUTH} {API}/workers | jq -e '.[0].status == \"{word}\"'"


start_all()
controller.wait_for_unit("hydraneckwebrtc-controller.service")
worker.wait_for_unit("hydraneckwebrtc.service")
body.wait_for_open_port(47990, "192.168.1.1")
controller.wait_until_succeeds(status_is("healthy"), timeout=30)
first = create()
session, url = first["session_id"], first["stream_url"]
processes = worker.succeed("pgrep -f '[t]estcard'").split()

with subtest("a restart is one step and leaves the stream process alone"):
    worker.succeed("systemctl restart hydraneckwebrtc.service")
    worker.wait_for_unit("hydraneckwebrtc.service")
    assert set(processes) <= set(worker.succeed("pgrep -f '[t]estcard'").split())
    controller.wait_until_succeeds(f"curl -sf '{url}' > /dev/null", timeout=30)
    alive = '.status == "ready" or .status == "connected" or .status == "lingering"'
    controller.wait_until_succeeds(f"curl -sf {AUTH} {API}/sessions/{session} | jq -e '{alive}'", timeout=15)

with subtest("so does a switch to a system in which the unit is another"):
    drop_in = "/run/systemd/system/hydraneckwebrtc.service.d"
    worker.succeed(
        f"mkdir -p {drop_in}",
        f"printf '[Service]\\nEnvironment=GENERATION=2\\n' > {drop_in}/generation.conf",
        "systemctl daemon-reload",
        # NixOS restarts a changed unit with stopIfChanged = false by this one command.
        "systemctl restart hydraneckwebrtc.service",
    )
    worker.wait_for_unit("hydraneckwebrtc.service")
    pid = worker.succeed("systemctl show -P MainPID hydraneckwebrtc.service").strip()
    worker.succeed(f"tr '\\0' '\\n' < /proc/{pid}/environ | grep -x GENERATION=2")
    assert set(processes) <= set(worker.succeed("pgrep -f '[t]estcard'").split())
    controller.wait_until_succeeds(f"curl -sf '{url}' > /dev/null", timeout=30)

with subtest("systemd still counts the stream process to the unit"):
    tasks = worker.succeed("systemctl status hydraneckwebrtc.service --no-pager")
    assert processes[0] in tasks, tasks

with subtest("stop and start keep it, too"):
    worker.succeed("systemctl stop hydraneckwebrtc.service")
    worker.succeed("pgrep -f '[t]estcard'")
    worker.succeed("systemctl start hydraneckwebrtc.service")
    worker.wait_for_unit("hydraneckwebrtc.service")
    controller.wait_until_succeeds(f"curl -sf '{url}' > /dev/null", timeout=30)

with subtest("a draining worker keeps its session and takes no other"):
    controller.succeed(
        f"curl -sf -X POST {AUTH} -H 'Content-Type: application/json' -d '{{}}' {API}/workers/worker/drain"
    )
    controller.wait_until_succeeds(status_is("draining"), timeout=15)
    answer = json.loads(controller.succeed(f"curl -s {AUTH} {REQUEST} {API}/sessions"))
    assert answer["reason"] in ("all_draining", "no_workers", "no_capacity"), answer
    controller.succeed(f"curl -sf '{url}' > /dev/null")

with subtest("undrained, by the command line this time, it takes sessions again"):
    controller.succeed(
        "HYDRANECKWEBRTC_URL=http://controller:8080 HYDRANECKWEBRTC_TOKEN=fleet-token"
        " hydraneckwebrtc workers undrain worker"
    )
    controller.wait_until_succeeds(status_is("healthy"), timeout=15)
    second = create()
    assert second["session_id"] != session

with subtest("SIGUSR1 drains by hand"):
    worker.succeed("systemctl kill --kill-whom=main --signal=USR1 hydraneckwebrtc.service")
    controller.wait_until_succeeds(status_is("draining"), timeout=15)

with subtest("a deleted session is gone after a restart as before"):
    for gone in (session, second["session_id"]):
        controller.succeed(f"curl -sf -X DELETE {AUTH} {API}/sessions/{gone}")
    worker.wait_until_fails("pgrep -f '[t]estcard'", timeout=20)
    worker.succeed("systemctl restart hydraneckwebrtc.service")
    worker.wait_for_unit("hydraneckwebrtc.service")
    worker.fail("pgrep -f '[t]estcard'")
