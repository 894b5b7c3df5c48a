"""Guesses and floods of logins against a real daemon with several workers: few guesses are looked at, and the rightful
user gets in."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.penalties.attacks import (
    ATTACKER,
    ELSEWHERE,
    OPTIONS,
    OWNER,
    PASSWORD,
    many_addresses,
    one_address,
    prepared,
    register_from_a_site,
    tried,
)
from tests.trail.visitors import register, trail

Make = Callable[..., Daemon]
WORKERS = 2
FREE = int(OPTIONS["failures"]) + 1
"""The guess that begins a penalty is looked at too."""


@pytest.mark.parametrize("wire", ["chatserver", "mobileimsdk", "mobileimsdk-ws", "mobileimsdk-udp"])
@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_one_address_has_few_guesses_and_others_are_not_concerned(make_daemon: Make, wire: str, name: str) -> None:
    daemon = make_daemon(workers=WORKERS, penalties=OPTIONS).start()

    async def story() -> None:
        await prepared(daemon)
        looked_at = await one_address(daemon, wire, 60, name)
        assert FREE <= looked_at <= FREE + WORKERS, "each worker may have been hashing one more"
        assert await tried(daemon, wire, "alice", PASSWORD, ATTACKER) in (ErrorCode.TOO_MANY_ATTEMPTS, -1)
        assert await tried(daemon, "chatserver", "alice", PASSWORD, ELSEWHERE) == 0
        if wire == "mobileimsdk-udp":  # the source of a datagram may be forged
            assert await tried(daemon, "chatserver", "alice", PASSWORD, ATTACKER) == 0
        begun = trail(daemon, "penalty_begun")[0]
        assert begun["subject"] == ATTACKER

    run(story(), 60)


def test_no_record_of_a_forged_penalty_has_a_source_that_may_be_blocked(make_daemon: Make) -> None:
    """Neither of its beginning nor of its end: whoever blocks addresses by these records would block the victim."""
    daemon = make_daemon(penalties={**OPTIONS, "failures": 2, "account_failures": 2, "first_s": 1, "max_s": 1}).start()

    async def story() -> None:
        await prepared(daemon)
        await one_address(daemon, "mobileimsdk-udp", 20)
        await until(10, "the ends are recorded", lambda: len(trail(daemon, "penalty_ended")) >= 2)
        records = trail(daemon, "penalty_begun", "penalty_ended")
        assert {one["kind"] for one in records} == {"udp_source", "udp_account"}
        assert all(one["forgeable"] is True for one in records), records
        await one_address(daemon, "chatserver", 20)
        begun = [one for one in trail(daemon, "penalty_begun") if one["kind"] == "source"]
        assert begun
        assert "forgeable" not in begun[0]

    run(story(), 60)


def test_many_addresses_have_few_guesses_at_one_account_and_its_user_gets_in(make_daemon: Make) -> None:
    """From where the user logged in before, also after a restart; from elsewhere when the penalty is over."""
    daemon = make_daemon(workers=WORKERS, penalties={**OPTIONS, "first_s": 3, "max_s": 3}).start()

    async def story() -> None:
        await prepared(daemon)
        await asyncio.to_thread(daemon.stop)
        await asyncio.to_thread(daemon.start)
        looked_at = await many_addresses(daemon, "chatserver", 60)
        free = int(OPTIONS["account_failures"]) + 1
        assert free <= looked_at <= free + WORKERS
        assert await tried(daemon, "chatserver", "alice", PASSWORD, OWNER) == 0
        assert await tried(daemon, "chatserver", "alice", PASSWORD, ELSEWHERE) == ErrorCode.TOO_MANY_ATTEMPTS

        await until(10, "the end is recorded", lambda: trail(daemon, "penalty_ended"))
        assert await tried(daemon, "chatserver", "alice", PASSWORD, ELSEWHERE) == 0

    run(story(), 60)


def test_a_penalty_survives_the_death_of_every_worker(make_daemon: Make) -> None:
    daemon = make_daemon(workers=WORKERS, penalties=OPTIONS).start()

    async def story() -> None:
        await prepared(daemon)
        await one_address(daemon, "chatserver", 20)
        before = daemon.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await until(30, "others have come", lambda: daemon.all_ready() and not set(before) & set(daemon.workers()))
        assert await tried(daemon, "chatserver", "alice", PASSWORD, ATTACKER) == ErrorCode.TOO_MANY_ATTEMPTS

    daemon.expect_error("worker died")
    run(story(), 60)


def test_operators_see_penalties_and_clear_them(make_daemon: Make) -> None:
    daemon = make_daemon(workers=WORKERS, penalties=OPTIONS).start()

    async def story() -> None:
        await prepared(daemon)
        await one_address(daemon, "chatserver", 20)
        listed = json.loads((await asyncio.to_thread(daemon.ctl, "penalties", "--json")).stdout)["penalties"]
        (source,) = [one for one in listed if one["kind"] == "source"]
        assert source["subject"] == ATTACKER
        assert 50 < source["remaining_s"] <= 240
        assert FREE <= source["offences"] <= FREE + WORKERS
        assert ATTACKER in (await asyncio.to_thread(daemon.ctl, "penalties")).stdout
        cleared = await asyncio.to_thread(daemon.ctl, "penalties", "clear", ATTACKER)
        assert (cleared.returncode, cleared.stdout) == (0, "records removed: 1\n")
        assert await tried(daemon, "chatserver", "alice", PASSWORD, ATTACKER) == 0
        assert (await asyncio.to_thread(daemon.ctl, "penalties", "clear", "Alice")).stdout == "records removed: 1\n"
        await asyncio.to_thread(daemon.ctl, "penalties", "clear", "--all")
        assert "no failures" in (await asyncio.to_thread(daemon.ctl, "penalties")).stdout
        assert trail(daemon, "penalties_cleared")

    run(story(), 60)


def test_registrations_of_one_source_are_few(make_daemon: Make) -> None:
    daemon = make_daemon(workers=WORKERS, penalties={**OPTIONS, "registrations": 5}).start()

    async def story() -> None:
        codes = [await register(daemon, f"user{number}x", PASSWORD, ATTACKER) for number in range(12)]
        assert codes == [0] * 5 + [1] * 7
        assert await register(daemon, "somebody", PASSWORD, ELSEWHERE) == 0

    run(story(), 60)


def test_registrations_of_one_ipv6_site_are_few(make_daemon: Make) -> None:
    daemon = make_daemon(
        workers=WORKERS,
        penalties={**OPTIONS, "registrations": 1, "allow": []},
        listen={"chatserver": {"proxy_from": ["127.0.0.1"]}},
    ).start()
    assert run(register_from_a_site(daemon, 20), 60) == 8
