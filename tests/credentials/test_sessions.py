"""A session ends within a second when the credentials of its account change, also when nobody is told of the change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatd.errors import ErrorCode
from tests.credentials import attacks
from tests.credentials.planted import BUGS
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.link import ConnectionGone
from tests.harness.person import Town

Make = Callable[..., Daemon]
SLOW_HASHING = ("-m", "tests.credentials.planted", "slow_hashing")
FOUND_BY = {
    "nobody_is_told": attacks.keep_a_session_after_the_password_was_changed,
    "the_store_is_not_looked_at": attacks.keep_a_session_of_a_locked_account,
    "an_invite_is_not_counted": attacks.share_an_invite,
    "own_session_ends_too": attacks.keep_a_session_after_the_password_was_changed,
    "versions_are_not_compared": attacks.log_in_during_the_change,
    "requests_are_recognised_by_their_text": attacks.guess_a_password_from_a_copy_of_the_store,
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """For the tests that make accounts of their own and change nothing else."""
    one = Daemon(tmp_path_factory.mktemp("sessions"), workers=2)
    try:
        yield one.start()
    finally:
        complaints = one.discard()
    assert complaints == []


def test_a_changed_password_ends_the_other_sessions(daemon: Daemon) -> None:
    run(attacks.keep_a_session_after_the_password_was_changed(daemon))


def test_an_operators_change_ends_all_sessions_though_the_server_cannot_be_asked(daemon: Daemon) -> None:
    run(attacks.keep_a_session_of_a_locked_account(daemon))


def test_a_login_that_was_verified_with_the_old_password_is_refused(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(entry=SLOW_HASHING, env={"GATE": str(tmp_path / "gate")}).start()
    run(attacks.log_in_during_the_change(daemon))


def test_the_store_keeps_nothing_quick_to_guess_a_password_from(make_daemon: Make) -> None:
    daemon = make_daemon(accounts={"min_password_chars": 8}).start()
    run(attacks.guess_a_password_from_a_copy_of_the_store(daemon))


def test_every_planted_bug_is_looked_for() -> None:
    assert set(FOUND_BY) == set(BUGS)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(make_daemon: Make, tmp_path: Path, bug: str) -> None:
    daemon = make_daemon(
        workers=2,
        entry=("-m", "tests.credentials.planted", bug),
        env={"GATE": str(tmp_path / "gate")},
        accounts={"registration": "invite" if "invite" in bug else "open", "min_password_chars": 8},
    ).start()
    with pytest.raises((AssertionError, TimeoutError, ConnectionGone)):
        run(FOUND_BY[bug](daemon))


def test_a_locked_account_is_told_so_only_after_the_right_password(daemon: Daemon) -> None:
    async def story() -> None:
        town = Town(daemon)
        name = await town.newcomer("alice")
        peers = await attacks.all_sessions(town, name)
        code, said = await attacks.ctl(daemon, "user", "lock", name, "--reason", "spam")
        assert (code, said.splitlines()[0].startswith("sessions ended: 2")) == (0, True), said
        for peer in peers:
            await peer.end()
        assert await attacks.is_refused(town, name, town.secret) == ErrorCode.ACCOUNT_LOCKED
        assert await attacks.is_refused(town, name, "wrong") == ErrorCode.BAD_CREDENTIALS
        _, shown = await attacks.ctl(daemon, "user", "show", name)
        assert "spam" in shown
        assert (await attacks.ctl(daemon, "user", "unlock", name))[0] == 0
        await town.on_mobile(name)

    run(story())


def test_the_sessions_of_an_account_are_shown_with_their_workers(daemon: Daemon) -> None:
    async def story() -> None:
        town = Town(daemon)
        name = await town.newcomer("alice")
        peers = await attacks.all_sessions(town, name)
        shown = await asyncio.to_thread(daemon.ctl, "user", "sessions", name, "--json")
        assert shown.returncode == 0, shown.stderr
        found = json.loads(shown.stdout)["sessions"]
        assert sorted(one["wire"] for one in found) == ["chatserver", "mobileimsdk"]
        assert {one["worker"] for one in found} <= {0, 1}
        assert all(one["peer"].startswith("127.0.0.1:") and one["host"] for one in found)
        for peer in peers:
            peer.close()

    run(story())
