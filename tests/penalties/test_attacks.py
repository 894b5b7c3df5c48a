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
    ELSEWHERE,
    OPTIONS,
    OWNER,
    PASSWORD,
    guess_from_where_the_old_password_was_used,
    many_addresses,
    one_address,
    prepared,
    register_from_a_site,
    tried,
)
from tests.trail.visitors import WIRES, register, trail

Make = Callable[..., Daemon]
WORKERS = 2
FREE = int(OPTIONS["failures"]) + 1
"""The guess that begins a penalty is looked at too."""


@pytest.fixture(scope="module")
def shared(share_daemon: Make) -> Daemon:
    return share_daemon(workers=WORKERS, penalties={**OPTIONS, "registrations": 5})


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("exists", [True, False], ids=["an account", "no account"])
def test_one_address_has_few_guesses_and_others_are_not_concerned(shared: Daemon, wire: str, exists: bool) -> None:
    number = 10 * WIRES.index(wire) + exists
    attacker, name = f"127.4.{number}.2", f"alice{number}"

    async def story() -> None:
        await prepared(shared, name)
        looked_at = await one_address(shared, wire, 60, name if exists else f"nobody{number}", attacker)
        assert FREE <= looked_at <= FREE + WORKERS, "each worker may have been hashing one more"
        assert await tried(shared, wire, name, PASSWORD, attacker) in (ErrorCode.TOO_MANY_ATTEMPTS, -1)
        assert await tried(shared, "chatserver", name, PASSWORD, ELSEWHERE) == 0
        if wire == "mobileimsdk-udp":  # the source of a datagram may be forged
            assert await tried(shared, "chatserver", name, PASSWORD, attacker) == 0
        assert attacker in {begun["subject"] for begun in trail(shared, "penalty_begun")}

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


def test_who_had_the_old_password_is_a_stranger_after_the_change(shared: Daemon) -> None:
    """The user is known where the password was changed."""
    codes = run(guess_from_where_the_old_password_was_used(shared, "robbed"), 60)
    assert codes == (ErrorCode.TOO_MANY_ATTEMPTS, 0)


def test_a_penalty_survives_the_death_of_every_worker(shared: Daemon) -> None:
    daemon, attacker = shared, "127.4.97.2"

    async def story() -> None:
        await prepared(daemon, "survivor")
        await one_address(daemon, "chatserver", 20, "survivor", attacker)
        before = daemon.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await until(30, "others have come", lambda: daemon.all_ready() and not set(before) & set(daemon.workers()))
        assert await tried(daemon, "chatserver", "survivor", PASSWORD, attacker) == ErrorCode.TOO_MANY_ATTEMPTS

    daemon.expect_error("worker died")
    run(story(), 60)


def test_operators_see_penalties_and_clear_them(shared: Daemon) -> None:
    daemon, attacker = shared, "127.4.98.2"

    async def story() -> None:
        await prepared(daemon, "operated")
        await one_address(daemon, "chatserver", 20, "operated", attacker)
        listed = json.loads((await asyncio.to_thread(daemon.ctl, "penalties", "--json")).stdout)["penalties"]
        (source,) = [one for one in listed if one["subject"] == attacker]
        assert source["kind"] == "source"
        assert 50 < source["remaining_s"] <= 240
        assert FREE <= source["offences"] <= FREE + WORKERS
        assert attacker in (await asyncio.to_thread(daemon.ctl, "penalties")).stdout
        cleared = await asyncio.to_thread(daemon.ctl, "penalties", "clear", attacker)
        assert (cleared.returncode, cleared.stdout) == (0, "records removed: 1\n")
        assert await tried(daemon, "chatserver", "operated", PASSWORD, attacker) == 0
        assert (await asyncio.to_thread(daemon.ctl, "penalties", "clear", "Operated")).stdout == "records removed: 1\n"
        await asyncio.to_thread(daemon.ctl, "penalties", "clear", "--all")
        assert "no failures" in (await asyncio.to_thread(daemon.ctl, "penalties")).stdout
        assert trail(daemon, "penalties_cleared")

    run(story(), 60)


def test_registrations_of_one_source_are_few(shared: Daemon) -> None:
    async def story() -> None:
        codes = [await register(shared, f"user{number}x", PASSWORD, "127.4.99.2") for number in range(12)]
        assert codes == [0] * 5 + [1] * 7
        assert await register(shared, "somebody", PASSWORD, "127.4.99.3") == 0

    run(story(), 60)


def test_registrations_of_one_ipv6_site_are_few(make_daemon: Make) -> None:
    daemon = make_daemon(
        workers=WORKERS,
        penalties={**OPTIONS, "registrations": 1, "allow": []},
        listen={"chatserver": {"proxy_from": ["127.0.0.1"]}},
    ).start()
    assert run(register_from_a_site(daemon, 20), 60) == 8
