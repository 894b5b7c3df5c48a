"""How long a correct login takes while strangers flood the server: the figures of docs/security.md.

Owns: one chatd with two workers and the shipped defaults (UDP switched on); a process of strangers who send wrong
logins by datagram and open TCP connections, 2,000 of each in a second; users who log in over TCP from another address,
each for the first time. Everything stays on loopback, and ends after SECONDS.
Run: .venv/bin/python bench/flood.py

Every user has an account of their own, so that no login profits from an earlier one.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

SECONDS = 20.0
PER_S = 2000
"""Datagrams, and as many connects, in a second."""
USERS = 400
HELD = 500
"""Connections of the strangers that are open at a time."""
PASSWORD = "correct horse battery"
"""Of accounts that exist for this run only."""
BIN = Path(sys.executable).parent

CONFIG = """\
[server]
workers = 2
state_dir = "state"
runtime_dir = "{run}"
log_dir = "log"

[[listen]]
protocol = "chatserver"
address = "tcp://127.0.0.1:{tcp}"

[[listen]]
protocol = "mobileimsdk"
address = "udp://127.0.0.1:{udp}"
"""


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def strangers(tcp: int, udp: int, addresses: int, guess: bool) -> None:
    """Until killed. guess: every fourth connection guesses a password, the others send nothing."""
    sources = [f"127.1.{number // 200}.{number % 200 + 1}" for number in range(addresses)]
    senders = []
    for number in range(max(200, addresses)):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.bind((sources[number % addresses], 0))
        sender.setblocking(False)
        senders.append(sender)
    held: deque[socket.socket] = deque()
    began, sent = time.monotonic(), 0
    while True:
        while sent < (time.monotonic() - began) * PER_S:
            sent += 1
            inner = json.dumps({"loginUserId": f"user{sent % USERS}", "loginToken": "wrong", "firstLoginTime": 0})
            packet = {"type": 0, "from": "x", "to": "0", "dataContent": inner, "QoS": True, "typeu": -1}
            with contextlib.suppress(OSError):
                senders[sent % len(senders)].sendto(json.dumps(packet).encode(), ("127.0.0.1", udp))
            sock = socket.socket()
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.bind((sources[sent % addresses], 0))
                with contextlib.suppress(BlockingIOError):
                    sock.connect(("127.0.0.1", tcp))
                if guess and sent % 4 == 0:
                    sock.send(json.dumps({"msgid": 1, "id": 1 + sent % USERS, "password": "wrong"}).encode())
            held.append(sock)
            if len(held) > HELD:
                held.popleft().close()
        time.sleep(0.001)


def log_in(tcp: int, user_id: int) -> float:
    """Seconds that a login takes, from connecting. Raises RuntimeError, OSError or ValueError when it is not served."""
    began = time.monotonic()
    with socket.socket() as sock:
        sock.bind((f"127.0.0.{3 + user_id % 200}", 0))
        sock.settimeout(10)
        sock.connect(("127.0.0.1", tcp))
        sock.sendall(json.dumps({"msgid": 1, "id": user_id, "password": PASSWORD}).encode())
        answer, _ = json.JSONDecoder().raw_decode(sock.recv(65536).decode())  # other frames may follow it
    if answer.get("errno") != 0:
        raise RuntimeError(f"refused: {answer}")
    return time.monotonic() - began


def measure(what: str, tcp: int, first: int, count: int) -> None:
    """Ten logins in a second."""
    took, refused = [], 0
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / 10 - time.monotonic()))
        try:
            took.append(log_in(tcp, first + number))
        except (RuntimeError, OSError, ValueError):
            refused += 1
    ordered = sorted(took)
    p99, median = ordered[int(len(ordered) * 0.99)], statistics.median(took)
    print(f"{what}: {len(took)} logins, {refused} not served; median {median:.3f} s, p99 {p99:.3f} s", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="chatd-flood-") as root, tempfile.TemporaryDirectory(prefix="cf") as run:
        tcp, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
        config = Path(root, "chatd.toml")
        config.write_text(CONFIG.format(tcp=tcp, udp=udp, run=run))
        config.chmod(0o600)
        lines = "".join(f"user{number} {PASSWORD}\n" for number in range(1, USERS + 1))
        arguments = ["-c", str(config)]
        subprocess.run([BIN / "chatctl", *arguments, "user", "add", "--file", "-"], input=lines, text=True, check=True)
        allow_root = ["--allow-root"] if os.geteuid() == 0 else []
        server = subprocess.Popen([BIN / "chatd", *arguments, *allow_root])
        try:
            while subprocess.run([BIN / "chatctl", *arguments, "check"], capture_output=True).returncode:
                time.sleep(0.2)
            count = int(SECONDS * 10 / 2)
            measure("without a flood", tcp, 1, 50)
            first = 51
            for addresses, guess in ((1, False), (250, False), (250, True)):
                arguments_of_flood = (tcp, udp, addresses, guess)
                flood = multiprocessing.Process(target=strangers, args=arguments_of_flood, daemon=True)
                flood.start()
                time.sleep(1.0)
                what = f"flood from {addresses} address(es){', with guesses over TCP too' if guess else ''}"
                measure(what, tcp, first, count)
                flood.kill()
                flood.join()
                first += count
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


if __name__ == "__main__":
    main()
