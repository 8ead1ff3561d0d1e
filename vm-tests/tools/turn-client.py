"""A TURN client that says exactly what a test wants said (RFC 8656 over UDP).

Every command prints the outcome of its last request: `ok`, or the error code.

    turn-client.py SERVER SECRET permission PEER      allocate, then ask for a permission
    turn-client.py SERVER SECRET channel PEER         allocate, then bind a channel
    turn-client.py SERVER SECRET echo                 two allocations exchange a datagram through the relay
    turn-client.py SERVER SECRET allocate             one allocation; prints its relayed address
    turn-client.py SERVER SECRET tcp                  ask for a TCP relay
    turn-client.py SERVER SECRET quota N              N allocations of each of --users users, all at a time
    turn-client.py SERVER SECRET outlive              a refresh after the credential has expired
    turn-client.py SERVER SECRET software             the SOFTWARE attribute of any answer, or `none`

--ttl SECONDS is how long the credential is valid (600); a negative one has expired already.
--user and --password are used as they are, in place of a credential from the secret.
"""

import argparse
import base64
import hashlib
import hmac
import ipaddress
import os
import socket
import struct
import time

COOKIE = 0x2112A442
ALLOCATE, REFRESH, SEND, PERMISSION, CHANNEL = 3, 4, 6, 8, 9
ERROR_CODE, NONCE, REALM, SOFTWARE = 0x09, 0x15, 0x14, 0x8022
USERNAME, INTEGRITY, LIFETIME = 0x06, 0x08, 0x0D
CHANNEL_NUMBER, XOR_PEER, DATA, XOR_RELAYED, TRANSPORT = 0x0C, 0x12, 0x13, 0x16, 0x19
ADDRESS_FAMILY = 0x17


def attribute(kind, value):
    return struct.pack("!HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)


def xored(address, transaction):
    """An address as XOR-PEER-ADDRESS carries it."""
    host, port = address
    ip = ipaddress.ip_address(host)
    mask = struct.pack("!I", COOKIE) + (transaction if ip.version == 6 else b"")
    body = bytes(a ^ b for a, b in zip(ip.packed, mask))
    family = 2 if ip.version == 6 else 1
    return struct.pack("!BBH", 0, family, port ^ (COOKIE >> 16)) + body


def unxored(value):
    family, port = struct.unpack("!xBH", value[:4])
    if family != 1:
        return "an IPv6 address", port ^ (COOKIE >> 16)
    packed = bytes(a ^ b for a, b in zip(value[4:8], struct.pack("!I", COOKIE)))
    return str(ipaddress.ip_address(packed)), port ^ (COOKIE >> 16)


class Client:
    def __init__(self, server, user, password):
        self.server = (server, 3478)
        self.user, self.password = user, password
        self.realm = self.nonce = None
        self.software = None
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(3)

    def request(self, method, attributes):
        """Sends a request, answering one challenge; returns (`ok` or the code, attributes)."""
        for _ in range(3):
            outcome, answer = self.exchange(method, attributes)
            challenged = outcome in ("401", "438") and NONCE in answer
            is_new = challenged and answer[NONCE] != self.nonce
            if not is_new or (outcome == "401" and self.nonce is not None):
                return outcome, answer
            self.nonce, self.realm = answer[NONCE], answer.get(REALM, self.realm)
        return outcome, answer

    def exchange(self, method, attributes):
        transaction = os.urandom(12)
        body = b"".join(attribute(k, v(transaction) if callable(v) else v) for k, v in attributes)
        if self.nonce is not None:
            body += attribute(USERNAME, self.user.encode())
            body += attribute(REALM, self.realm) + attribute(NONCE, self.nonce)
            key = hashlib.md5(b":".join([self.user.encode(), self.realm, self.password.encode()])).digest()
            head = struct.pack("!HHI", method, len(body) + 24, COOKIE) + transaction
            body += attribute(INTEGRITY, hmac.new(key, head + body, hashlib.sha1).digest())
        packet = struct.pack("!HHI", method, len(body), COOKIE) + transaction + body
        for _ in range(3):
            self.socket.sendto(packet, self.server)
            try:
                while True:
                    answer = self.socket.recv(2048)
                    if answer[8:20] == transaction:
                        return self.parse(answer)
            except TimeoutError:
                continue
        return "timeout", {}

    def parse(self, packet):
        kind, length = struct.unpack("!HH", packet[:4])
        found, at = {}, 20
        while at < 20 + length:
            name, size = struct.unpack("!HH", packet[at : at + 4])
            found[name] = packet[at + 4 : at + 4 + size]
            at += 4 + size + (-size % 4)
        self.software = found.get(SOFTWARE, self.software)
        if kind & 0x110 == 0x110:
            high, low = found[ERROR_CODE][2:4]
            return str(high * 100 + low), found
        return "ok", found

    def allocate(self, transport=17, lifetime=600, family=None):
        wanted = [(TRANSPORT, bytes([transport, 0, 0, 0])), (LIFETIME, struct.pack("!I", lifetime))]
        if family:
            wanted.append((ADDRESS_FAMILY, bytes([family, 0, 0, 0])))
        outcome, answer = self.request(ALLOCATE, wanted)
        self.relayed = unxored(answer[XOR_RELAYED]) if XOR_RELAYED in answer else None
        return outcome

    def permit(self, address):
        return self.request(PERMISSION, [(XOR_PEER, lambda t: xored(address, t))])[0]

    def bind_channel(self, address):
        number = (CHANNEL_NUMBER, struct.pack("!HH", 0x4000, 0))
        return self.request(CHANNEL, [number, (XOR_PEER, lambda t: xored(address, t))])[0]

    def send(self, address, data):
        transaction = os.urandom(12)
        body = attribute(XOR_PEER, xored(address, transaction)) + attribute(DATA, data)
        packet = struct.pack("!HHI", 0x10 | SEND, len(body), COOKIE) + transaction + body
        self.socket.sendto(packet, self.server)

    def receive(self):
        """The data of the next indication."""
        while True:
            packet = self.socket.recv(2048)
            if struct.unpack("!H", packet[:2])[0] == 0x17:
                return self.parse(packet)[1][DATA]


def credential(secret, ttl, name):
    user = f"{int(time.time()) + ttl}:{name}"
    digest = hmac.new(secret.encode(), user.encode(), hashlib.sha1).digest()
    return user, base64.b64encode(digest).decode()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("secret")
    parser.add_argument("command")
    parser.add_argument("argument", nargs="?")
    parser.add_argument("--ttl", type=int, default=600)
    parser.add_argument("--users", type=int, default=1)
    parser.add_argument("--user")
    parser.add_argument("--password")
    a = parser.parse_args()

    def client(name="test"):
        user, password = credential(a.secret, a.ttl, f"{name}{os.getpid()}")
        return Client(a.server, a.user or user, a.password or password)

    c = client()
    if a.command in ("permission", "channel"):
        is_v6 = ipaddress.ip_address(a.argument).version == 6
        outcome = c.allocate(family=2 if is_v6 else None)
        if is_v6 and outcome != "ok":  # no IPv6 relay on this machine: the peer is refused anyhow
            c = client()
            outcome = c.allocate()
        if outcome == "ok":
            outcome = (c.permit if a.command == "permission" else c.bind_channel)((a.argument, 9))
        print(outcome)
    elif a.command == "allocate":
        outcome = c.allocate()
        print(outcome if c.relayed is None else f"{outcome} {c.relayed[0]}:{c.relayed[1]}")
    elif a.command == "tcp":
        print(c.allocate(transport=6))
    elif a.command == "software":
        c.allocate()
        print(c.software.decode() if c.software else "none")
    elif a.command == "quota":
        for n in range(a.users):
            # One credential for all of a user's: its expiry is part of the name that is counted.
            user = client(f"user{n}-")
            held = [Client(a.server, user.user, user.password) for _ in range(int(a.argument))]
            answers = [k.allocate() for k in held]
            print(", ".join(f"{answers.count(word)} {word}" for word in sorted({*answers}, reverse=True)))
    elif a.command == "outlive":
        print(c.allocate(lifetime=600), end=" ")
        time.sleep(max(0, a.ttl) + 2)
        again = Client(a.server, c.user, c.password)
        print(c.request(REFRESH, [(LIFETIME, struct.pack("!I", 600))])[0], again.allocate())
    elif a.command == "echo":
        other = client()
        steps = [c.allocate(), other.allocate()]
        steps += [c.permit(other.relayed), other.permit(c.relayed)]
        for n in range(50):  # media, not a single lucky packet
            c.send(other.relayed, b"ping %d" % n)
            assert other.receive() == b"ping %d" % n
            other.send(c.relayed, b"pong %d" % n)
            assert c.receive() == b"pong %d" % n
        print(" ".join(steps))
    else:
        parser.error(f"no such command: {a.command}")


main()
