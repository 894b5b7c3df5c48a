"""`python -m tests.changes.planted switches -c FILE …` is chatd in whose workers guards of changed messages can be
switched off (tests.harness.switches); with the name of a mistake in place of `switches`, it makes this mistake.

Owns: the bugs, by name: guards switched off, which the attacks find, and mistakes, which the judge finds.
Elsewhere: planting one (tests.faults.planted).
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

from tests.faults.planted import main
from tests.harness.switches import Planted, plant

# ---------------------------------------------------------------- guards switched off


def anybody_edits() -> Planted:
    """Who sent a message is not looked at."""
    from chatd.store.sql.revisions import SqlRevisions

    def of_anybody(guard: Any, self: Any, by: int, conversation: int, seq: int, within_ms: int, now_ms: int) -> Any:
        return self._place(by, conversation, seq)

    return SqlRevisions, "_own", of_anybody


def no_limit_of_time() -> Planted:
    from chatd.core import changes

    return changes, "_within_ms", lambda guard, user, seconds: 1 << 50


def outsiders_change() -> list[Planted]:
    """Who is not in the group, or not any more, changes what they sent there."""
    from chatd.core.requests import changes as requests
    from chatd.core.requests.history import group_number
    from chatd.model import Role
    from chatd.store.sql.groups import SqlGroups

    def any_role(guard: Any, self: Any, group_id: int, user_id: int) -> Role:
        return guard(self, group_id, user_id) if self.is_member(group_id, user_id) else Role.MEMBER

    def found(guard: Any, tables: Any, user: Any, place: str) -> Any:
        return (place, -group_number(place)) if place[0] == "#" else guard(tables, user, place)

    return [
        (SqlGroups, "role", any_role),
        (SqlGroups, "first_readable", lambda guard, *asked: 1),
        (SqlGroups, "check_writer", lambda guard, *asked: 1),
        (requests, "find_conversation", found),
    ]


def every_member_removes() -> Planted:
    from chatd.model import Role
    from chatd.store.sql.revisions import SqlRevisions

    def as_owner(guard: Any, self: Any, *asked: Any) -> Any:
        found = guard(self, *asked)
        return found if found.role is None else found._replace(role=Role.OWNER)

    return SqlRevisions, "_place", as_owner


def the_blocked_edit() -> Planted:
    from chatd.core import changes

    return changes, "_check_accepted", lambda guard, *asked: None


def the_muted_edit() -> Planted:
    from chatd.store.sql.groups import SqlGroups

    return SqlGroups, "check_writer", lambda guard, *asked: 1


def edits_without_a_limit() -> Planted:
    from chatd.store.sql.revisions import SqlRevisions

    def unlimited(guard: Any, self: Any, by: int, conversation: int, seq: int, text: Any, now_ms: int) -> Any:
        from chatd.model import MessageState

        body, within_ms = text
        return self._revise(self._own(by, conversation, seq, within_ms, now_ms), MessageState.EDITED, body, by, now_ms)

    return SqlRevisions, "edit", unlimited


def forgets_the_first_text() -> Planted:
    """The hash by which a repetition is recognised is that of the text as it is now."""
    from chatd.store.sql.repetitions import Repetitions

    return Repetitions, "_has_same_origin", lambda guard, first, draft, first_hash: not draft.command.body


def leaves_the_text_in_flight() -> list[Planted]:
    """A change is stored and told, and what is on its way stays as it was."""
    from chatd.core.in_flight import InFlightMessages
    from chatd.core.recent_changes import RecentChanges

    return [
        (InFlightMessages, "changed", lambda guard, *asked: None),
        (RecentChanges, "latest", lambda guard, self, message: message),
    ]


# ---------------------------------------------------------------- mistakes


def numbers_an_edited_message_again() -> None:
    """It goes to the end of the conversation, as if it were new."""
    from chatd.store.sql.revisions import SqlRevisions

    revise = SqlRevisions._revise

    def at_the_end(self: Any, place: Any, state: Any, body: str, by: int, now_ms: int) -> Any:
        revised = revise(self, place, state, body, by, now_ms)
        message = revised.message
        last = self._backend.last_seq(message.conversation)
        if message.seq < last:
            (other,) = self._messages_at(message.conversation, (last,))
            swap = "UPDATE message SET body = ?, state = ?, version = ? WHERE id = ?"
            for one, seq in ((message, last), (other, message.seq)):
                number = self._backend.message_id(message.conversation, seq)
                self._db.execute(swap, (one.body, int(one.state), one.version, number))
        return revised

    SqlRevisions._revise = at_the_end  # type: ignore[method-assign]


def versions_go_back() -> None:
    """Now and then a client is told of a change a second time, after a later one."""
    from chatd.core.changes import Changes

    tell = Changes._tell_session
    told: list[tuple[Any, Any]] = []

    def late(self: Any, session: Any, changed: Any, but: Any) -> None:
        tell(self, session, changed, but)
        if changed.message.version == 1:
            told.append((session, changed))
        elif told and not told[-1][0].is_over:
            earlier = random.choice(told[-20:])
            if not earlier[0].is_over:
                tell(self, *earlier, None)

    Changes._tell_session = late  # type: ignore[method-assign]


GUARDS: dict[str, Callable[[], Planted | list[Planted]]] = {
    bug.__name__: bug
    for bug in (
        anybody_edits, no_limit_of_time, outsiders_change, every_member_removes, the_blocked_edit, the_muted_edit,
        edits_without_a_limit, forgets_the_first_text, leaves_the_text_in_flight,
    )
}  # fmt: skip
MISTAKES: dict[str, Callable[[], None]] = {
    bug.__name__: bug for bug in (numbers_an_edited_message_again, versions_go_back)
}
ALSO_FOUND_BY_THE_JUDGE = ("leaves_the_text_in_flight", "anybody_edits")
"""Of the guards, those whose absence the judge finds, too."""


if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(GUARDS), **MISTAKES}))
