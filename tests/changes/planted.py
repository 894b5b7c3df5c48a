"""`python -m tests.changes.planted BUG -c FILE …` is chatd with a bug planted in what keeps changed messages right.

Owns: the bugs, by name: guards switched off, which the attacks find, and mistakes, which the judge finds.
Elsewhere: planting one (tests.faults.planted).
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

from tests.faults.planted import main

# ---------------------------------------------------------------- guards switched off


def anybody_edits() -> None:
    """Who sent a message is not looked at."""
    from chatd.store.sql.revisions import SqlRevisions

    def own(self: Any, by: int, conversation: int, seq: int, within_ms: int, now_ms: int) -> Any:
        return self._place(by, conversation, seq)

    SqlRevisions._own = own  # type: ignore[method-assign]


def no_limit_of_time() -> None:
    from chatd.core import changes

    changes._milliseconds = lambda seconds: 1 << 50  # type: ignore[assignment]


def outsiders_change() -> None:
    """Who is not in the group, or not any more, changes what they sent there."""
    from chatd.core.requests import changes as requests
    from chatd.core.requests.history import find_conversation, group_number
    from chatd.model import Role
    from chatd.store.sql.groups import SqlGroups

    role = SqlGroups.role

    def any_role(self: Any, group_id: int, user_id: int) -> Role:
        return role(self, group_id, user_id) if self.is_member(group_id, user_id) else Role.MEMBER

    def found(tables: Any, user: Any, place: str) -> int:
        return -group_number(place) if place[0] == "#" else find_conversation(tables, user, place)

    SqlGroups.role = any_role  # type: ignore[method-assign]
    SqlGroups.first_readable = lambda self, group_id, user_id: 1  # type: ignore[method-assign]
    SqlGroups.check_writer = lambda self, group_id, user_id, now_ms: 1  # type: ignore[method-assign]
    requests.find_conversation = found


def every_member_removes() -> None:
    from chatd.model import Role
    from chatd.store.sql.revisions import SqlRevisions

    place = SqlRevisions._place

    def as_owner(self: Any, *arguments: Any) -> Any:
        found = place(self, *arguments)
        return found if found.role is None else found._replace(role=Role.OWNER)

    SqlRevisions._place = as_owner  # type: ignore[method-assign]


def the_blocked_edit() -> None:
    from chatd.core import changes

    changes._check_accepted = lambda *arguments: None  # type: ignore[assignment]


def the_muted_edit() -> None:
    from chatd.store.sql.groups import SqlGroups

    SqlGroups.check_writer = lambda self, group_id, user_id, now_ms: 1  # type: ignore[method-assign]


def edits_without_a_limit() -> None:
    from chatd.store.sql import revisions

    revisions.MAX_VERSIONS = 1 << 60


def forgets_the_first_text() -> None:
    """The hash by which a repetition is recognised is that of the text as it is now."""
    from chatd.store.sql.repetitions import Repetitions

    Repetitions._has_same_origin = staticmethod(lambda first, draft, first_hash: not draft.command.body)  # type: ignore[method-assign,assignment]


# ---------------------------------------------------------------- mistakes


def leaves_the_text_in_flight() -> None:
    """A change is stored and told, and what is on its way stays as it was."""
    from chatd.core.in_flight import InFlightMessages
    from chatd.core.recent_changes import RecentChanges

    InFlightMessages.changed = lambda self, session, message: None  # type: ignore[method-assign]
    RecentChanges.latest = lambda self, message: message  # type: ignore[method-assign]


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


GUARDS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        anybody_edits, no_limit_of_time, outsiders_change, every_member_removes, the_blocked_edit, the_muted_edit,
        edits_without_a_limit,
        forgets_the_first_text, leaves_the_text_in_flight,
    )
}  # fmt: skip
MISTAKES: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        leaves_the_text_in_flight, numbers_an_edited_message_again, versions_go_back, anybody_edits,
    )
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(GUARDS | MISTAKES))
