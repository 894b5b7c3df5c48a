"""What messages wait longer while a million old ones are deleted: the figures of retention in docs/benchmarks.md.

Owns: a store filled with old messages of two users each and of groups; one chatd that serves 2,000 messages/s while
retention is switched on and off in turn, by reloads.
Elsewhere: the generator (bench/load.py), the server (bench/servers.py).
Run: .venv/bin/python bench/retention.py [mysql://…]     with the address of an empty database: on MySQL instead

Fails: RuntimeError when the server does not start, or the old messages are not gone in the end.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from load import Run, run
from servers import BUILD, Chatd, _beside, build

from chatd.model import User
from chatd.protocol import SendMessage
from chatd.store.contract import AdmissionLimits, Draft
from chatd.store.open import locate, open_tables

MESSAGES = 1_000_000
PEOPLE = 2000
YEAR_MS = 365 * 24 * 3600 * 1000
SECONDS = "10"
ROUNDS = 40
"""Maximum; each is one run without and one with retention."""
RATE = "2000"
TEXT = "an old message of about as many characters as people usually write to each other"


def fill(url: str) -> None:
    """MESSAGES that are a year old, two of three between two users, one of three in groups of 20."""
    with contextlib.closing(open_tables(locate(url, "/"), 20.0, create=True)) as tables:
        tables.begin()
        people = [tables.accounts.create(f"old{number}", "", 1) for number in range(PEOPLE)]
        groups = [tables.groups.create(people[20 * number].id, "team", "", 1000, 1) for number in range(PEOPLE // 20)]
        for number, one in enumerate(people):
            if number % 20:
                tables.admission.join(one.id, groups[number // 20], AdmissionLimits(members=1000, groups=1000), 1)
        tables.commit()
        then = time.time_ns() // 1_000_000 - YEAR_MS
        for begin in range(0, MESSAGES, 1000):
            tables.begin()
            tables.append([_draft(people, groups, number) for number in range(begin, begin + 1000)], then + begin)
            tables.commit()


def _draft(people: list[User], groups: list[int], number: int) -> Draft:
    sender = people[number * 7 % PEOPLE]
    if number % 3 == 2:
        return Draft(sender, SendMessage("", 0, groups[number * 7 % PEOPLE // 20], TEXT, f"g{number}", True))
    other = people[(number * 7 + 1 + number % 5) % PEOPLE]
    return Draft(sender, SendMessage("", other.id, 0, TEXT, f"p{number}", True))


def deleted(server: Chatd) -> int:
    command = [_beside("chatctl"), "-c", str(server.config), "status", "--json"]
    status = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return int(status["totals"]["retention_deleted"])


def switch(server: Chatd, options: str) -> None:
    """Reload with these options of [retention]."""
    plain = server.config.read_text().partition("[retention]")[0]
    server.config.write_text(f"{plain}[retention]\n{options}\n")
    subprocess.run([_beside("chatctl"), "-c", str(server.config), "reload"], check=True, capture_output=True)


def measure(server: Chatd) -> tuple[Run, float]:
    """One run, and how many messages were deleted per second meanwhile."""
    before, begun = deleted(server), time.monotonic()
    one = run(server, "--rate", RATE, "--seconds", SECONDS)
    return one, (deleted(server) - before) / (time.monotonic() - begun)


def main(arguments: list[str]) -> None:
    build()
    with tempfile.TemporaryDirectory(prefix="retention-", dir=BUILD) as folder:
        file = Path(folder, "chatd.db")
        url = arguments[0] if arguments else f"sqlite:{file}"
        fill(url)
        full = file.stat().st_size if file.exists() else 0
        server = Chatd(1, store=url)
        try:
            off, on = [], []
            begun = time.monotonic()
            while (not on or on[-1][1] > 100) and len(on) < ROUNDS:
                switch(server, "")
                off.append(measure(server))
                switch(server, "private_days = 30\ngroup_days = 30")
                time.sleep(1)
                on.append(measure(server))
                print(f"p99 off {off[-1][0].p99_us / 1000:.1f} ms, on {on[-1][0].p99_us / 1000:.1f} ms;"
                      f" p50 {off[-1][0].p50_us / 1000:.1f}, {on[-1][0].p50_us / 1000:.1f} ms;"
                      f" {on[-1][1]:.0f} deleted/s", flush=True)  # fmt: skip
            print(f"deleted: {deleted(server)} in {time.monotonic() - begun:.0f} s")
            busy = [one for one, rate in on if rate > 100]
            p99 = [statistics.median(one.p99_us for one in runs) / 1000 for runs in ([one for one, _ in off], busy)]
            print(f"median p99: {p99[0]:.1f} ms without, {p99[1]:.1f} ms while messages are deleted")
            print(f"errors logged: {server.errors_logged()}; wrong: {[one.wrong for one, _ in (*off, *on)]}")
            if full:
                print(f"file: {full / 1e6:.0f} MB before, {file.stat().st_size / 1e6:.0f} MB after")
        finally:
            server.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
