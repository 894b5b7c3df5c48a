"""`python -m tests.consent.planted switches -c FILE …` is chatd in whose workers guards of what users accept can be
switched off (tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: running them (tests.faults.planted).
"""

from __future__ import annotations

import sys
from typing import Any

from chatd.errors import ErrorCode
from tests.faults.planted import main
from tests.harness.switches import Planted, plant


def blocks_are_forgotten() -> Planted:
    """What a connection remembers is not dropped when somebody accepts less."""
    from chatd.store.sql.verdicts import Permissions

    return Permissions, "clear", lambda guard, self: None


def the_version_stays() -> Planted:
    """Nobody learns that somebody accepts less."""
    from chatd.store.sql.verdicts import Permissions

    return Permissions, "changed", lambda guard, self: None


def nobody_may_answer() -> Planted:
    """Who lets only friends write gets no answers."""
    from chatd.store.contract import Purpose
    from chatd.store.sql.verdicts import Permissions

    return Permissions, "writing", lambda guard, self, pairs: self.verdicts(Purpose.WRITE, pairs, self._default)


def a_block_has_a_code_of_its_own() -> Planted:
    """The blocked user can tell."""
    from chatd.core import consent

    def telling(guard: Any, tables: Any, config: Any, purpose: Any, actor: int, subject: int) -> ErrorCode | None:
        blocked = tables.consent.block_between(actor, subject) is not None
        return None if blocked else guard(tables, config, purpose, actor, subject)  # type: ignore[no-any-return]

    return consent, "refusal", telling


def every_request_is_told() -> Planted:
    """Also one that was told before."""
    from chatd.store.contract import Asked
    from chatd.store.sql.friends import SqlFriends

    def told(guard: Any, *asked: Any) -> Asked:
        result = guard(*asked)
        return Asked.NEW if result is Asked.AGAIN else result  # type: ignore[no-any-return]

    return SqlFriends, "request", told


def withdrawn_requests_are_forgotten() -> Planted:
    """Withdrawing and asking in turn notifies each time, and a refusal holds for a moment."""
    from chatd.store.sql.friends import SqlFriends

    return SqlFriends, "_check_refused", lambda guard, *asked: False


def any_number_of_requests() -> Planted:
    from chatd.core import friends

    return friends, "asking_rules", lambda guard, config: guard(config)._replace(waiting=1 << 30)


def watchers_are_not_checked_again() -> Planted:
    """Who was allowed to watch once is told for ever."""
    from chatd.core.presence import Presence

    async def unchecked(guard: Any, self: Presence, changed: Any) -> None:
        return

    return Presence, "_check", unchecked


def members_are_always_seen() -> Planted:
    """Lists show who is online whatever they chose."""
    from chatd.store.sql.consent import SqlConsent

    return SqlConsent, "unseen", lambda guard, *asked: set()


def read_marks_reach_everybody() -> Planted:
    from chatd.core import consent

    return consent, "may_write", lambda guard, *asked: True


BUGS = {
    bug.__name__: bug
    for bug in (
        blocks_are_forgotten,
        the_version_stays,
        nobody_may_answer,
        a_block_has_a_code_of_its_own,
        every_request_is_told,
        withdrawn_requests_are_forgotten,
        any_number_of_requests,
        watchers_are_not_checked_again,
        members_are_always_seen,
        read_marks_reach_everybody,
    )
}


if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
