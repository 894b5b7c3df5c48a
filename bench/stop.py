"""Stop a server that has clients, and print how long it takes and when their connections end.

Owns: the clients (idle, logged in), the stop, the count of connections over time. usage: stop.py [CLIENTS ...]
[--wire WIRE] [--workers N]. Every number of clients gets a server of its own with the shipped time limits.
Exit 70 if the server does not end by itself in time; missed times are figures, not errors.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time

from load import Generator
from servers import STOP_DEADLINE_S, WIRES, Chatd, build

CLIENTS = (2, 50, 10_000)
"""The generator needs an even number."""
LOOK_EVERY_S = 0.05
STAY_S = STOP_DEADLINE_S + 15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clients", type=int, nargs="*", default=CLIENTS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--wire", choices=WIRES, default="mobileimsdk")
    options = parser.parse_args()
    busy = os.getloadavg()[0]
    build()
    for clients in options.clients:
        print(f"{options.wire}, {options.workers} workers, {clients} clients: {stop(options, clients)}", flush=True)
    print(f"load average before: {busy:.1f}")
    return 0


def stop(options: argparse.Namespace, clients: int) -> str:
    """What there is to say of one stop. Raises: RuntimeError if the server does not end in time."""
    server = Chatd(options.workers)
    stay = ("--idle", "--seconds", str(STAY_S))
    with Generator("loadgen", server, options.wire, clients, "u", *stay) as generator:
        generator.phase("ready")
        generator.phase("measure")
        leaving = Leaving(server, options.wire)
        began = time.monotonic()
        server.stop()
        took_s = time.monotonic() - began
        leaving.stop()
        generator.kill()
    slices = leaving.slices(clients)
    return f"stopped after {took_s:.2f} s; connections ended after s (10 %, 50 %, 90 %): {slices}"


class Leaving:
    """Counts the connections that are left, in a thread of its own."""

    def __init__(self, server: Chatd, wire: str) -> None:
        self._server, self._wire = server, wire
        self._began = time.monotonic()
        self._left: list[tuple[float, int]] = []
        """(seconds since the beginning, connections)"""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            self._left.append((time.monotonic() - self._began, self._server.connections(self._wire)))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def slices(self, clients: int) -> str:
        """When 10, 50 and 90 % had gone."""
        shares = (0.9, 0.5, 0.1)
        return ", ".join(
            next((f"{after_s:.1f}" for after_s, left in self._left if left <= clients * share), "-") for share in shares
        )


if __name__ == "__main__":
    sys.exit(main())
