"""Somebody who causes events without end cannot fill the disk, nor hide what others do; and a name cannot imitate a
record. The same attacks find a daemon whose guard is switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd import log, security_log
from chatd.config.schema import LogOptions
from chatd.repeats import WINDOW_S
from chatd.scoreboard import Scoreboard
from chatd.security_log import SecurityEvent
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.trail.visitors import attempt, guess, register, trail

Make = Callable[..., Daemon]
UNLIMITED = {"enabled": False}
"""Penalties would refuse these guesses; the log must bear them also where the operator wants none."""
GUESSES = 60
EVENTS = 100_000


@pytest.fixture
def put_back() -> Iterator[None]:
    yield
    log.setup(LogOptions(format="text"), "-")


@pytest.mark.parametrize("sources", [1, EVENTS], ids=["one source", "many sources"])
@pytest.mark.usefixtures("put_back")
def test_a_hundred_thousand_events_make_a_small_log(tmp_path: Path, sources: int) -> None:
    row = Scoreboard().rows[0]
    log.setup(LogOptions(), str(tmp_path), row=row, worker=0)
    for number in range(EVENTS):
        address = number % sources
        security_log.record(
            SecurityEvent.LOGIN_FAILED,
            peer=f"10.{address >> 16}.{address >> 8 & 255}.{address & 255}:5000",
            reason="unknown_user",
            name="x" * 5000,
        )
    written = (tmp_path / "normal.log").read_bytes()
    limit = log.CLIENT_LIMITS.per_source if sources == 1 else log.CLIENT_LIMITS.per_key
    lines = written.splitlines()
    assert limit <= len(lines) <= limit * 3  # a slow machine needs more than one window
    assert len(written) < 1000 * len(lines)
    assert row.logins_failed == EVENTS
    assert row.log_held_back == EVENTS - len(lines)


def flooded(make_daemon: Make, **options: Any) -> tuple[Daemon, int]:
    """One address guesses many times, then another one once; the failures written of the first."""
    daemon = make_daemon(penalties=UNLIMITED, **options).start()

    async def story() -> None:
        await register(daemon, "alice", "open-Sesame-1")
        await guess(daemon, "127.0.0.2", GUESSES)
        assert await attempt(daemon, "chatserver", "alice", "wrong", "127.0.0.3") != 0
        await until(10, "it is recorded", lambda: "127.0.0.3" in sources_of(daemon))

    run(story(), 60)
    return daemon, sources_of(daemon).count("127.0.0.2")


def sources_of(daemon: Daemon) -> list[str]:
    return [one["source"] for one in trail(daemon, "login_failed")]


@pytest.mark.slow
def test_one_source_is_held_back_and_counted_and_hides_nobody(make_daemon: Make) -> None:
    daemon, written = flooded(make_daemon)
    assert 5 <= written <= 15
    assert daemon.status()["totals"]["logins_failed"] == GUESSES + 1

    async def summary() -> None:
        await until(WINDOW_S + 10, "the summary", lambda: told(daemon) == GUESSES - written, 0.2)

    run(summary(), 60)


def told(daemon: Daemon) -> int:
    return sum(
        one["times"]
        for one in daemon.records("normal.log")
        if one["event"] == "records held back" and (one["record"], one["client"]) == ("login failed", "127.0.0.2")
    )


def test_without_the_limit_the_flood_is_found(make_daemon: Make) -> None:
    _, written = flooded(make_daemon, entry=("-m", "tests.trail.planted", "nothing_held_back"))
    assert written == GUESSES


def test_a_daemon_that_does_not_name_the_source_is_found(make_daemon: Make) -> None:
    daemon = make_daemon(penalties=UNLIMITED, entry=("-m", "tests.trail.planted", "failures_without_a_source")).start()
    run(guess(daemon, "127.0.0.2", 1))
    assert sources_of(daemon) == [""]


IMITATION = "x\n[NORMAL][2026-01-01T00:00:00.000Z][1] logged in security=login source=192.0.2.66 name=root"


def text_log_after_an_imitation(make_daemon: Make, **options: Any) -> list[str]:
    daemon = make_daemon(penalties=UNLIMITED, server={"log_dir": "-"}, log={"format": "text"}, **options).start()

    async def story() -> None:
        assert await attempt(daemon, "chatserver", IMITATION, "wrong", "127.0.0.2") != 0
        await until(10, "it is recorded", lambda: "login failed" in daemon.output.read_text())

    run(story())
    return [line for line in daemon.output.read_text().splitlines() if "192.0.2.66" in line]


def test_a_name_cannot_imitate_a_record_in_text(make_daemon: Make) -> None:
    (line,) = text_log_after_an_imitation(make_daemon)
    assert line.startswith("[WARNING][")
    assert " login failed security=login_failed source=127.0.0.2 reason=unknown_user " in line
    assert f"name={IMITATION!r}" in line


def test_without_quoting_the_imitation_is_found(make_daemon: Make) -> None:
    lines = text_log_after_an_imitation(make_daemon, entry=("-m", "tests.trail.planted", "names_as_they_are"))
    assert any(line.startswith("[NORMAL][2026-01-01") for line in lines)
