"""One run of the generator against one server, and what the server spent during it.

Owns: running bench/loadgen, reading its phases, pairing users across workers.
Fails: RuntimeError when the generator fails.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from typing import IO

from servers import BUILD, Server

_runs = itertools.count()


@dataclass(frozen=True)
class Run:
    """What one run showed. Latencies in µs; cpu_us is the server's CPU per delivered message.

    crossed: the share of users whose partner is on another worker, 0..1; None where nobody looked.
    idle_kb: with --idle, memory the connections added, per connection, after all had logged in; else 0.
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
    wrong: dict[str, int]


def run(server: Server, *options: str, wire: str = "mobileimsdk", users: int = 200, cross: bool = False) -> Run:
    """cross: put the two users of a pair on different workers, as far as the connections are spread."""
    command = [str(BUILD / "loadgen"), "--wire", wire, "--port", str(server.ports[wire])]
    command += ["--users", str(users), "--prefix", f"r{next(_runs)}u", *options]
    if cross:
        command += ["--pairs", "stdin"]
    idle = "--idle" in options
    pss_before_kb = server.pss_kb() if idle else 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as generator:
        assert generator.stdin is not None
        assert generator.stdout is not None
        ready = _phase(generator.stdout, "ready")
        crossed = None
        if cross:
            partners, crossed = _pairs(ready["ports"], server.holders(wire))
            generator.stdin.write(" ".join(map(str, partners)) + "\n")
            generator.stdin.flush()
        _phase(generator.stdout, "measure")
        cpu_before_s = server.cpu_s()
        _phase(generator.stdout, "stop")
        cpu_s = server.cpu_s() - cpu_before_s
        pss_kb = server.pss_kb() if idle else 0
        end = _phase(generator.stdout, "end")
    return Run(
        delivered=end["delivered"],
        per_s=end["per_s"],
        cpu_us=cpu_s * 1e6 / max(1, end["delivered"]),
        p50_us=end["p50_us"],
        p99_us=end["p99_us"],
        logins_per_s=ready["logins_per_s"],
        login_p99_us=ready["p99_us"],
        idle_kb=(pss_kb - pss_before_kb) / users,
        crossed=crossed,
        sent=end["sent"],
        wrong={name: end[name] for name in ("lost", "reordered", "repeated", "refused", "closed")},
    )


def _phase(lines: IO[str], name: str) -> dict:
    line = lines.readline()
    if not line:
        raise RuntimeError(f"the generator ended before its phase {name!r}")
    phase = json.loads(line)
    if phase["phase"] != name:
        raise RuntimeError(f"expected phase {name!r}, got {line!r}")
    return phase


def _pairs(ports: list[int], holders: dict[int, int]) -> tuple[list[int], float]:
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
