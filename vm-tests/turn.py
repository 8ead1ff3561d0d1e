# The relay serves this worker's sessions and nobody else: 14 attacks, and what must work.
WORKER = "192.168.1.3"

start_all()
worker.wait_for_unit("coturn.service")
worker.wait_for_open_port(3478, WORKER)
guest.wait_for_unit("multi-user.target")

secret = worker.succeed("cat /var/lib/hydraneckwebrtc-secrets/turn-secret").strip()


def turn(command: str, key: str = secret) -> str:
    """What the relay answers a guest."""
    return guest.succeed(f"python3 /etc/tests/turn-client.py {WORKER} {key} {command}").strip()


with subtest("the secret is readable by root alone and no argument of a process"):
    mode = worker.succeed("stat -c %a:%U /var/lib/hydraneckwebrtc-secrets/turn-secret").strip()
    assert mode == "600:root", mode
    key = "/var/lib/hydraneckwebrtc-secrets/turn-secret"
    worker.fail(f"grep -rqsFf {key} /proc/[0-9]*/cmdline /proc/[0-9]*/environ /etc")

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
    "9 another machine beside the worker": "192.168.1.1",
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
    assert turn("tcp") in ("400", "442"), turn("tcp")

with subtest("13 one credential holds no more than its quota"):
    assert turn("quota 6") == "ok ok ok ok 486 486"

with subtest("14 no command line port and no version"):
    worker.fail("ss -ltn | grep :5766")
    assert turn("software") == "none"

with subtest("a running allocation survives its credential's expiry; a new one is refused"):
    assert turn("outlive --ttl 3") == "ok ok 401"

with subtest("a restart of coturn reads the same secret and the same addresses"):
    worker.succeed("systemctl restart coturn.service")
    worker.wait_for_open_port(3478, WORKER)
    assert turn("echo") == "ok ok ok ok"
    allowed = worker.succeed("grep ^allowed-peer-ip /run/coturn/turnserver.cfg").split()
    assert f"allowed-peer-ip={WORKER}" in allowed, allowed
    assert not any(a.startswith(("allowed-peer-ip=127.", "allowed-peer-ip=::1")) for a in allowed), allowed
