"""Watches a stream with a real browser, as a visitor does, and prints what came and on which way.

    browser.py STREAM_URL [--frames N] [--timeout SECONDS] [--microphone]

Opens the page in headless Chromium, waits until N video frames are decoded and prints one JSON
object: the picture's size, the frames, their bytes and the candidate pair that carries them. With
--microphone the visitor's (generated) voice is switched on, too, and `voice` is its pair.
"""

import argparse
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

# The page's peer connections are kept where this script can ask them.
KEEP_PEERS = """
const Real = RTCPeerConnection;
window.seenPeers = [];
window.RTCPeerConnection = class extends Real {
    constructor(...args) { super(...args); window.seenPeers.push(this); }
};
"""
# What each peer connection received, sent, and over which pair of candidates.
LOOK = """
(async () => {
    const found = [];
    for (const peer of window.seenPeers) {
        const {connectionState, iceConnectionState, iceGatheringState, signalingState} = peer;
        const states = [connectionState, signalingState, iceGatheringState, iceConnectionState];
        const one = {states, frames: 0, received: 0, sent: 0};
        const stats = await peer.getStats();
        for (const entry of stats.values()) {
            if (entry.type === 'inbound-rtp' && entry.kind === 'video') {
                one.frames += entry.framesDecoded ?? 0;
                one.received += entry.bytesReceived;
            }
            if (entry.type === 'outbound-rtp') one.sent += entry.packetsSent;
            if (entry.type !== 'transport' || !entry.selectedCandidatePairId) continue;
            const pair = stats.get(entry.selectedCandidatePairId);
            const local = stats.get(pair.localCandidateId);
            one.pair = {
                local: local.candidateType,
                relay: local.relayProtocol,
                server: local.url,
                remote: stats.get(pair.remoteCandidateId).address,
            };
        }
        found.push(one);
    }
    const video = document.querySelector('video');
    return {peers: found, page: window.hydraneck?.phase, size: [video?.videoWidth, video?.videoHeight]};
})()
"""
# The page's own button; false as long as it is not there.
SWITCH_ON = """
(() => {
    const button = document.querySelector('#hydraneck')?.shadowRoot?.querySelector('.mic');
    button?.click();
    return !!button;
})()
"""
FLAGS = [
    "--headless",
    "--no-sandbox",  # run by root, for a page of our own
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--remote-debugging-pipe",
]
POLL_SECONDS = 0.2
# Lines of the page's console that are shown when nothing came.
LAST_WORDS = 40


class Browser:
    """Chromium, spoken to through two pipes in its DevTools protocol."""

    def __init__(self, flags, profile):
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        # The browser reads descriptor 3 and writes descriptor 4.
        pipes = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec chromium "$@"'
        self.process = subprocess.Popen(
            ["bash", "-c", pipes, "chromium", *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=open(f"{profile}/log", "wb"),
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.profile = profile
        self.pending = b""
        self.last = 0
        self.said = []
        self.page = None

    def call(self, method, **parameters):
        """Sends a command and waits for its answer; of events, remembers what the page said."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if self.page:
            message["sessionId"] = self.page
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.last:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            if answer.get("method") == "Runtime.consoleAPICalled":
                words = [str(a.get("value", a.get("description"))) for a in answer["params"]["args"]]
                self.said.append(" ".join(words))

    def receive(self):
        while b"\0" not in self.pending:
            if not select.select([self.into], [], [], 60)[0]:
                raise SystemExit("the browser has not answered for a minute")
            data = os.read(self.into, 1 << 16)
            if not data:
                raise SystemExit(f"the browser has ended: {Path(self.profile, 'log').read_text()}")
            self.pending += data
        message, _, self.pending = self.pending.partition(b"\0")
        return json.loads(message)

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise SystemExit(f"in the page: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def open(self, url):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.page = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=KEEP_PEERS)
        self.call("Page.navigate", url=url)

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("stream_url")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--microphone", action="store_true")
    a = parser.parse_args()
    url = urlsplit(a.stream_url)
    flags = []
    if a.microphone:
        # Over plain HTTP a browser gives a microphone to this one name alone.
        flags = [f"--host-resolver-rules=MAP localhost {url.hostname}"]
        url = url._replace(netloc=f"localhost:{url.port or 80}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(flags, profile)
        try:
            browser.open(urlunsplit(url))
            print(json.dumps(watch(browser, a)), flush=True)
        finally:
            browser.close()


def watch(browser, a):
    """Looks until the picture has come and, if asked for, the voice has gone."""
    end = time.monotonic() + a.timeout
    is_on = False
    seen = None
    while time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        # While the page loads there is nothing to ask yet.
        if browser.evaluate("document.readyState === 'complete' && !!window.seenPeers") is not True:
            continue
        seen = browser.evaluate(LOOK)
        picture = next((p for p in seen["peers"] if p["frames"] >= a.frames), None)
        if picture is None:
            continue
        result = {name: picture[name] for name in ("frames", "received", "pair")} | {"size": seen["size"]}
        if not a.microphone:
            return result
        if not is_on:
            is_on = browser.evaluate(SWITCH_ON)
            continue
        voice = next((p for p in seen["peers"] if p is not picture and p["sent"] > 0 and "pair" in p), None)
        if voice is not None:
            return result | {"voice": voice["pair"], "voice_packets": voice["sent"]}
    said = "\n".join(browser.said[-LAST_WORDS:])
    raise SystemExit(f"not in {a.timeout} s: {json.dumps(seen)}\nthe page said:\n{said}")


main()
