"""Opens a session's signalling WebSocket as the stream page does, and prints what it learned.

    signalling.py STREAM_URL [--hold SECONDS] [--offer]

Prints one JSON object: the ice_servers that the page is given and, with --offer, the candidates
that the stream process gathers once the page has chosen WebRTC. Holds the socket open for SECONDS,
as a viewer does; a socket that closes before is a failure.
"""

import argparse
import base64
import json
import os
import socket
import struct
import time
from urllib.parse import parse_qs, urlsplit

# The stream page's own numbers; the process only wants them to be there.
QUEUES = {"video_frame_queue_size": 3, "audio_sample_queue_size": 20}


class WebSocket:
    def __init__(self, url):
        port = url.port or 80
        self.socket = socket.create_connection((url.hostname, port), timeout=15)
        self.pending = b""
        key = base64.b64encode(os.urandom(16)).decode()
        prefix = url.path.rsplit("/", 1)[0]
        self.socket.sendall(
            f"GET {prefix}/api/host/stream HTTP/1.1\r\nHost: {url.netloc}\r\n"
            f"Origin: {url.scheme}://{url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = self.until(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0] + b" ":
            raise SystemExit(f"no upgrade: {head.decode(errors='replace')}")

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the socket was closed")
        self.pending += data

    def until(self, mark):
        while mark not in self.pending:
            self.more()
        head, _, self.pending = self.pending.partition(mark)
        return head

    def exactly(self, count):
        while len(self.pending) < count:
            self.more()
        data, self.pending = self.pending[:count], self.pending[count:]
        return data

    def send(self, message, opcode=1):
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        mask = os.urandom(4)
        size = struct.pack("!B", 0x80 | len(data)) if len(data) < 126 else struct.pack("!BH", 0xFE, len(data))
        masked = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
        self.socket.sendall(bytes([0x80 | opcode]) + size + mask + masked)

    def receive(self):
        """The next text message; answers pings, raises EOFError at the end."""
        while True:
            first, second = self.exactly(2)
            size = second & 0x7F
            if size == 126:
                size = struct.unpack("!H", self.exactly(2))[0]
            elif size == 127:
                size = struct.unpack("!Q", self.exactly(8))[0]
            data = self.exactly(size)
            opcode = first & 0x0F
            if opcode == 8:
                raise EOFError("the socket was closed by the server")
            if opcode == 9:
                self.send(data, opcode=10)
            elif opcode == 1:
                return json.loads(data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("stream_url")
    parser.add_argument("--hold", type=float, default=0)
    parser.add_argument("--offer", action="store_true")
    a = parser.parse_args()
    url = urlsplit(a.stream_url)
    query = parse_qs(url.query)
    page = WebSocket(url)
    page.send({"Init": {"host_id": int(query["hostId"][0]), "app_id": int(query["appId"][0]), **QUEUES}})
    found = {"candidates": []}
    while "ice_servers" not in found:
        message = page.receive()
        if "Setup" in message:
            found["ice_servers"] = message["Setup"]["ice_servers"]
        elif message.get("DebugLog", {}).get("ty") == "fatalDescription":
            raise SystemExit(f"refused: {message}")
    if a.offer:
        page.send({"SetTransport": "WebRTC"})
        page.socket.settimeout(5)
        try:
            while not any("relay" in c for c in found["candidates"]):
                message = page.receive()
                webrtc = message.get("WebRtc", {}) if isinstance(message, dict) else {}
                if "AddIceCandidate" in webrtc:
                    found["candidates"].append(webrtc["AddIceCandidate"]["candidate"])
                elif "Description" in webrtc:
                    sdp = webrtc["Description"]["sdp"].splitlines()
                    found["candidates"] += [line for line in sdp if line.startswith("a=candidate")]
        except TimeoutError:
            pass
    print(json.dumps(found), flush=True)
    end = time.monotonic() + a.hold
    while (left := end - time.monotonic()) > 0:
        page.socket.settimeout(left)
        try:
            page.receive()
        except TimeoutError:
            break


main()
