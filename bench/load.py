"""The generators against one server, and what the server spent meanwhile.

Owns: running bench/loadgen and bench/fanout, reading their phases, pairing users across workers.
Fails: RuntimeError when a generator fails, or a server keeps connections whose clients are gone.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from types import TracebackType

from servers import BUILD, Server

_runs = itertools.count()
_GONE_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Run:
    """What one run showed. Latencies in µs; cpu_us is the server's CPU per delivered message (per copy in a group).

    crossed: the share of users whose partner is on another worker, 0..1; None where nobody looked.
    idle_kb: with --idle, memory the connections added, per connection, after all had logged in; else 0.
    generator_busy: the generator's share of one core while measuring; near 1 it has measured itself.
    per_read: messages that one read of a client brought, on average; more cost the server less each. 0 on UDP.
    beside: by how much Server.readings() grew while measuring.
    """

    delivered: int
    per_s: float
    cpu_us: float
    p50_us: int
    p99_us: int
    logins_per_s: float
    login_p99_us: int
    idle_kb: float
    crossed: float | None
    sent: int
    generator_busy: float
    per_read: float
    wrong: dict[str, int]
    beside: dict[str, float]

    @property
    def per_cpu_s(self) -> float:
        """Messages (copies) delivered per second of the server's CPU."""
        return 1e6 / self.cpu_us if self.cpu_us else 0.0


class Generator:
    """One running process of a generator. Its phases are waited for in their order."""

    def __init__(self, program: str, server: Server, wire: str, users: int, prefix: str, *options: str) -> None:
        plain = {"mobileimsdk-tls": "mobileimsdk", "mobileimsdk-wss": "mobileimsdk-ws"}.get(wire, wire)
        command = [str(BUILD / program), "--wire", plain, "--port", server.addresses(wire)]
        command += ["--tls"] if plain != wire else []
        command += ["--users", str(users), "--prefix", prefix, *options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self._process.kill()
        self._process.communicate()

    def phase(self, name: str) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the generator ended before its phase {name!r}")
        phase = json.loads(line)
        if phase["phase"] != name:
            raise RuntimeError(f"expected phase {name!r}, got {line!r}")
        return phase

    def kill(self) -> None:
        """End it before its last phase."""
        self._process.kill()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def run(server: Server, *options: str, wire: str = "mobileimsdk", users: int = 200, cross: bool = False) -> Run:
    """Pairs. cross: put the two users of a pair on different workers, as far as the connections are spread."""
    if cross:
        options = (*options, "--pairs", "stdin")
    idle = "--idle" in options
    pss_before_kb = server.pss_kb() if idle else 0
    with Generator("loadgen", server, wire, users, _prefix(), *options) as generator:
        ready = generator.phase("ready")
        crossed = None
        if cross:
            partners, crossed = pairs(ready["ports"], server.holders(wire))
            generator.tell(" ".join(map(str, partners)))
        spent = _spent(server, generator)
        pss_kb = server.pss_kb() if idle else 0
        one = _run(ready, spent, generator.phase("end"))
    return replace(one, crossed=crossed, idle_kb=(pss_kb - pss_before_kb) / users)


class Group:
    """One group on one server, from its making at the first run."""

    def __init__(self, server: Server, users: int = 1000) -> None:
        self._server = server
        self._users = users
        self._prefix = _prefix()
        self._number = 0

    def run(self, *options: str) -> Run:
        """Some of its members write to it, all of them online."""
        known = ("--group", str(self._number)) if self._number else ()
        with Generator("fanout", self._server, "mobileimsdk", self._users, self._prefix, *known, *options) as generator:
            ready = generator.phase("ready")
            self._number = generator.phase("group")["group"]
            return _run(ready, _spent(self._server, generator), generator.phase("end"))


class Storm:
    """`users` log in over `seconds`, the same at each blow(), while 200 others exchange messages at a fixed rate."""

    def __init__(self, server: Server, users: int, seconds: float) -> None:
        self._server = server
        self._users = users
        self._seconds = seconds
        self._prefix = _prefix()

    def blow(self, rate: int = 2000) -> Run:
        """What the others saw during the storm; logins_per_s and login_p99_us are the storm's."""
        wire = "mobileimsdk"
        steady = ("--rate", str(rate), "--seconds", str(self._seconds))
        storming = ("--logins-per-s", str(self._users / self._seconds), "--idle", "--seconds", "1")
        with Generator("loadgen", self._server, wire, 200, _prefix(), *steady) as others:
            others.phase("ready")
            others.phase("measure")
            before = _readings(self._server)
            with Generator("loadgen", self._server, wire, self._users, self._prefix, *storming) as storm:
                others.phase("stop")
                spent = _growth(before, _readings(self._server))
                one = _run(storm.phase("ready"), spent, others.phase("end"))
                storm.phase("measure")
                storm.phase("stop")
                closed = storm.phase("end")["closed"]
        self._await_calm(wire)
        return replace(one, wrong={**one.wrong, "closed": one.wrong["closed"] + closed})

    def _await_calm(self, wire: str) -> None:
        deadline = time.monotonic() + _GONE_DEADLINE_S
        while left := self._server.connections(wire):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server still holds {left} connections whose clients are gone")
            time.sleep(0.1)


def _prefix() -> str:
    """Of the names of users that no run before has had."""
    return f"r{next(_runs)}u"


Readings = dict[str, float]
_CPU = "server's CPU, s"


def _readings(server: Server) -> Readings:
    return {_CPU: server.cpu_s(), **server.readings()}


def _growth(before: Readings, after: Readings) -> Readings:
    return {name: after[name] - before[name] for name in after}


def _spent(server: Server, generator: Generator) -> Readings:
    """By how much everything grew while the generator measures."""
    generator.phase("measure")
    before = _readings(server)
    generator.phase("stop")
    return _growth(before, _readings(server))


def _run(ready: dict, spent: Readings, end: dict) -> Run:
    return Run(
        delivered=end["delivered"],
        per_s=end["per_s"],
        cpu_us=spent[_CPU] * 1e6 / max(1, end["delivered"]),
        p50_us=end["p50_us"],
        p99_us=end["p99_us"],
        logins_per_s=ready["logins_per_s"],
        login_p99_us=ready["p99_us"],
        idle_kb=0.0,
        crossed=None,
        sent=end["sent"],
        generator_busy=end["generator_busy"],
        per_read=end["per_read"],
        wrong={name: end[name] for name in ("lost", "reordered", "repeated", "refused", "closed")},
        beside={name: grown for name, grown in spent.items() if name != _CPU},
    )


def pairs(ports: list[int], holders: dict[int, int]) -> tuple[list[int], float]:
    """Every user's partner, and the share of users whose partner is held by another process."""
    by_worker = defaultdict(list)
    for user, port in enumerate(ports):
        by_worker[holders[port]].append(user)
    partners = [0] * len(ports)
    crossed = 0
    while True:
        fullest, *others = sorted(by_worker.values(), key=len, reverse=True)
        if not fullest:
            return partners, crossed / len(ports)
        other = others[0] if others and others[0] else fullest
        one, two = fullest.pop(), other.pop()
        partners[one], partners[two] = two, one
        crossed += 2 * (other is not fullest)
