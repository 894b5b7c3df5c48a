"""What the owner and the admins of a group have decided holds, whatever wire somebody comes by and whichever worker
they come to; and each attack finds a guard that is switched off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.consent.attacks import Places
from tests.groups import attacks
from tests.groups.attacks import ATTACKS, Attack
from tests.groups.planted import BUGS
from tests.harness.deadline import run
from tests.harness.person import Town
from tests.harness.switches import switchable, switched_off

FOUND_BY: dict[str, Attack] = {
    "everybody_joins": attacks.join_by_number,
    "every_request_is_told": attacks.ask_again_and_again,
    "kicks_are_forgotten": attacks.come_back_after_a_kick,
    "any_number_of_invitations": attacks.spam_with_invitations,
    "every_member_decides": attacks.decide_as_a_plain_member,
    "requests_belong_to_no_group": attacks.answer_requests_of_other_groups,
    "strangers_look_in": attacks.look_into_a_group,
    "the_past_is_open": attacks.read_the_past,
    "mutes_are_not_looked_at": attacks.write_while_muted,
    "a_mute_ends_with_the_membership": attacks.write_while_muted,
    "everybody_announces": attacks.write_in_an_announcements_group,
    "nobody_hears_of_the_end": attacks.go_on_after_the_end,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    with switchable(
        tmp_path_factory.mktemp("groups"),
        "tests.groups.planted",
        listen={"chatserver": {"pace_ms": 1}},
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
