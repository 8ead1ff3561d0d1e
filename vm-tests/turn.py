# The relay serves this worker's sessions and nobody else: a stream that a browser watches through
# it and through nothing else, 14 attacks, and what must work.
import json

WORKER = "192.168.1.4"
API = "http://controller:8080/api/v1"
AUTH = "-H 'Authorization: Bearer fleet-token' -H 'Content-Type: application/json'"

start_all()
controller.wait_for_unit("hydraneckwebrtc-controller.service")
worker.wait_for_unit("hydraneckwebrtc.service")
worker.wait_for_unit("coturn.service")
worker.wait_for_open_port(3478, WORKER)
guest.wait_for_unit("multi-user.target")
body.wait_for_open_port(47990, "192.168.1.1")

secret = worker.succeed("cat /var/lib/hydraneckwebrtc-secrets/turn-secret").strip()


def forget_allocations() -> None:
    worker.succeed("systemctl restart coturn.service")
    worker.wait_for_open_port(3478, WORKER)


def turn(command: str, key: str = secret) -> str:
    """What the relay answers a guest."""
    return guest.succeed(f"python3 /etc/tests/tools/turn-client.py {WORKER} {key} {command}").strip()


with subtest("the secret is readable by root alone and no argument of a process"):
    mode = worker.succeed("stat -c %a:%U /var/lib/hydraneckwebrtc-secrets/turn-secret").strip()
    assert mode == "600:root", mode
    key = "/var/lib/hydraneckwebrtc-secrets/turn-secret"
    worker.fail(f"grep -rqsFf {key} /proc/[0-9]*/cmdline /proc/[0-9]*/environ /etc")

with subtest("the firewall lets in what the module opened, and nothing else"):
    worker.succeed("systemd-run --unit=bystander python3 -m http.server 9000")
    worker.wait_for_open_port(9000, WORKER)
    guest.fail(f"curl -s --max-time 3 http://{WORKER}:9000/")
    guest.succeed(f"curl -sf --max-time 3 http://{WORKER}:47990/api/v1/health")
    worker.succeed("systemctl stop bystander.service")


def watch(*options: str) -> dict:
    """What a visitor's browser sees of a new session."""
    request = '{"body_ip":"192.168.1.1","sunshine_user":"sunshine","sunshine_pass":"sunshine"}'
    created = json.loads(guest.succeed(f"curl -s --fail-with-body {AUTH} -d '{request}' {API}/sessions"))
    seen = guest.succeed(f"python3 /etc/tests/tools/browser.py '{created['stream_url']}' {' '.join(options)}")
    controller.succeed(f"curl -sf -X DELETE {AUTH} {API}/sessions/{created['session_id']}")
    guest.log(seen.strip())
    return json.loads(seen)


controller.wait_until_succeeds(
    f"curl -sf {AUTH} {API}/workers | jq -e '.[0].status == \"healthy\"'", timeout=30
)

with subtest("a browser that reaches nothing but the relay's port sees the picture and is heard"):
    # No datagram leaves the guest for any other port of the worker, and the relay's TCP, which may
    # be found first on a busy machine, is no way out.
    for rule in ("udp dport 1-3477", "udp dport 3479-65534", "tcp dport 3478"):
        guest.succeed(f"ip rule add to {WORKER} ipproto {rule} prohibit")
    own = worker.succeed("cat /run/hydraneckwebrtc-addresses/peers").split()
    assert WORKER in own, own
    seen = watch("--frames 90", "--microphone")
    assert seen["size"][0] >= 640, seen
    for carrier in (seen["pair"], seen["voice"]):
        assert carrier["local"] == "relay" and carrier["relay"] == "udp", seen
        # The relay's one peer: the worker itself, by one of its own addresses.
        assert carrier["remote"] in own, seen
    assert seen["received"] > 50_000, seen

with subtest("where no datagram gets out it comes by TCP, through the same relay"):
    guest.succeed(
        f"ip rule del to {WORKER} ipproto tcp dport 3478 prohibit",
        f"ip rule add to {WORKER} ipproto udp prohibit",
    )
    seen = watch("--frames 30")
    assert seen["pair"]["local"] == "relay" and seen["pair"]["relay"] == "tcp", seen
    for rule in ("dport 1-3477", "dport 3479-65534", ""):
        guest.succeed(f"ip rule del to {WORKER} ipproto udp {rule} prohibit")

# What the browsers held counts for ten minutes towards the quota of all together.
forget_allocations()

with subtest("a valid credential is served, and media passes between two relayed addresses"):
    assert turn("allocate").startswith(f"ok {WORKER}:"), turn("allocate")
    assert turn("echo") == "ok ok ok ok"

with subtest("1 an expired credential is refused"):
    assert turn("allocate --ttl -60") == "401"

with subtest("2 a wrong HMAC is refused"):
    assert turn("allocate --password AAAAAAAAAAAAAAAAAAAAAAAAAAA=") == "401"

with subtest("3 another worker's secret is refused"):
    assert turn("allocate", "0" * 64) == "401"

peers = {
    "4 IPv4 loopback": "127.0.0.1",
    "5 the unspecified address": "0.0.0.0",
    "6 IPv6 loopback": "::1",
    "7 mapped loopback": "::ffff:127.0.0.1",
    "8 the metadata service": "169.254.169.254",
    "9 another machine beside the worker": "192.168.1.2",
    "10 a body": "10.10.100.6",
    "11 a public address": "198.51.100.1",
}
for name, peer in peers.items():
    with subtest(f"{name} is no peer"):
        # 443: the family of the peer is not that of the relay, where there is no IPv6
        refused = ("403", "443") if ":" in peer else ("403",)
        for way in ("permission", "channel"):
            answer = turn(f"{way} {peer}")
            assert answer in refused, f"{way} {peer}: {answer}"

with subtest("the worker itself is a peer"):
    assert turn(f"permission {WORKER}") == "ok"

with subtest("12 no TCP relay"):
    answer = turn("tcp")
    assert answer in ("400", "442"), answer

with subtest("13 one session holds no more than its quota, and all together what sessions.max needs"):
    forget_allocations()
    answers = turn("quota 22 --users 3").splitlines()
    # 40 in all for 2 sessions; a third user has none left.
    assert [a.split(",")[0] for a in answers[:2]] == ["20 ok", "20 ok"], answers
    assert all("486" in a for a in answers) and "ok" not in answers[2], answers
    forget_allocations()

with subtest("14 no command line port and no version"):
    worker.fail("ss -ltn | grep :5766")
    assert turn("software") == "none"

with subtest("a running allocation survives its credential's expiry; a new one is refused"):
    answer = turn("outlive --ttl 5")
    assert answer == "ok ok 401", answer

with subtest("a restart of coturn reads the same secret and the same addresses"):
    forget_allocations()
    assert turn("echo") == "ok ok ok ok"
    allowed = worker.succeed("grep ^allowed-peer-ip /run/coturn/turnserver.cfg").split()
    assert f"allowed-peer-ip={WORKER}" in allowed, allowed
    assert not any(a.startswith(("allowed-peer-ip=127.", "allowed-peer-ip=::1")) for a in allowed), allowed
