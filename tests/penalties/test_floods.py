"""Logins that nobody waits for any more are not hashed: a flood of them delays nobody."""

from __future__ import annotations

from collections.abc import Callable

from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.penalties.attacks import COSTLY, LOGINS, OPTIONS, PASSWORD, PATIENT, abandoned_logins
from tests.trail.visitors import register

MANY_FREE = {**OPTIONS, "failures": 1000, "account_failures": 1000}
Make = Callable[..., Daemon]


def test_abandoned_logins_delay_the_next_one_by_less_than_their_hashes_would_take(make_daemon: Make) -> None:
    daemon = make_daemon(accounts=COSTLY, timeouts=PATIENT, penalties=MANY_FREE).start()

    async def story() -> None:
        assert await register(daemon, "alice", PASSWORD) == 0
        hashes_s, delay_s = await abandoned_logins(daemon)
        assert delay_s < hashes_s / 5, f"{LOGINS} hashes take {hashes_s:.2f} s, it took {delay_s:.2f} s"

    run(story(), 60)


def test_a_daemon_that_hashes_them_is_noticed(make_daemon: Make) -> None:
    daemon = make_daemon(
        accounts=COSTLY,
        timeouts=PATIENT,
        penalties=MANY_FREE,
        entry=("-m", "tests.penalties.planted", "hashes_for_those_who_have_gone"),
    ).start()

    async def story() -> None:
        assert await register(daemon, "alice", PASSWORD) == 0
        hashes_s, delay_s = await abandoned_logins(daemon)
        assert delay_s > hashes_s / 5, f"{delay_s:.2f} s of {hashes_s:.2f} s"

    run(story(), 60)
