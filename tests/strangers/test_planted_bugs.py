"""The attacks find something in a daemon whose guard is switched off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.link import ConnectionGone
from tests.strangers import attacks
from tests.strangers.attacks import Attack
from tests.strangers.planted import BUGS
from tests.strangers.test_attacks import FEW_DESCRIPTORS, ROOM, SHARE

LARGE = {"listen": {"mobileimsdk": {"max_frame_bytes": 1024 * 1024}}}
FOUND_BY: dict[str, tuple[Attack, dict[str, Any]]] = {
    "nobody_makes_room": (attacks.hold_every_connection, {"limits": ROOM}),
    "the_newcomer_makes_room": (attacks.hold_every_connection, {"limits": ROOM}),
    "no_share_of_a_source": (attacks.take_more_than_a_share, {"limits": SHARE}),
    "large_frames_before_login": (attacks.send_much_before_the_login, LARGE),
    "any_datagram_counts": (attacks.forge_datagrams, {}),
    "a_login_needs_no_token": (attacks.forge_datagrams, {}),
    "any_page_may_connect": (attacks.connect_from_another_site, {}),
}


def test_every_planted_bug_is_looked_for() -> None:
    assert set(FOUND_BY) == set(BUGS)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(make_daemon: Callable[..., Daemon], bug: str) -> None:
    attack, options = FOUND_BY[bug]
    daemon = make_daemon(entry=("-m", "tests.strangers.planted", bug), **options).start(
        prefix=FEW_DESCRIPTORS if "room" in bug else ()
    )
    with pytest.raises((AssertionError, TimeoutError, ConnectionGone)):
        run(attack(daemon))
