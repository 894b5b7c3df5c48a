"""The attacks find something in a daemon whose guard is switched off, and the judge in one that makes a mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.changes import attacks
from tests.changes.attacks import LATE_OPTIONS, OPTIONS, Attack
from tests.changes.ordeal import RESEND, talk
from tests.changes.planted import GUARDS, MISTAKES
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.person import Town

Make = Callable[..., Daemon]
FOUND_BY: dict[str, tuple[Attack, dict[str, Any]]] = {
    "anybody_edits": (attacks.edit_what_somebody_else_wrote, OPTIONS),
    "no_limit_of_time": (attacks.edit_when_it_is_too_late, LATE_OPTIONS),
    "outsiders_change": (attacks.edit_in_a_group_one_has_left, OPTIONS),
    "every_member_removes": (attacks.remove_as_a_plain_member, OPTIONS),
    "the_blocked_edit": (attacks.edit_after_being_blocked, OPTIONS),
    "the_muted_edit": (attacks.edit_while_muted, OPTIONS),
    "edits_without_a_limit": (attacks.flood_with_edits, OPTIONS),
    "forgets_the_first_text": (attacks.change_what_was_sent_by_repeating_it, OPTIONS),
    "leaves_the_text_in_flight": (attacks.read_what_was_recalled, OPTIONS),
}
SIGNS: dict[str, set[str]] = {
    "leaves_the_text_in_flight": {"ghost", "outdated"},
    "numbers_an_edited_message_again": {"divergent"},
    "versions_go_back": {"outdated"},
    "anybody_edits": {"unauthorised"},
}
"""What a verdict on each must contain at least one of."""


def planted(make_daemon: Make, bug: str, options: dict[str, Any]) -> Daemon:
    return make_daemon(entry=("-m", "tests.changes.planted", bug), **options).start()


def test_every_planted_bug_is_looked_for() -> None:
    assert (set(FOUND_BY), set(SIGNS)) == (set(GUARDS), set(MISTAKES))


@pytest.mark.parametrize("bug", GUARDS)
def test_an_attack_finds_a_guard_that_is_off(make_daemon: Make, bug: str) -> None:
    attack, options = FOUND_BY[bug]
    town = Town(planted(make_daemon, bug, options))
    with pytest.raises(AssertionError):
        run(attack(town, "mobileimsdk"), 60)


@pytest.mark.parametrize("bug", MISTAKES)
def test_the_judge_finds_a_mistake(make_daemon: Make, record_property: Callable[[str, object], None], bug: str) -> None:
    daemon = planted(make_daemon, bug, {"workers": 2, "timeouts": RESEND})
    verdict = run(talk(daemon, settle_s=4, with_a_thief=bug == "anybody_edits", deaf="flight" in bug), 60)
    record_property("verdict", f"planted {bug}: {str(verdict).splitlines()[0]}")
    assert verdict.kinds() & SIGNS[bug], f"{bug} went unnoticed: {verdict}"
