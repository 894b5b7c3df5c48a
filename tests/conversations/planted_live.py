"""`python -m tests.conversations.planted_live BUG -c FILE …` is chatd with one guard of mentions, replies, unread
counts, typing or features switched off.

Owns: the bugs. A worker is patched after its fork, before it is built.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from tests.faults.planted import main


def typing_without_limits() -> None:
    """Every request to tell that somebody is writing is passed on."""
    from chatd.core.requests import typing_notices

    typing_notices._AGAIN_S, typing_notices._PER_S = 0.0, 10**9


def typing_without_consent() -> None:
    """Anybody can tell anybody."""
    from chatd.core.requests import typing_notices

    class Careless:
        check = staticmethod(lambda *of: None)

    typing_notices.consent = Careless  # type: ignore[assignment]


def typing_of_outsiders() -> None:
    """Anybody can tell any group, whoever is muted or not a member."""
    from chatd.store.sql.groups import SqlGroups

    SqlGroups.check_writer = lambda self, group_id, user_id, now_ms: 2  # type: ignore[method-assign]


def typing_for_everybody() -> None:
    """Sessions are told that did not ask for it."""
    from chatd.core.sessions.login import Logins
    from chatd.protocol import Feature

    begin = Logins._begin

    async def generous(self: Any, peer: Any, command: Any, user: Any, credentials: int) -> None:
        wanted = (command.features or Feature(0)) | Feature.TYPING
        await begin(self, peer, msgspec.structs.replace(command, features=wanted), user, credentials)

    Logins._begin = generous  # type: ignore[method-assign]


def everybody_mentions_all() -> None:
    """A plain member may mention all members."""
    from chatd.model import Role
    from chatd.store.sql.groups import SqlGroups

    role = SqlGroups.role

    def respectful(self: Any, group_id: int, user_id: int) -> Role:
        role(self, group_id, user_id)
        return Role.OWNER

    SqlGroups.role = respectful  # type: ignore[method-assign]


def mentions_of_outsiders() -> None:
    """Nobody checks that who is mentioned is in the group."""
    from chatd.store.sql.extras import ExtrasWriter

    mentioned = ExtrasWriter._mentioned

    def trusting(self: Any, sender: Any, group_id: int, named: tuple[Any, ...]) -> Any:
        users = [self._directory.find(*(("", name) if isinstance(name, int) else (name, 0))) for name in named]
        ids = tuple(user.id for user in users if user is not None)
        return ids if named != (0,) and len(ids) == len(named) else mentioned(self, sender, group_id, named)

    ExtrasWriter._mentioned = trusting  # type: ignore[method-assign]


def mentions_without_limit() -> None:
    """A message may mention as many members as fit."""
    from chatd.core import messages

    messages._names_all = lambda extras: True


def replies_to_the_future() -> None:
    """Nobody checks that there is a message with that number."""
    from chatd.store.sql.extras import ExtrasWriter

    check = ExtrasWriter.check

    def trusting(self: Any, sender: Any, command: Any, extras: Any, last: int) -> Any:
        return check(self, sender, command, extras, 1 << 62)

    ExtrasWriter.check = trusting  # type: ignore[method-assign]


def recalled_is_unread() -> None:
    """A recalled message still counts as unread."""
    from chatd.store.mysql import history as of_mysql
    from chatd.store.sqlite import history as of_sqlite

    of_sqlite.COUNTED = of_mysql.COUNTED = of_sqlite.COUNTED.replace("m.state IN (0, 1)", "m.state < 9")  # type: ignore[attr-defined]


def read_here_only() -> None:
    """The user's other sessions are not told of a read mark."""
    from chatd.core.requests.notices import Notices

    tell = Notices.tell_user

    def silent(self: Any, user_id: int, text: str, fp: str = "", *, apart_from: Any = None) -> None:
        if apart_from is None:
            tell(self, user_id, text, fp)

    Notices.tell_user = silent  # type: ignore[method-assign]


def cut_in_silence() -> None:
    """The sender is not told that a message was cut."""
    from chatd.core.cut_notices import CutNotices

    CutNotices.given = lambda self, session, message: None  # type: ignore[method-assign]


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
    sys.exit(main(BUGS))
