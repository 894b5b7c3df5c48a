"""Who is online, and telling those who watch.

Owns: subscriptions to presence and the notices they cause, at most one per user and second.
Elsewhere: the index of sessions (core.hub), sessions of other workers (Bus.elsewhere), "last seen" (store).
Fails: never; a change that is missed (a worker died, a doorbell was lost) is found by looking again.

A watched user's coming and going is not reported as it happens but looked up once a second where something
may have changed. So a flapping user costs one notice a second at most, and one who returns at once costs none.
"""

from __future__ import annotations

from collections.abc import Iterable

from chatd.bus.base import Bus, topic_of_presence
from chatd.core import signals
from chatd.core.hub import Hub
from chatd.core.notices import Notices, notice, of_user
from chatd.core.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import User, UserId


class _Watched:
    """A user somebody here watches; `online` is what they were told last."""

    __slots__ = ("online", "user", "watchers")

    def __init__(self, user: User, online: bool) -> None:
        self.user = user
        self.online = online
        self.watchers: set[Session] = set()


class Presence:
    def __init__(self, hub: Hub, bus: Bus, notices: Notices) -> None:
        self._hub = hub
        self._bus = bus
        self._notices = notices
        self._watched: dict[UserId, _Watched] = {}
        self._look_at: set[UserId] = set()

    async def watch(self, session: Session, users: Iterable[User], limit: int) -> dict[UserId, bool]:
        """From now on the session is told when one of them comes or goes. Replaces nothing, adds. Gives who is
        online as those who watch were told last: what changes after it is told. Refused LIMIT_REACHED."""
        wanted = {user.id: user for user in users}
        watching = session.watching or set()
        new = [user for user in wanted.values() if user.id not in watching]
        if len(watching) + len(new) > limit:
            raise Refused(ErrorCode.LIMIT_REACHED)
        if session.closed:
            return dict.fromkeys(wanted, False)
        if new:
            session.watching = watching
        topics = []
        for user in new:
            watched = self._watched.get(user.id)
            if watched is None:
                watched = self._watched[user.id] = _Watched(user, self._hub.online(user.id))
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
            watched = self._watched[user_id]
            watched.watchers.discard(session)
            if not watched.watchers:
                del self._watched[user_id]
                topics.append(topic_of_presence(user_id))
        session.watching = None
        if topics:
            self._bus.unsubscribe(topics)

    def changed(self, user_id: UserId) -> None:
        """A session of the user began or ended on this worker."""
        self._look_at.add(user_id)
        self._bus.publish(topic_of_presence(user_id), signals.encode(signals.PresenceChanged(user_id)))

    def heard(self, signal: signals.PresenceChanged) -> None:
        self._look_at.add(signal.user_id)

    def gap(self) -> None:
        """A worker died, or something was missed: look at everybody again."""
        self._look_at.update(self._watched)

    def round(self) -> None:
        """Once a second."""
        look_at, self._look_at = self._look_at, set()
        for user_id in look_at:
            watched = self._watched.get(user_id)
            if watched is None:
                continue
            online = self._hub.online(user_id)
            if online is not watched.online:
                watched.online = online
                text = notice("presence", user=of_user(watched.user), online=online)
                for session in watched.watchers:
                    self._notices.tell(session, text)
