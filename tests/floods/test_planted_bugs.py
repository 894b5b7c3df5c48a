"""The attacks find something in a daemon whose guard is switched off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from tests.floods import attacks
from tests.floods.attacks import QUOTAS, SHIPPED
from tests.floods.flooders import enlarge
from tests.floods.planted import BUGS
from tests.floods.test_floods import store
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.person import Town

Attack = Callable[[Daemon], Awaitable[None]]


def reach_thousands(daemon: Daemon) -> Awaitable[None]:
    return attacks.reach_thousands(Town(daemon), partial(enlarge, store(daemon)), ("mobileimsdk",))


def write_to_a_group_that_grows(daemon: Daemon) -> Awaitable[None]:
    return attacks.write_to_a_group_that_grows(Town(daemon), lambda group: enlarge(store(daemon), group, 4900))


def fill_a_mailbox(daemon: Daemon) -> Awaitable[None]:
    return attacks.fill_a_mailbox([Town(daemon)])


def fill_a_mailbox_together(daemon: Daemon) -> Awaitable[None]:
    return attacks.fill_a_mailbox_together(Town(daemon), 160, 2)


def send_as_fast_as_possible(daemon: Daemon) -> Awaitable[None]:
    return attacks.send_as_fast_as_possible(Town(daemon), ("mobileimsdk",))


def come_back_for_more(daemon: Daemon) -> Awaitable[None]:
    return attacks.come_back_for_more(Town(daemon))


def ask_everybody_to_be_friends(daemon: Daemon) -> Awaitable[None]:
    return attacks.ask_everybody_to_be_friends([Town(daemon)])


RATES: dict[str, Any] = {"limits": SHIPPED}
TWO: dict[str, Any] = {"workers": 2, "limits": QUOTAS}
FOUND_BY: dict[str, tuple[Attack, dict[str, Any]]] = {
    "nothing_is_counted": (fill_a_mailbox, TWO),
    "a_mailbox_is_never_full": (fill_a_mailbox_together, {**TWO, "limits": {**QUOTAS, "waiting": 160}}),
    "nothing_is_kept_for_friends": (fill_a_mailbox_together, {**TWO, "limits": {**QUOTAS, "waiting": 160}}),
    "every_worker_has_a_quota": (fill_a_mailbox, TWO),
    "a_group_costs_one": (reach_thousands, RATES),
    "a_group_keeps_its_size": (write_to_a_group_that_grows, RATES),
    "commands_are_free": (send_as_fast_as_possible, RATES),
    "every_session_has_an_allowance": (come_back_for_more, RATES),
    "nobody_is_told_of_changes": (ask_everybody_to_be_friends, {**TWO, **RATES}),
    "changes_are_free": (ask_everybody_to_be_friends, RATES),
}


def test_every_planted_bug_is_looked_for() -> None:
    assert set(FOUND_BY) == set(BUGS)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(make_daemon: Callable[..., Daemon], bug: str) -> None:
    attack, options = FOUND_BY[bug]
    daemon = make_daemon(entry=("-m", "tests.floods.planted", bug), **options).start()
    with pytest.raises(AssertionError):
        run(attack(daemon), 60)
