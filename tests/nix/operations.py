# What docs/operations.md says of a machine with systemd: the journal's fields, updates by hand and
# by itself while a session plays, and what happens to a binary that does not start.
import json
import os

ADDRESS = "192.168.1.1"
PROGRAM = "/usr/local/bin/hydraneckwebrtc"
DEMO = "/etc/tests/demo/hydraneckwebrtc"
# Another build of the same program, with this version.
NEXT, VERSION = "/tmp/next", "0.9.9"
WORKER = "/etc/hydraneckwebrtc/worker.yaml"
CLI = f"export HYDRANECKWEBRTC_CONFIG={WORKER} CREDENTIALS_DIRECTORY=/var/lib/hydraneckwebrtc-secrets;"


def release(binary):
    """Makes this binary the newest release."""
    machine.succeed(
        f"d=/srv/releases/production/v{VERSION}; mkdir -p $d; cp {binary} $d/$NAME; cd $d;"
        " sha256sum $NAME > SHA256SUMS;"
        f" echo '{{\"version\":\"{VERSION}\"}}' > ../latest.json".replace("$NAME", name)
    )


def version_of(port):
    return f"curl -sf http://127.0.0.1:{port}/api/v1/health | jq -e '.version == \"%s\"'"


def runs(version, port=8090, timeout=60):
    machine.wait_until_succeeds(version_of(port) % version, timeout=timeout)


def says(*what):
    return f"journalctl -u hydraneckwebrtc -o cat | grep -F '{' '.join(what)}'"


def plays(session):
    """The session's processes go on, and its page is served and signals as before."""
    assert set(processes) <= set(machine.succeed("pgrep -f '[t]estcard'").split())
    machine.wait_until_succeeds(f"{CLI} hydraneckwebrtc sessions get {session['session_id']}", timeout=30)
    machine.wait_until_succeeds(f"curl -sf '{session['stream_url']}' | grep -q _neck", timeout=30)
    machine.succeed(f"python3 /etc/tests/signalling.py '{session['stream_url']}'")


machine.wait_for_unit("multi-user.target")
machine.copy_from_host(os.environ["NECK_NEXT"], NEXT)
arch = {"x86_64": "amd64", "aarch64": "arm64"}[machine.succeed("uname -m").strip()]
name = f"hydraneckwebrtc-linux-{arch}"

with subtest("a machine as docs/debian.md makes it"):
    machine.succeed(
        f"sed -i 's/203.0.113.20/{ADDRESS}/' /etc/tests/debian.sh",
        # The test card, where the document's stream program would be.
        "mkdir -p /opt/moonlight-web-stream/static",
        f"printf '#!/bin/sh\nexec {DEMO} testcard \"$@\"\n' > /opt/moonlight-web-stream/web-server",
        f"printf '#!/bin/sh\nexec {DEMO} testcard streamer\n' > /opt/moonlight-web-stream/streamer",
        "chmod 0755 /opt/moonlight-web-stream/web-server /opt/moonlight-web-stream/streamer",
    )
    # As on any Debian; the layers of this machine come from a store that nobody writes to.
    machine.succeed("chmod 0755 /usr/local /usr/local/bin")
    # The drop-in comes first: sessions stay with the user that they began under.
    machine.succeed("mkdir -p /etc/systemd/system/hydraneckwebrtc.service.d")
    machine.succeed("cp /etc/tests/updates.conf /etc/systemd/system/hydraneckwebrtc.service.d/")
    machine.succeed("sed -i 's,/var/lib/private/,/var/lib/,' /etc/tests/debian.sh")
    machine.succeed("cd /etc/tests/release; apt-get() { :; }; source /etc/tests/debian.sh")
    machine.succeed("mkdir -p /srv/releases/production")
    machine.succeed("systemd-run --unit=releases python3 -m http.server --bind 127.0.0.1 --directory /srv/releases 8000")
    machine.succeed(f"systemd-run --unit=body {DEMO} demo-body --address 127.0.0.1")
    machine.succeed(
        f"sed -i 's,enabled: false.*,enabled: false\\n  when_idle: false\\n  interval: 5s\\n"
        f"  base_url: http://127.0.0.1:8000,' {WORKER}",
        f"printf 'sunshine: {{username: sunshine, password: sunshine}}\\n"
        f"bodies: {{allowed_networks: [127.0.0.1/32]}}\\n' >> {WORKER}",
        "systemctl restart hydraneckwebrtc",
    )
    machine.wait_for_open_port(47990, "127.0.0.1")
    machine.wait_for_open_port(8000, "127.0.0.1")
    machine.wait_until_succeeds(f"{CLI} hydraneckwebrtc workers list | grep healthy", timeout=30)

with subtest("one request, found in the journal by its id in both units"):
    token = machine.succeed("sed -n 's/.*admin_token: //p' /etc/hydraneckwebrtc/controller.yaml").strip()
    session = json.loads(
        machine.succeed(
            f"curl -s --fail-with-body -H 'Authorization: Bearer {token}' -H 'X-Request-Id: ticket-7'"
            " -H 'Content-Type: application/json' -d '{\"body_ip\":\"127.0.0.1\"}'"
            " http://127.0.0.1:8080/api/v1/sessions"
        )
    )
    entries = [json.loads(line) for line in machine.succeed("journalctl -o json REQUEST_ID=ticket-7").splitlines()]
    units = {e["_SYSTEMD_UNIT"] for e in entries}
    assert units == {"hydraneckwebrtc.service", "hydraneckwebrtc-controller.service"}, entries
    admitted = next(e for e in entries if "admitted" in e["MESSAGE"])
    assert admitted["MESSAGE"].startswith("[worker] "), admitted
    assert admitted["TARGET"] == "worker" and admitted["SESSION"] == session["session_id"], admitted
    assert admitted["SYSLOG_IDENTIFIER"] == "hydraneckwebrtc" and admitted["PRIORITY"] == "5", admitted
    processes = machine.succeed("pgrep -f '[t]estcard'").split()

with subtest("the page's commands for the journal"):
    page = machine.succeed("cat /etc/tests/operations.sh").splitlines()
    commands = [line.split(" # ")[0].strip() for line in page if line.startswith("journalctl")]
    assert len(commands) >= 4, page
    for command in commands:
        command = command.replace("<id>", session["session_id"]).replace("<request id>", "ticket-7")
        # What follows goes on until it is stopped.
        said = machine.succeed(f"timeout 2 {command} || test $? = 124" if " -f" in command else command)
        assert "[" in said, command

with subtest("an update by hand, and the way back"):
    update = next(line for line in page if line.startswith("sudo hydraneckwebrtc update")).split(" # ")[0]
    release(NEXT)
    said = machine.succeed(f"sudo() {{ \"$@\"; }}; {CLI} hydraneckwebrtc check-update; {update}")
    assert f"can be updated to {VERSION}" in said and "updated" in said, said
    runs(VERSION)
    runs(VERSION, port=8080)
    plays(session)
    machine.succeed(f"mv {PROGRAM}.backup {PROGRAM}; rm {PROGRAM}.trial")
    machine.succeed("systemctl reset-failed; systemctl restart hydraneckwebrtc hydraneckwebrtc-controller")
    runs("0.1.0")

with subtest("a role that may renew itself takes back a version that does not start"):
    # It knows a key of the configuration by another name: it ends with 78, which the unit would
    # not start again.
    machine.succeed(f"LC_ALL=C sed 's/admin_token/admin_t0ken/g' {NEXT} > /tmp/sick; chmod +x /tmp/sick")
    machine.succeed("/tmp/sick version")
    release("/tmp/sick")
    machine.succeed(f"sed -i 's,enabled: false,enabled: true,' {WORKER}")
    machine.succeed("systemctl reset-failed; systemctl restart hydraneckwebrtc")
    machine.wait_until_succeeds(says(f"version {VERSION} failed 3 times and was taken back"), timeout=40)
    runs("0.1.0")
    plays(session)
    assert machine.succeed(f"cat {PROGRAM}.refused").strip() == VERSION
    # It is still the newest release, and is not tried again.
    machine.wait_until_succeeds(says("was taken back and is left out"), timeout=30)
    machine.succeed(version_of(8090) % "0.1.0")

with subtest("a role renews itself while a session plays"):
    release(NEXT)
    machine.succeed(f"systemctl reset-failed; rm {PROGRAM}.refused")
    runs(VERSION)
    machine.succeed("systemctl is-active hydraneckwebrtc")
    machine.succeed(f"{PROGRAM} version | grep -F {VERSION}; {PROGRAM}.backup version | grep -F 0.1.0")
    plays(session)
    machine.succeed(f"{CLI} hydraneckwebrtc sessions end {session['session_id']}")
    machine.wait_until_fails("pgrep -f '[t]estcard'", timeout=20)
