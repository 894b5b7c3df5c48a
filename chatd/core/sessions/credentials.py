"""Ending sessions whose account has new credentials: the password was changed, or the account was locked or deleted.

Owns: CredentialsWatch: telling all workers about a password that a session of this worker has changed, and looking in
the store for changes that nobody has told this worker about: made by chatctl while the server could not be asked, or on
another host while the bus was cut off.
Elsewhere: a login that was under way during the change, which finds another version in the store (core.sessions.login);
an operator's change while the server answers (core.sessions.kick); the versions (store.account_contract.Account).
Fails: never. While the store does not answer, changes made elsewhere are found when it answers again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chatd.bus.contract import topic_of_user
from chatd.core import bus_messages
from chatd.core.bus_messages import SessionEnded
from chatd.core.services import Services
from chatd.core.sessions.login import Logins
from chatd.core.sessions.session import OWN_CHANGE, Session
from chatd.core.store_watch import StoreWatch
from chatd.errors import Unavailable
from chatd.model import UserId
from chatd.store.contract import CredentialsChange

CHECK_S = 0.4
"""How often the store is looked at. Every session of an account ends within a second of the commit of the change: after
this and GRACE_S, the time that one small read takes, and that of a turn of the loop."""
GRACE_S = 0.2
"""Between finding a change and ending the sessions: whoever has made it tells this worker at the same time, and has
words for the user."""
_AT_ONCE = 1000
"""Maximum changes read at once; further ones are read right after."""


class CredentialsWatch:
    def __init__(
        self, services: Services, logins: Logins, ended: Callable[[UserId, int, int], None] = lambda *ended: None
    ) -> None:
        """ended: called with a user, the version of the credentials, and how many sessions have ended for it, where a
        change was found in the store."""
        self._services = services
        self._logins = logins
        self._ended = ended
        self._seen = -1
        """Changes up to this version are known; -1 = the store has not been looked at."""
        self._watch = StoreWatch(services, CHECK_S, self._check)
        self.on_change: Callable[[UserId], None] = lambda user_id: None
        """Called with every account whose change was found in the store."""

    @property
    def is_open(self) -> bool:
        """A login may begin: every later change is found."""
        return self._seen >= 0

    async def open(self) -> None:
        """Before the first login: every later change is found. Raises Unavailable."""
        self._seen = await self._services.store.read(lambda tables: tables.accounts.newest_credentials())

    # ---------------------------------------------------------------- changed by a session of this worker

    def begin_own_change(self, session: Session) -> None:
        """The session's user changes the password now: the session itself is to stay."""
        session.credentials = OWN_CHANGE

    def changed_own(self, session: Session, version: int) -> None:
        """The change is committed, and the credentials have this version. The user's other sessions end, everywhere."""
        session.credentials = version
        ended = SessionEnded(session.user.id, 0, version)
        self._services.bus.publish(topic_of_user(ended.user_id), bus_messages.encode(ended))
        self._logins.end_own_here(ended)

    def end_own_change(self, session: Session, before: int) -> None:
        """Called last, whatever came of the change. before: the version with which it began."""
        if session.credentials == OWN_CHANGE:
            session.credentials = before
        self._services.background.start(self._check_session(session))

    async def _check_session(self, session: Session) -> None:
        """Changes that others have made in the meantime were not applied to the session."""
        user_id = session.user.id
        while not session.is_over:
            try:
                account = await self._services.store.read(lambda tables: tables.accounts.find("", user_id))
            except Unavailable:
                await asyncio.sleep(CHECK_S)
            else:
                self._logins.end_outdated(user_id, account.credentials if account else OWN_CHANGE)
                return

    # ---------------------------------------------------------------- changed anywhere

    def tick(self) -> None:
        """About twenty times a second."""
        if self.is_open:
            self._watch.tick()

    async def _check(self) -> None:
        seen = self._seen
        changes = await self._services.store.read(lambda tables: tables.accounts.changed_credentials(seen, _AT_ONCE))
        for change in changes:
            self.on_change(change.user_id)
            self._services.loop.call_later(GRACE_S, self._end, change)
        if changes:
            self._seen = max(seen, changes[-1].version)
        if len(changes) == _AT_ONCE:
            self._watch.again()

    def _end(self, change: CredentialsChange) -> None:
        if ended := self._logins.end_outdated(change.user_id, change.version):
            self._ended(change.user_id, change.version, ended)
