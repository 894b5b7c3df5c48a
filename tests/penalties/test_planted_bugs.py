"""The attacks find a daemon whose guard is switched off."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.penalties.attacks import (
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

Make = Callable[..., Daemon]
WORKERS = 2
FREE = int(OPTIONS["failures"]) + 1
SLOW_HASH = {"argon2_memory_kib": 65536, "argon2_passes": 2}
"""Of many guesses at once, none has failed when the last one begins, also on a busy machine."""


def bugged(make_daemon: Make, bug: str, **options: object) -> Daemon:
    return make_daemon(workers=WORKERS, entry=("-m", "tests.penalties.planted", bug), **options).start()


@pytest.mark.parametrize("bug", ["nothing_is_counted", "each_worker_for_itself", "checked_only_at_the_beginning"])
def test_more_guesses_of_one_address_are_noticed(make_daemon: Make, bug: str) -> None:
    slow = {"accounts": SLOW_HASH} if bug == "checked_only_at_the_beginning" else {}
    daemon = bugged(make_daemon, bug, penalties=OPTIONS, **slow)

    async def story() -> None:
        await prepared(daemon)
        assert await one_address(daemon, "chatserver", 60) > FREE + WORKERS

    run(story(), 60)


def test_a_user_who_is_kept_out_is_noticed(make_daemon: Make) -> None:
    daemon = bugged(make_daemon, "everybody_is_a_stranger", penalties=OPTIONS)

    async def story() -> None:
        await prepared(daemon)
        await many_addresses(daemon, "chatserver", 60)
        assert await tried(daemon, "chatserver", "alice", PASSWORD, OWNER) == ErrorCode.TOO_MANY_ATTEMPTS

    run(story(), 60)


def test_a_thief_who_stays_known_is_noticed(make_daemon: Make) -> None:
    daemon = bugged(make_daemon, "sources_are_kept", penalties=OPTIONS)
    codes = run(guess_from_where_the_old_password_was_used(daemon, "robbed"), 60)
    assert codes == (ErrorCode.BAD_CREDENTIALS, 0)


def test_more_accounts_of_one_site_are_noticed(make_daemon: Make) -> None:
    options = {**OPTIONS, "registrations": 1, "allow": []}
    listen = {"chatserver": {"proxy_from": ["127.0.0.1"]}}
    daemon = bugged(make_daemon, "sites_do_not_count", penalties=options, listen=listen)
    assert run(register_from_a_site(daemon, 12), 60) > 8
