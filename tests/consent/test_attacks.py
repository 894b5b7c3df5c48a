"""What users do not accept does not reach them, whatever wire it comes by and whichever worker it comes to; and each
attack finds a guard that is switched off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.consent import attacks
from tests.consent.attacks import ATTACKS, OPEN_REQUESTS, Attack, Places
from tests.consent.planted import BUGS
from tests.conversations.conftest import PACE_MS
from tests.harness.deadline import run
from tests.harness.person import Town
from tests.harness.switches import switchable, switched_off

FOUND_BY: dict[str, Attack] = {
    "blocks_are_forgotten": attacks.write_after_the_block,
    "the_version_stays": attacks.flood_during_the_block,
    "nobody_may_answer": attacks.write_as_a_stranger,
    "a_block_has_a_code_of_its_own": attacks.tell_a_block_from_a_setting,
    "every_request_is_told": attacks.ask_again_and_again,
    "withdrawn_requests_are_forgotten": attacks.ask_again_and_again,
    "any_number_of_requests": attacks.ask_with_many_accounts,
    "watchers_are_not_checked_again": attacks.watch_after_the_block,
    "members_are_always_seen": attacks.watch_after_a_choice,
    "read_marks_reach_everybody": attacks.mark_as_read_after_the_block,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    with switchable(
        tmp_path_factory.mktemp("consent"),
        "tests.consent.planted",
        limits={"friend_requests": OPEN_REQUESTS},
        listen={"chatserver": {"pace_ms": PACE_MS}},
    ) as daemon:
        town = Town(daemon)
        yield Places(town, town)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_attack_fails(places: Places, attack: Attack) -> None:
    run(attack(places))


def test_every_planted_bug_is_looked_for() -> None:
    assert set(FOUND_BY) == set(BUGS)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(places: Places, bug: str) -> None:
    with switched_off(bug, places.here.daemon), pytest.raises(AssertionError):
        run(FOUND_BY[bug](Places(places.here, places.there, wires=("mobile", "udp"))))
