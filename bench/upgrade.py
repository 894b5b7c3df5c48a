"""Upgrade a server in place while 200 users exchange 2,000 messages a second, and print what they saw.

Owns: the load, the upgrades beside it, one client that connects all the time, further users who only stay.
usage: upgrade.py [--upgrades N] [--rate R] [--pause S] [--seconds S] [--wire WIRE] [--workers N] [--idle N].
Without an upgrade (--upgrades 0) it measures what there is to compare with.
Exit 70 if a message was lost, repeated or out of order, a session ended, a connect was refused, or an upgrade failed;
missed times are figures, not errors.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from load import Generator
from servers import WIRES, Chatd, build

USERS = 200
CONNECT_EVERY_S = 0.005
TARGET_MS = 500
IDLE_LONGER_S = 15.0
"""How much longer than the load further users stay: it takes time to log in, and to end."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrades", type=int, default=3)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pause", type=float, default=3, help="seconds before each upgrade")
    parser.add_argument("--seconds", type=float, default=0, help="of the load; 0 = enough on an idle machine")
    parser.add_argument("--wire", choices=WIRES, default="mobileimsdk")
    parser.add_argument("--idle", type=int, default=0, help="further users who are logged in and send nothing")
    options = parser.parse_args()
    busy = os.getloadavg()[0]
    build()
    server = Chatd(options.workers)
    try:
        wrong = measure_beside_idle(server, options) if options.idle else measure(server, options)
    finally:
        server.stop()
    print(f"load average before: {busy:.1f}")
    return 70 if wrong else 0


def load_s(options: argparse.Namespace) -> float:
    return float(options.seconds or options.pause + max(1, options.upgrades) * (options.pause + 3.0))


def measure_beside_idle(server: Chatd, options: argparse.Namespace) -> bool:
    """measure(), while further users stay logged in, whose sessions are counted at the end."""
    stay = ("--idle", "--seconds", str(load_s(options) + IDLE_LONGER_S))
    with Generator("loadgen", server, options.wire, options.idle, "idle", *stay) as staying:
        staying.phase("ready")
        staying.phase("measure")
        wrong = measure(server, options)
        staying.phase("stop")
        closed = staying.phase("end")["closed"]
    print(f"idle users: {options.idle}, disconnected: {closed}")
    return wrong or bool(closed)


def measure(server: Chatd, options: argparse.Namespace) -> bool:
    seconds = load_s(options)
    load = ("--rate", str(options.rate), "--seconds", str(seconds))
    with Generator("loadgen", server, options.wire, USERS, "u", *load) as generator:
        generator.phase("ready")
        generator.phase("measure")
        connecting = Connecting(server.ports["mobileimsdk"])
        upgrades = [upgrade(server.config, options.pause) for _ in range(options.upgrades)]
        generator.phase("stop")
        connecting.stop()
        end = generator.phase("end")
    for number, one in enumerate(upgrades, 1):
        print(f"upgrade {number}: {one}")
    wrong = {name: end[name] for name in ("lost", "reordered", "repeated", "refused", "closed")}
    print(f"{options.wire}, {options.workers} workers: {end['sent']} sent, {end['per_s']:.0f}/s delivered, {wrong}")
    print(f"latency p50 {end['p50_us'] / 1000:.1f} ms, p99 {end['p99_us'] / 1000:.1f} ms (target {TARGET_MS} ms)")
    print(f"connects: {connecting.made}, refused: {connecting.refused}, slowest {connecting.slowest_s * 1000:.0f} ms")
    return any(wrong.values()) or bool(connecting.refused) or not all(one["ok"] for one in upgrades)


def upgrade(config: Path, pause_s: float) -> dict[str, object]:
    time.sleep(pause_s)
    done = subprocess.run(
        [sys.executable, "-m", "chatd.chatctl", "-c", str(config), "upgrade", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    answer: dict[str, object] = json.loads(done.stdout) if done.stdout else {"ok": False, "error": done.stderr}
    return answer


class Connecting:
    """Connects all the time, in a thread of its own."""

    def __init__(self, port: int) -> None:
        self.made = self.refused = 0
        self.slowest_s = 0.0
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(CONNECT_EVERY_S):
            began = time.monotonic()
            try:
                socket.create_connection(("127.0.0.1", self._port), 10).close()
                self.made += 1
            except OSError:
                self.refused += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


if __name__ == "__main__":
    sys.exit(main())
