"""`chatctl top`, on a real terminal and for scripts."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chatd.chatctl.show.rates import Sample, between
from chatd.chatctl.show.top_text import COLUMNS, KEYS, View, lines_of
from tests.chatctl.show.conftest import shown
from tests.harness.deadline import run
from tests.harness.person import Person, Town
from tests.harness.statuses import status, worker

pytestmark = pytest.mark.xdist_group("top")
"""They share a daemon."""

COLUMNS_WIDE, LINES_HIGH = 80, 24


class Terminal:
    """`chatctl top` on a pseudo-terminal of 80x24; what it shows is kept as an emulator would."""

    def __init__(self, town: Town, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES_HIGH, COLUMNS_WIDE, 0, 0))
        command = [sys.executable, "-m", "chatd.chatctl", "-c", str(town.daemon.config_file), "top", *arguments]
        env = {**town.daemon.env, "TERM": "xterm"}
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env, close_fds=True)
        os.close(slave)
        self.raw = ""

    def shows(self, pattern: str, limit_s: float = 15.0) -> str:
        """Wait until the pattern has been shown since the last key."""
        ends = time.monotonic() + limit_s
        while not re.search(pattern, text := self.text()):
            if time.monotonic() > ends:
                raise TimeoutError(f"not shown: {pattern}\n{text[-3000:]}")
            if select.select([self.master], [], [], 0.1)[0]:
                data = os.read(self.master, 65536).decode("utf-8", "replace")
                if "\x1b[6n" in data:  # where is the cursor?
                    os.write(self.master, b"\x1b[1;1R")
                self.raw += data
        return text

    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()][A-Z0-9]|\x1b[=>]", "", self.raw)

    def press(self, key: str) -> None:
        self.raw = ""
        os.write(self.master, key.encode())

    def ended(self) -> int:
        """Its exit code. What it still writes is read, or it could not end."""
        ends = time.monotonic() + 10
        while self.process.poll() is None and time.monotonic() < ends:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    os.read(self.master, 65536)
                except OSError:
                    break
        return self.process.wait(10)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self.master)


@pytest.fixture
def terminal(town: Town) -> Iterator[Terminal]:
    made = Terminal(town, "--interval", "0.2")
    yield made
    made.close()


def test_it_shows_workers_and_obeys_keys(terminal: Terminal) -> None:
    terminal.shows(r"2 of 2 workers ready")
    terminal.shows(r"q quit  s/S sort")
    terminal.press("s")
    terminal.shows("▲")  # the mark has moved
    terminal.press("r")
    terminal.shows("▼")
    terminal.press("p")
    terminal.shows("PAUSED")
    terminal.press("?")
    terminal.shows("99th percentile")
    terminal.press("x")
    terminal.shows("workers ready")
    terminal.press("q")
    assert terminal.ended() == 0


def test_ctrl_c_ends_it_and_the_terminal_is_given_back(terminal: Terminal) -> None:
    terminal.shows("workers ready")
    terminal.press("\x03")
    assert terminal.ended() == 0


def test_once_measures_rates_for_scripts(town: Town) -> None:
    async def story() -> dict[str, Any]:
        alice = Person(town, await town.newcomer("alice"), "mobile")
        await alice.arrive()
        busy = True

        async def talk() -> None:
            while busy:
                await alice.say(alice.name, "text")

        talking = asyncio.create_task(talk())
        found = await asyncio.to_thread(shown, town, "top", "--once", "--interval", "1")
        busy = False
        await talking
        await alice.leave()
        return found

    found = run(story())
    assert found["in_per_s"] > 1
    assert found["sessions"] >= 1
    assert len(found["workers"]) == 2
    assert sum(one["in_per_s"] for one in found["workers"]) == pytest.approx(found["in_per_s"], abs=0.2)


def test_once_prints_text_that_fits(town: Town) -> None:
    done = town.daemon.ctl("top", "--once", "--interval", "0.1")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= COLUMNS_WIDE
    assert "SLO" in done.stdout


def test_without_a_terminal_it_does_not_take_the_screen(town: Town) -> None:
    done = town.daemon.ctl("top", "--interval", "0.1")
    assert "\x1b" not in done.stdout
    assert json.loads(town.daemon.ctl("top", "--json", "--interval", "0.1").stdout)["v"] == 1


# ---------------------------------------------------------------- the lines


def test_it_fits_into_a_small_terminal_whatever_happens() -> None:
    workers = [
        worker(
            slot=slot, pid=4_194_304, state="draining", connections=65_000, sessions=65_000, loop_lag_us=30_000_000,
            commit_p99_us=2_000_000, queue_bytes=999_000_000, cpu_percent=100.0,
        )
        for slot in range(64)
    ]  # fmt: skip
    reasons = [*status().reasons]
    server = status(workers=workers, version="1.2.3rc4", workers_wanted=64, workers_ready=64, reasons=reasons)
    rates = between(None, Sample(0.0, server))
    rates.problems.extend(["the store does not answer: " + "because " * 40] * 9)
    for columns, lines in ((80, 24), (120, 50), (40, 10), (80, 5)):
        for sort in COLUMNS:
            found = lines_of(rates, View(sort=sort, columns=columns, lines=lines))
            assert len(found) == lines
            assert max(map(len, found)) <= columns
            assert found[-1].startswith(KEYS[:20])
    assert any("more workers" in line for line in lines_of(rates, View()))


def test_rates_come_from_counters_and_survive_a_replaced_worker() -> None:
    before = Sample(10.0, status(workers=[worker(pid=1, messages_in=100), worker(pid=2, slot=1, messages_in=50)]))
    now = Sample(12.0, status(workers=[worker(pid=1, messages_in=140), worker(pid=3, slot=1, messages_in=6)]))
    rates = between(before, now)
    assert [one.in_per_s for one in rates.workers] == [20.0, 3.0]
    assert rates.in_per_s == 23.0


def test_rows_are_sorted_by_the_chosen_column() -> None:
    workers = [worker(slot=slot, pid=slot + 1, sessions=sessions) for slot, sessions in enumerate((5, 9, 7))]
    rates = between(None, Sample(0.0, status(workers=workers)))
    found = lines_of(rates, View(sort="sessions", descending=True))
    rows = [line for line in found if re.match(r" +\d+ +\d+ +ready", line)]
    assert [int(line.split()[0]) for line in rows] == [1, 2, 0]
