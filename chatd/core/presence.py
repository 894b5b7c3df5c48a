"""Who is online, and telling those who watch.

Owns: subscriptions to presence and the notices they cause, at most one per user and second; their end.
Elsewhere: the index of sessions (core.sessions.hub), sessions of other workers (Bus.subscribed_elsewhere), "last seen"
(store), whether a user may be watched at all (core.requests.people).
Fails: never; a change that is missed (a worker died, a doorbell was lost) is found by looking again.

A watched user's coming and going is not reported as it happens but looked up once a second where something
may have changed. So a flapping user costs one notice a second at most, and one who returns at once costs none.
Everybody watched is looked up again every few seconds besides: a host that died says nothing.

Who may watch is asked when it begins, and again before the next notice where that has become doubtful: a friendship or
a membership has ended, or something was missed. While the store does not answer, such a notice waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import islice

from chatd.bus.contract import Topic, topic_of_presence
from chatd.core import bus_messages
from chatd.core.requests.notices import Notices, notice, of_user
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.model import User, UserId
from chatd.store.contract import Tables

_AGAIN_S = 3
"""Everybody watched is looked up at least this often,"""
_AGAIN_AT_ONCE = 2000
"""as long as these are enough of them each second."""
_ASKED_AT_ONCE = 200
"""Pairs of one read, so that others' reads and writes come between."""


class _Watched:
    """A user somebody here watches; `online` is what they were told last. missed: not found at the last look.
    doubtful: not all of them may be told any more."""

    __slots__ = ("doubtful", "missed", "online", "user", "watchers")

    def __init__(self, user: User, online: bool) -> None:
        self.user = user
        self.online = online
        self.missed = False
        self.doubtful = False
        self.watchers: set[Session] = set()


class Presence:
    def __init__(self, services: Services, notices: Notices) -> None:
        self._hub = services.hub
        self._bus = services.bus
        self._store = services.store
        self._config = services.config
        self._background = services.background
        self._notices = notices
        self._watched: dict[UserId, _Watched] = {}
        self._look_at: set[UserId] = set()
        self._looking = False

    async def watch(self, session: Session, users: Iterable[User], limit: int) -> dict[UserId, bool]:
        """From now on the session is told when one of them comes or goes. Replaces nothing, adds. Gives who is
        online as those who watch were told last: what changes after it is told. Refused LIMIT_REACHED."""
        wanted = {user.id: user for user in users}
        online = await self._hub.online(wanted)
        watching = session.watching or set()
        new = [user for user in wanted.values() if user.id not in watching]
        if len(watching) + len(new) > limit:
            raise Refused(ErrorCode.LIMIT_REACHED)
        if session.is_over:
            return dict.fromkeys(wanted, False)
        if new:
            session.watching = watching
        topics = []
        for user in new:
            watched = self._watched.get(user.id)
            if watched is None:
                watched = self._watched[user.id] = _Watched(user, user.id in online)
                topics.append(topic_of_presence(user.id))
            watched.watchers.add(session)
            watching.add(user.id)
        if topics:
            await self._bus.subscribe(topics)
            self._look_at.update(user.id for user in new)
        return {user_id: user_id in self._watched and self._watched[user_id].online for user_id in wanted}

    def unwatch(self, session: Session) -> None:
        """The session is over."""
        topics = []
        for user_id in session.watching or ():
            topics += self._release(session, self._watched[user_id])
        session.watching = None
        if topics:
            self._bus.unsubscribe(topics)

    def _release(self, session: Session, watched: _Watched) -> list[Topic]:
        """The topics nobody here needs any more."""
        watched.watchers.discard(session)
        if watched.watchers:
            return []
        del self._watched[watched.user.id]
        return [topic_of_presence(watched.user.id)]

    # ---------------------------------------------------------------- what has happened

    def changed(self, user_id: UserId) -> None:
        """A session of the user began or ended on this worker."""
        if user_id in self._watched:
            self._look_at.add(user_id)
        self._bus.publish(topic_of_presence(user_id), bus_messages.encode(bus_messages.PresenceChanged(user_id)))

    def heard(self, signal: bus_messages.PresenceChanged) -> None:
        self._look_at.add(signal.user_id)
        if signal.doubtful:
            self._doubt(signal.user_id)

    def gap(self) -> None:
        """A worker died, or something was missed: look at everybody again."""
        for user_id in self._watched:
            self._doubt(user_id)

    def parted(self, user_id: UserId) -> None:
        """Somebody is no friend of the user, or in no group with them, any more."""
        self._doubt(user_id)
        self._bus.publish(
            topic_of_presence(user_id), bus_messages.encode(bus_messages.PresenceChanged(user_id, doubtful=True))
        )

    def left(self, user_id: UserId) -> None:
        """The user has left a group; other workers are told by whoever calls this."""
        for session in self._hub.of_user(user_id):
            for watched in session.watching or ():
                self._doubt(watched)

    def _doubt(self, user_id: UserId) -> None:
        if (watched := self._watched.get(user_id)) is not None:
            watched.doubtful = True
            self._look_at.add(user_id)

    # ---------------------------------------------------------------- looking

    def round(self) -> None:
        """Once a second. While one is looking, what has changed waits for the next round."""
        if self._looking:
            return
        look_at, self._look_at = self._look_at & self._watched.keys(), set()
        again = min(_AGAIN_AT_ONCE, -(-len(self._watched) // _AGAIN_S))
        for user_id in tuple(islice(self._watched, again)):
            self._watched[user_id] = self._watched.pop(user_id)
            look_at.add(user_id)
        if look_at:
            self._looking = True
            self._background.start(self._look(look_at))

    async def _look(self, look_at: set[UserId]) -> None:
        try:
            found = await self._hub.online(look_at)
            seen = [watched for user_id in look_at if (watched := self._watched.get(user_id)) is not None]
            news = [watched for watched in seen if (watched.user.id in found) is not watched.online]
            await self._check([watched for watched in news if watched.doubtful])
        finally:
            self._looking = False
        for user_id in look_at - self._look_at:  # the rest has changed meanwhile
            watched = self._watched.get(user_id)
            if watched is not None:
                self._seen(watched, user_id in found)

    async def _check(self, doubtful: list[_Watched]) -> None:
        """Nobody is told of them any more who may not be. Those that could not be asked about are looked at again."""
        if self._config().accounts.presence == "all":
            return
        for watched in doubtful:
            watched.doubtful = False  # first: what ends while the store is asked makes it so again
        pairs = [(session, watched) for watched in doubtful for session in watched.watchers]
        for at in range(0, len(pairs), _ASKED_AT_ONCE):
            asked = pairs[at : at + _ASKED_AT_ONCE]
            try:
                allowed = await self._store.read(partial(_may_see, pairs=[(a.user.id, b.user.id) for a, b in asked]))
            except Unavailable:
                for _, watched in pairs[at:]:
                    self._doubt(watched.user.id)
                return
            for (session, watched), may in zip(asked, allowed, strict=True):
                if not may and session in watched.watchers:
                    self._end(session, watched)

    def _end(self, session: Session, watched: _Watched) -> None:
        if session.watching is not None:
            session.watching.discard(watched.user.id)
        if topics := self._release(session, watched):
            self._bus.unsubscribe(topics)

    def _seen(self, watched: _Watched, online: bool) -> None:
        """Who has gone is told of at the second look: a session that moves to another worker is nowhere for a
        moment."""
        if not online and watched.online and not watched.missed:
            watched.missed = True
            self._look_at.add(watched.user.id)
            return
        watched.missed = False
        if online is not watched.online:
            watched.online = online
            text = notice("presence", user=of_user(watched.user), online=online)
            for session in watched.watchers:
                self._notices.tell(session, text)


def _may_see(tables: Tables, pairs: list[tuple[UserId, UserId]]) -> list[bool]:
    return [tables.friends.may_see(watcher, user_id) for watcher, user_id in pairs]
