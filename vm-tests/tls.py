# Certificates: an order with the built-in client, and a renewal by NixOS that nobody notices.
DIRECTORY = "/var/lib/acme/example.com"
FINGERPRINT = "openssl x509 -noout -fingerprint -sha256"

start_all()
authority.wait_for_unit("pebble.service")
authority.wait_for_open_port(14000, "authority")

with subtest("the built-in client gets a certificate, and serves it below port 1024"):
    builtin.wait_for_unit("hydraneckwebrtc-controller.service")
    # The authority's root is made anew at each start.
    authority.wait_until_succeeds("curl -sfk https://authority:15000/roots/0 > /tmp/root.pem")
    builtin.succeed("curl -sfk https://authority:15000/roots/0 > /tmp/root.pem")
    health = "curl -sf --cacert /tmp/root.pem https://builtin.example.com/api/v1/health"
    builtin.wait_until_succeeds(health, timeout=60)
    # From outside, through the firewall; plain HTTP leads there.
    authority.succeed(health)
    code = authority.succeed(
        "curl -s -o /dev/null -w '%{http_code} %{redirect_url}' http://builtin.example.com/x"
    )
    assert code.startswith("30") and code.endswith(" https://builtin.example.com/x"), code


def served(machine, name: str, port: int) -> str:
    """The fingerprint of the certificate that a port serves."""
    command = f"openssl s_client -connect {name}:{port} -servername {name} < /dev/null 2>/dev/null"
    return machine.succeed(f"{command} | {FINGERPRINT}").strip()


with subtest("after a restart it is the same certificate, from the service's own directory"):
    before = served(builtin, "builtin.example.com", 443)
    builtin.succeed("systemctl restart hydraneckwebrtc-controller.service")
    builtin.wait_until_succeeds(health, timeout=60)
    assert served(builtin, "builtin.example.com", 443) == before
    # Key and account are the service's alone.
    found = builtin.succeed("find /var/lib/private/hydraneckwebrtc-controller -type f -printf '%m\\n' | sort -u")
    assert found.split() == ["600"], found

nixos.wait_for_unit("hydraneckwebrtc-controller.service")
nixos.wait_for_unit("coturn.service")
nixos.wait_for_open_port(443, "neck.example.com")
nixos.wait_for_open_port(5349, "192.168.1.3")

with subtest("the certificate of security.acme is served to browsers and to guests of the relay"):
    first = nixos.succeed(f"{FINGERPRINT} < {DIRECTORY}/fullchain.pem").strip()
    for port in (443, 5349):
        assert served(authority, "neck.example.com", port) == first, port
    # By group: neither service is the owner, and nobody else may read the key.
    assert nixos.succeed(f"stat -c '%a %U' {DIRECTORY}/key.pem").strip() == "640 acme"
    nixos.fail(f"runuser -u nobody -- cat {DIRECTORY}/key.pem")

with subtest("a renewed one is served without a restart, and open connections go on"):
    pids = nixos.succeed("systemctl show -P MainPID hydraneckwebrtc-controller.service coturn.service")
    nixos.succeed(
        f"cd {DIRECTORY} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90"
        " -subj /CN=neck.example.com -addext subjectAltName=DNS:neck.example.com"
        " -keyout /tmp/key.pem -out /tmp/cert.pem"
        " && cp /tmp/key.pem key.pem && cp /tmp/cert.pem fullchain.pem"
    )
    second = nixos.succeed(f"{FINGERPRINT} < {DIRECTORY}/fullchain.pem").strip()
    assert second != first
    # The command that NixOS runs after a renewal, between two requests of one connection.
    nixos.succeed("""python3 - << 'END'
import http.client, ssl, subprocess
units = ["hydraneckwebrtc-controller.service", "coturn.service"]
held = http.client.HTTPSConnection("neck.example.com", context=ssl._create_unverified_context(), timeout=20)
held.request("GET", "/api/v1/health")
assert held.getresponse().read()
socket = held.sock
subprocess.run(["systemctl", "try-reload-or-restart", *units], check=True)
held.request("GET", "/api/v1/health")
assert held.getresponse().read()
assert held.sock is socket, "the connection was closed"
END""")
    for port in (443, 5349):
        command = f"openssl s_client -connect neck.example.com:{port} -servername neck.example.com < /dev/null"
        authority.wait_until_succeeds(
            f"{command} 2>/dev/null | {FINGERPRINT} | grep -F '{second}'", timeout=30
        )
    after = nixos.succeed("systemctl show -P MainPID hydraneckwebrtc-controller.service coturn.service")
    assert after == pids, f"{pids} became {after}"
