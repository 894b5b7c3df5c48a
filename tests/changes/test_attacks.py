"""Whoever wants to change what others wrote, or to read what was recalled: against a daemon as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.changes.attacks import ATTACKS, LATE_OPTIONS, OPTIONS, Attack, edit_when_it_is_too_late
from tests.conversations.asking import Transport
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.person import Town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    daemon = Daemon(tmp_path_factory.mktemp("attacked"), **OPTIONS).start()
    yield Town(daemon)
    assert daemon.discard() == []


@pytest.mark.parametrize("transport", ["mobileimsdk", "chatserver"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_fails(town: Town, attack: Attack, transport: Transport) -> None:
    run(attack(town, transport), 60)


def test_after_the_limit_nothing_changes(make_daemon: Callable[..., Daemon]) -> None:
    town = Town(make_daemon(**LATE_OPTIONS).start())
    transports: tuple[Transport, ...] = ("mobileimsdk", "chatserver")
    for transport in transports:
        run(edit_when_it_is_too_late(town, transport))
