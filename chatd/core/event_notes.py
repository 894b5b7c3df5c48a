"""Recording, for webhooks, what happens in memory: logins, logouts, and messages whose recipients are away.

Owns: EventNotes: a queue of such events, and writing them to the store, many in one transaction.
Elsewhere: events of changes in the store, which are recorded with the change (store.sql.event_log), sending them
(webhooks).
Fails: never. While the store does not answer, events wait; those beyond MAX_WAITING are dropped, which is logged.

A worker that is killed loses what it has not written: the events of the last few milliseconds, and the logouts of its
own sessions. Does nothing unless a webhook of this host wants such events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from chatd.config.schema import Config
from chatd.config.webhook_options import wanted_by_any
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import Unavailable
from chatd.model import Message, User
from chatd.store.contract import EventKind, Tables

MAX_WAITING = 10_000
_AT_ONCE = 200
_AGAIN_S = 1.0
_LOG_EVERY_S = 10.0
"""Dropped events are logged at most this often."""

Absent = Callable[[Message], Awaitable[tuple[User, ...]]]
"""The recipients of a message who have no session. May raise Unavailable."""


class _Note(NamedTuple):
    """message: the recipients of which are to be found; None = details has everything."""

    kind: EventKind
    details: dict[str, object]
    message: Message | None = None


class EventNotes:
    """Called from the worker's loop."""

    def __init__(self, services: Services, absent: Absent) -> None:
        self._store = services.store
        self._hub = services.hub
        self._config = services.config
        self._loop = services.loop
        self._background = services.background
        self._log = services.log
        self._absent = absent
        self._known: tuple[Config | None, frozenset[str]] = None, frozenset()
        """The events wanted by the configuration before them."""
        self._waiting: deque[_Note] = deque()
        self._is_writing = False
        self._log_again_at = 0.0

    def _wants(self, kind: EventKind) -> bool:
        config = self._config()
        made_for, wanted = self._known
        if made_for is not config:
            wanted = wanted_by_any(config.webhook)
            self._known = config, wanted
        return kind in wanted

    def logged_in(self, session: Session) -> None:
        if self._wants(EventKind.USER_LOGIN):
            self._note(_Note(EventKind.USER_LOGIN, _of(session)))

    def logged_out(self, session: Session) -> None:
        if self._wants(EventKind.USER_LOGOUT):
            self._note(_Note(EventKind.USER_LOGOUT, _of(session)))

    def stored(self, also: Callable[[Message], None] | None) -> Callable[[Message], None] | None:
        """To be called with every message that is stored for the first time; None = nobody wants to know. also:
        somebody else who wants to."""
        if not self._wants(EventKind.USER_OFFLINE_MESSAGE):
            return also
        if also is None:
            return self._stored

        def call(message: Message) -> None:
            also(message)
            self._stored(message)

        return call

    def _stored(self, message: Message) -> None:
        if message.group_id or not self._hub.of_user(message.to_id):
            self._note(_Note(EventKind.USER_OFFLINE_MESSAGE, {}, message))

    # ---------------------------------------------------------------- writing

    def _note(self, note: _Note) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._drop(note)
            return
        self._waiting.append(note)
        if not self._is_writing:
            self._is_writing = True
            self._background.start(self._write())

    def _drop(self, note: _Note) -> None:
        if self._loop.time() >= self._log_again_at:
            self._log_again_at = self._loop.time() + _LOG_EVERY_S
            self._log.error("events for webhooks dropped, the store does not take them", kind=str(note.kind))

    async def _write(self) -> None:
        try:
            while self._waiting:
                some = [self._waiting[at] for at in range(min(_AT_ONCE, len(self._waiting)))]
                try:
                    found = [one for note in some if (one := await self._completed(note)) is not None]
                    if found:
                        await self._store.write(partial(_record, found))
                except Unavailable:
                    await asyncio.sleep(_AGAIN_S)
                    continue
                for _ in some:
                    self._waiting.popleft()
        finally:
            self._is_writing = False

    async def _completed(self, note: _Note) -> _Note | None:
        """With those who are away; None = nobody is. Raises Unavailable."""
        if note.message is None:
            return note
        users = await self._absent(note.message)
        return note._replace(details={"users": [user.id for user in users]}) if users else None


def _of(session: Session) -> dict[str, object]:
    return {"user": session.user.id, "wire": session.protocol.name.lower()}


def _record(notes: list[_Note], tables: Tables) -> None:
    for note in notes:
        about = (note.message.conversation, note.message.seq) if note.message else None
        tables.events.record(note.kind, note.details, about)
