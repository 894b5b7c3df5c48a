"""A host with several addresses, played in a network namespace: `unshare --net python -m tests.net.several_addresses`
with {bound: [addresses to write to]} as JSON; prints from which addresses answers came.

A client is a connected socket: it takes nothing from another address than it wrote to."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

from chatd.net.pktinfo import ReplySocket

ADDRESSES = ("10.66.0.1/32", "10.66.0.2/32", "fd66::1/128", "fd66::2/128", "fe80::66/64")


def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for one in ADDRESSES:
        more = ["nodad"] if ":" in one else []
        subprocess.run(["ip", "addr", "add", one, "dev", "lo", *more], check=True)
    asked: dict[str, list[str]] = json.loads(sys.argv[1])
    print(json.dumps({bound: [host for host in hosts if answers(bound, host)] for bound, hosts in asked.items()}))


def answers(bound: str, host: str) -> bool:
    """Whether a client that writes to `host` hears from there; twice, for what is kept between datagrams."""
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind((bound, 0))
        server.settimeout(5)
        replies = ReplySocket(server)
        kind, _, _, _, target = socket.getaddrinfo(host, server.getsockname()[1], type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as client:
            client.settimeout(2)
            client.connect(target)
            try:
                return all(echo(replies, client, text) for text in (b"one", b"two"))
            except TimeoutError:
                return False


def echo(replies: ReplySocket, client: socket.socket, text: bytes) -> bool:
    client.send(text)
    data, reply_from, address = replies.receive()
    replies.send(data, reply_from, address)
    return client.recv(100) == text


if __name__ == "__main__":
    main()
