"""`python -m tests.conversations.planted_live switches -c FILE …` is chatd in whose workers guards of mentions,
replies, unread counts, typing and features can be switched off (tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: running them (tests.faults.planted).
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from tests.faults.planted import main
from tests.harness.switches import Planted, plant


def typing_without_limits() -> Planted:
    """Every request to tell that somebody is writing is passed on."""
    from chatd.core.requests.typing_notices import TypingOperations

    async def forgetful(guard: Any, self: Any, *asked: Any) -> Any:
        self._asked.clear()
        self._told_at.clear()
        return await guard(self, *asked)

    return TypingOperations, "_typing", forgetful


def typing_without_consent() -> Planted:
    """Anybody can tell anybody. Nothing else asks in this way."""
    from chatd.core.requests import typing_notices

    return typing_notices.consent, "check", lambda guard, *asked: None


def typing_of_outsiders() -> Planted:
    """Anybody can tell any group, whoever is muted or not a member."""
    from chatd.store.sql.groups import SqlGroups

    return SqlGroups, "check_writer", lambda guard, *asked: 2


def typing_for_everybody() -> Planted:
    """Sessions are told that did not ask for it."""
    from chatd.core.sessions.login import Logins
    from chatd.protocol import Feature

    def generous(guard: Any, self: Any, peer: Any, command: Any, *rest: Any) -> Any:
        wanted = (command.features or Feature(0)) | Feature.TYPING
        return guard(self, peer, msgspec.structs.replace(command, features=wanted), *rest)

    return Logins, "_begin", generous


def everybody_mentions_all() -> Planted:
    """A plain member may mention all members."""
    from chatd.model import Role
    from chatd.store.sql.groups import SqlGroups

    def respectful(guard: Any, self: Any, group_id: int, user_id: int) -> Role:
        guard(self, group_id, user_id)
        return Role.OWNER

    return SqlGroups, "role", respectful


def mentions_of_outsiders() -> Planted:
    """Nobody checks that who is mentioned is in the group."""
    from chatd.store.sql.extras import ExtrasWriter

    def trusting(guard: Any, self: Any, sender: Any, group_id: int, named: tuple[Any, ...]) -> Any:
        users = [self._directory.find(*(("", name) if isinstance(name, int) else (name, 0))) for name in named]
        ids = tuple(user.id for user in users if user is not None)
        return ids if named != (0,) and len(ids) == len(named) else guard(self, sender, group_id, named)

    return ExtrasWriter, "_mentioned", trusting


def mentions_without_limit() -> Planted:
    """A message may mention as many members as fit."""
    from chatd.core import messages

    return messages, "_check_extras", lambda guard, *asked: None


def replies_to_the_future() -> Planted:
    """Nobody checks that there is a message with that number."""
    from chatd.store.sql.extras import ExtrasWriter

    def trusting(guard: Any, self: Any, draft: Any, extras: Any, last: int, before: Any) -> Any:
        return guard(self, draft, extras, 1 << 62, before)

    return ExtrasWriter, "check", trusting


def recalled_is_unread() -> Planted:
    """A recalled message still counts as unread."""
    from chatd.store.sql.unread import Window
    from chatd.store.sqlite.history import SqliteHistory

    def counting(guard: Any, self: Any, user_id: int, conversation: int, after: int) -> Window:
        (recalled,) = self._db.execute(
            "SELECT count(*) FROM message WHERE conversation = ? AND seq > ? AND state = 2 AND sender_id <> ?",
            (conversation, after, user_id),
        ).fetchone()
        window = guard(self, user_id, conversation, after)
        return window._replace(counted=window.counted + recalled)

    return SqliteHistory, "_window", counting


def read_here_only() -> Planted:
    """The user's other sessions are not told of a read mark."""
    from chatd.core.requests.notices import Notices

    def silent(guard: Any, self: Any, user_id: int, text: str, fp: str = "", *, apart_from: Any = None) -> None:
        if apart_from is None:
            guard(self, user_id, text, fp)

    return Notices, "tell_user", silent


def cut_in_silence() -> Planted:
    """The sender is not told that a message was cut."""
    from chatd.core.cut_notices import CutNotices

    return CutNotices, "given", lambda guard, *asked: None


BUGS = {
    bug.__name__: bug
    for bug in (
        typing_without_limits,
        typing_without_consent,
        typing_of_outsiders,
        typing_for_everybody,
        everybody_mentions_all,
        mentions_of_outsiders,
        mentions_without_limit,
        replies_to_the_future,
        recalled_is_unread,
        read_here_only,
        cut_in_silence,
    )
}

if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
