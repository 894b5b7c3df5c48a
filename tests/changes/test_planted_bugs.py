"""The attacks find something in a daemon whose guard is switched off, and the judge in one that makes a mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.changes import attacks
from tests.changes.attacks import LATE_OPTIONS, OPTIONS, Attack
from tests.changes.ordeal import RESEND, talk
from tests.changes.planted import ALSO_FOUND_BY_THE_JUDGE, GUARDS, MISTAKES
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.person import Town
from tests.harness.switches import switchable, switched_off, with_switches

Make = Callable[..., Daemon]
PLANTED = "tests.changes.planted"
FOUND_BY: dict[str, Attack] = {
    "anybody_edits": attacks.edit_what_somebody_else_wrote,
    "no_limit_of_time": attacks.edit_when_it_is_too_late,
    "outsiders_change": attacks.edit_in_a_group_one_has_left,
    "every_member_removes": attacks.remove_as_a_plain_member,
    "the_blocked_edit": attacks.edit_after_being_blocked,
    "the_muted_edit": attacks.edit_while_muted,
    "edits_without_a_limit": attacks.flood_with_edits,
    "forgets_the_first_text": attacks.change_what_was_sent_by_repeating_it,
    "leaves_the_text_in_flight": attacks.read_what_was_recalled,
}
SIGNS: dict[str, set[str]] = {
    "leaves_the_text_in_flight": {"ghost", "outdated"},
    "numbers_an_edited_message_again": {"divergent"},
    "versions_go_back": {"outdated"},
    "anybody_edits": {"unauthorised"},
}
"""What a verdict on each must contain at least one of."""


def test_every_planted_bug_is_looked_for() -> None:
    assert (set(FOUND_BY), set(SIGNS)) == (set(GUARDS), {*MISTAKES, *ALSO_FOUND_BY_THE_JUDGE})


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with switchable(tmp_path_factory.mktemp("guards"), PLANTED, **OPTIONS) as made:
        yield made


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with switchable(tmp_path_factory.mktemp("late"), PLANTED, workers=1, **LATE_OPTIONS) as made:
        yield made


@pytest.mark.parametrize("bug", GUARDS)
def test_an_attack_finds_a_guard_that_is_off(request: pytest.FixtureRequest, bug: str) -> None:
    attack = FOUND_BY[bug]
    attacked: Daemon = request.getfixturevalue("late" if attack is attacks.edit_when_it_is_too_late else "daemon")
    with switched_off(bug, attacked), pytest.raises(AssertionError):
        run(attack(Town(attacked), "mobileimsdk"), 60)


@pytest.mark.parametrize("bug", SIGNS)
def test_the_judge_finds_a_mistake(make_daemon: Make, record_property: Callable[[str, object], None], bug: str) -> None:
    entry = ("-m", PLANTED, bug if bug in MISTAKES else "switches")
    daemon = with_switches(make_daemon(entry=entry, workers=2, timeouts=RESEND)).start()
    switches = () if bug in MISTAKES else (daemon,)
    with switched_off(bug, *switches):
        verdict = run(talk(daemon, settle_s=4, with_a_thief=bug == "anybody_edits", deaf="flight" in bug), 60)
    record_property("verdict", f"planted {bug}: {str(verdict).splitlines()[0]}")
    assert verdict.kinds() & SIGNS[bug], f"{bug} went unnoticed: {verdict}"
