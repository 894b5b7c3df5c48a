"""The HTTP API beside the chat: the figures of the API in docs/benchmarks.md.

Owns: one chatd with one worker and a listener for the API; how many messages applications store per second and what
each costs, and what the chat waits longer meanwhile.
Elsewhere: the generators (bench/apigen.cpp, bench/load.py), the server (bench/servers.py).
Run: .venv/bin/python bench/api.py [SECONDS of each run]

Fails: RuntimeError when the server does not start, or a generator fails.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from load import run
from servers import BUILD, Chatd, _beside, build, free_port

from chatd.core.key_ring import CHECK_S

USERS = 200
CONNECTIONS = 200
CHAT_RATE, API_RATE = "2000", "1000"
ROUNDS = 5


class ChatdWithApi(Chatd):
    """key: for messages."""

    def __init__(self, workers: int) -> None:
        self.api_port = free_port()
        super().__init__(workers)
        accounts = "".join(f"a{number} secret-of-a{number}\n" for number in range(USERS))
        self._ctl("user", "add", "--file", "-", "--force", input=accounts)
        self.key = self._ctl("key", "add", "bench", "--scope", "messages:write").strip()
        time.sleep(2 * CHECK_S)  # until the worker has seen the key

    def settings(self, usual: str) -> str:
        """Nobody reads the messages of the applications, so any number may wait."""
        listener = f'[[listen]]\nprotocol = "http"\naddress = "http://127.0.0.1:{self.api_port}"\n'
        waiting = usual.replace("[limits]\n", "[limits]\nwaiting_from_one = 0\nwaiting = 0\n")
        return f"{waiting}\n{listener}\n[http]\nrequests_per_s = 0\nrequests_per_connection = 0\n"

    def _ctl(self, *words: str, input: str = "") -> str:
        command = [_beside("chatctl"), "-c", str(self.config), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, input=input).stdout

    @contextmanager
    def applications(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """They send while the block runs, and are waited for at its end."""
        command = [str(BUILD / "apigen"), "--port", str(self.api_port), "--key", self.key, "--users", str(USERS)]
        command += ["--connections", str(CONNECTIONS), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sending:
            yield sending


def phase(sending: subprocess.Popen[str], name: str) -> dict:
    assert sending.stdout is not None
    line = sending.stdout.readline()
    if not line or json.loads(line)["phase"] != name:
        raise RuntimeError(f"apigen: expected {name!r}, got {line!r}")
    return json.loads(line)


def flat_out(server: ChatdWithApi, seconds: str) -> None:
    """As many as one worker stores."""
    for _ in range(ROUNDS):
        with server.applications("--seconds", seconds, "--warm", "2") as sending:
            phase(sending, "measure")
            before = server.cpu_s()
            phase(sending, "stop")
            spent = server.cpu_s() - before
            end = phase(sending, "end")
        print(f"{end['per_s']:.0f} requests/s, {spent * 1e6 / end['answered']:.0f} us of CPU each,"
              f" p50 {end['p50_us'] / 1000:.1f} ms, p99 {end['p99_us'] / 1000:.1f} ms,"
              f" failed {end['failed']}, closed {end['closed']}, lost {end['lost']},"
              f" generator {end['generator_busy']:.0%}", flush=True)  # fmt: skip


def beside_the_chat(server: ChatdWithApi, seconds: str) -> None:
    """What the chat waits at CHAT_RATE messages per second, without applications and with API_RATE requests."""
    off, on = [], []
    chat = ("--rate", CHAT_RATE, "--seconds", seconds)
    for _ in range(ROUNDS):
        off.append(run(server, *chat))
        with server.applications("--rate", API_RATE, "--warm", "1", "--seconds", str(float(seconds) + 4)) as sending:
            phase(sending, "measure")
            on.append(run(server, *chat))
            phase(sending, "stop")
            end = phase(sending, "end")
        print(f"p99 of the chat: {off[-1].p99_us / 1000:.1f} ms alone, {on[-1].p99_us / 1000:.1f} ms beside"
              f" {end['per_s']:.0f} requests/s (p99 {end['p99_us'] / 1000:.1f} ms, failed {end['failed']});"
              f" wrong: {on[-1].wrong}", flush=True)  # fmt: skip
    median = [statistics.median(one.p99_us for one in runs) / 1000 for runs in (off, on)]
    print(f"median p99: {median[0]:.1f} ms alone, {median[1]:.1f} ms beside the API")


def main(arguments: list[str]) -> None:
    seconds = arguments[0] if arguments else "10"
    build()
    server = ChatdWithApi(1)
    try:
        beside_the_chat(server, seconds)  # first: afterwards the store is large
        flat_out(server, seconds)
        print(f"errors logged: {server.errors_logged()}")
    finally:
        server.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
