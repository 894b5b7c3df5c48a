"""Presence: who is online, and notifying the sessions that watch.

Owns: which session watches which users, and the notices: at most one per watched user and second.
Elsewhere: the index of sessions (core.sessions.hub), sessions of other workers (Bus.subscribed_elsewhere), "last seen"
(store), whether a user may be watched at all when it begins (core.requests.friends, core.consent).
Fails: never. A change that was missed, because a worker died or a bus message was lost, is found by looking again.

Logins and logouts of a watched user are not reported as they happen, but looked up once a second where something may
have changed. So a user who comes and goes all the time costs one notice a second, and one who returns at once costs
none. In addition, every watched user is looked up every few seconds, because a host that dies reports nothing.

Permission to watch is checked when watching begins, and again before the next notice if it has become doubtful: a
membership has ended, bus messages were missed, or somebody accepts less than before. The last is read from the store
(ConsentTables.version) before every notice: after a block nothing is told any more, even while the bus is down. While
the store does not answer, notices wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import islice
from types import MappingProxyType

from chatd.bus.contract import Topic, topic_of_presence
from chatd.core import bus_messages
from chatd.core.bus_messages import PresenceChanged
from chatd.core.consent import default_of
from chatd.core.requests.notices import Notices, notice, of_user
from chatd.core.services import Services
from chatd.core.sessions.moving import MovedWatch
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.model import Audience, User, UserId
from chatd.store.contract import Purpose, Tables

REFRESH_ROUNDS = 3
"""Rounds (seconds) within which every watched user is looked up at least once."""
REFRESH_MAX = 2000
"""Maximum users looked up in one round for no other reason."""
CHECK_PAGE = 200
"""Pairs of users checked in one read. Pages are small, so that other reads and writes come between."""


class Watched:
    """A user whom sessions of this worker watch.

    online: as those sessions were told last. missed: not found at the last look-up. doubtful: some of the watchers may
    have lost the permission, so they are checked before the next notice. version: the ConsentTables.version() as of
    which all of them had it.
    """

    __slots__ = ("doubtful", "missed", "online", "user", "version", "watchers")

    def __init__(self, user: User, online: bool, version: int) -> None:
        self.user = user
        self.version = version
        self.online = online
        self.missed = False
        self.doubtful = False
        self.watchers: set[Session] = set()


class Presence:
    def __init__(self, services: Services, notices: Notices) -> None:
        self._services = services
        self._notices = notices
        self._watched: dict[UserId, Watched] = {}
        """In the order of the last look, the least recent first."""
        self._pending: set[UserId] = set()
        """Users to look up in the next round."""
        self._looking = False
        """A round's look-up is under way."""
        self._may_see = self._default()
        """The operator's choice, as of which permissions were checked."""

    def _default(self) -> Audience:
        return default_of(self._services.config(), Purpose.SEE)

    @property
    def watched(self) -> Mapping[UserId, Watched]:
        return MappingProxyType(self._watched)

    @property
    def pending(self) -> frozenset[UserId]:
        """Users to look up in the next round."""
        return frozenset(self._pending)

    @property
    def is_looking(self) -> bool:
        """A round's look-up is under way."""
        return self._looking

    # ---------------------------------------------------------------- watching

    async def watch(self, session: Session, users: Iterable[User], version: int) -> dict[UserId, bool]:
        """From now on the session is told when one of the users comes or goes, in addition to those it watches already.
        version: the ConsentTables.version() as of which the session's user may see all of them.

        Returns who is online, as the sessions that watch them were told last, so that later changes are reported.

        Raises:
            Refused: LIMIT_REACHED: the session would watch more than limits.presence_watches users. It watches the same
            users as before.
        """
        limit = self._services.config().limits.presence_watches
        wanted = {user.id: user for user in users}
        online = await self._services.hub.online(wanted)
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
                watched = self._watched[user.id] = Watched(user, user.id in online, version)
                topics.append(topic_of_presence(user.id))
            watched.version = min(watched.version, version)
            watched.watchers.add(session)
            watching.add(user.id)
        if topics:
            await self._services.bus.subscribe(topics)
            self._pending.update(user.id for user in new)
        return {user_id: user_id in self._watched and self._watched[user_id].online for user_id in wanted}

    def watched_by(self, session: Session) -> tuple[MovedWatch, ...]:
        """Whom the session watches, for another worker where it goes on."""
        watched = [self._watched[user_id] for user_id in session.watching or ()]
        return tuple(MovedWatch(one.user, one.online, one.version) for one in watched)

    def resume(self, session: Session, watching: Iterable[MovedWatch]) -> None:
        """The session has come from another worker, where it watched these. What it was told last may differ from what
        the sessions here were told; then it is told that."""
        topics = []
        for one in watching:
            watched = self._watched.get(one.user.id)
            if watched is None:
                watched = self._watched[one.user.id] = Watched(one.user, one.online, one.version)
                topics.append(topic_of_presence(one.user.id))
            elif watched.online is not one.online:
                text = notice("presence", user=of_user(watched.user), online=watched.online)
                self._notices.tell(session, text)
            watched.version = min(watched.version, one.version)
            watched.watchers.add(session)
            session.watching = session.watching or set()
            session.watching.add(one.user.id)
            self._pending.add(one.user.id)
        if topics:
            self._services.background.start(self._subscribe(topics))

    async def _subscribe(self, topics: list[Topic]) -> None:
        """Changes from before are found by looking once more."""
        await self._services.bus.subscribe(topics)
        self._pending.update(topic >> 2 for topic in topics)

    def unwatch(self, session: Session) -> None:
        """The session is over."""
        topics = []
        for user_id in session.watching or ():
            topics += self._remove_watcher(session, self._watched[user_id])
        session.watching = None
        if topics:
            self._services.bus.unsubscribe(topics)

    def _remove_watcher(self, session: Session, watched: Watched) -> list[Topic]:
        """The topics that no session here needs any more."""
        watched.watchers.discard(session)
        if watched.watchers:
            return []
        del self._watched[watched.user.id]
        return [topic_of_presence(watched.user.id)]

    # ---------------------------------------------------------------- something has changed

    def changed(self, user_id: UserId) -> None:
        """A session of the user began or ended on this worker."""
        if user_id in self._watched:
            self._pending.add(user_id)
        self._publish(PresenceChanged(user_id))

    def changed_elsewhere(self, change: PresenceChanged) -> None:
        """Another worker reports the same."""
        self._pending.add(change.user_id)
        if change.doubtful:
            self._mark_doubtful(change.user_id)

    def gap(self) -> None:
        """A worker died, or bus messages were missed: look everybody up again."""
        for user_id in self._watched:
            self._mark_doubtful(user_id)

    def parted(self, user_id: UserId) -> None:
        """A friendship of the user has ended, or somebody has no common group with them any more."""
        self._mark_doubtful(user_id)
        self._publish(PresenceChanged(user_id, doubtful=True))

    def left(self, user_id: UserId) -> None:
        """The user has left a group. Other workers are told by the caller."""
        for session in self._services.hub.of_user(user_id):
            for watched in session.watching or ():
                self._mark_doubtful(watched)

    def _mark_doubtful(self, user_id: UserId) -> None:
        if (watched := self._watched.get(user_id)) is not None:
            watched.doubtful = True
            self._pending.add(user_id)

    def _publish(self, change: PresenceChanged) -> None:
        self._services.bus.publish(topic_of_presence(change.user_id), bus_messages.encode(change))

    # ---------------------------------------------------------------- looking up

    def round(self) -> None:
        """Once a second. While a look-up is under way, what has changed waits for the next round."""
        if self._looking:
            return
        due, self._pending = self._pending & self._watched.keys(), set()
        refresh = min(REFRESH_MAX, -(-len(self._watched) // REFRESH_ROUNDS))
        for user_id in tuple(islice(self._watched, refresh)):
            self._watched[user_id] = self._watched.pop(user_id)
            due.add(user_id)
        if due:
            self._looking = True
            self._services.background.start(self._look_up(due))

    async def _look_up(self, due: set[UserId]) -> None:
        try:
            online = await self._services.hub.online(due)
            found = [watched for user_id in due if (watched := self._watched.get(user_id)) is not None]
            changed = [watched for watched in found if (watched.user.id in online) is not watched.online]
            await self._check(changed)
        finally:
            self._looking = False
        for user_id in due - self._pending:  # the others have changed meanwhile, and wait for the next round
            watched = self._watched.get(user_id)
            if watched is not None:
                self._found(watched, online=user_id in online)

    async def _check(self, changed: list[Watched]) -> None:
        """Before notices about these users: end the watching of those who may not watch any more. Users who could not
        be checked are looked up again."""
        if not changed:
            return
        default = self._default()
        if default is not self._may_see:
            self._may_see = default
            self.gap()
        try:
            version = await self._services.store.read(lambda tables: tables.consent.version())
        except Unavailable:
            self._doubt(changed)
            return
        doubtful = [watched for watched in changed if watched.doubtful or watched.version != version]
        for watched in doubtful:  # before the store is asked: what ends meanwhile makes it doubtful again
            watched.doubtful, watched.version = False, version
        pairs = [(session, watched) for watched in doubtful for session in watched.watchers]
        for start in range(0, len(pairs), CHECK_PAGE):
            page = pairs[start : start + CHECK_PAGE]
            ids = [(session.user.id, watched.user.id) for session, watched in page]
            try:
                codes = await self._services.store.read(partial(_refusals, pairs=ids, default=default))
            except Unavailable:
                self._doubt([watched for _, watched in pairs[start:]])
                return
            for (session, watched), code in zip(page, codes, strict=True):
                if code is not None and session in watched.watchers:
                    self._end_watching(session, watched)

    def _doubt(self, unchecked: list[Watched]) -> None:
        for watched in unchecked:
            self._mark_doubtful(watched.user.id)

    def _end_watching(self, session: Session, watched: Watched) -> None:
        if session.watching is not None:
            session.watching.discard(watched.user.id)
        if topics := self._remove_watcher(session, watched):
            self._services.bus.unsubscribe(topics)

    def _found(self, watched: Watched, *, online: bool) -> None:
        """A user who has gone is reported at the second look: a session that moves from one worker to another is
        nowhere for a moment."""
        if not online and watched.online and not watched.missed:
            watched.missed = True
            self._pending.add(watched.user.id)
            return
        watched.missed = False
        if online is not watched.online:
            watched.online = online
            text = notice("presence", user=of_user(watched.user), online=online)
            for session in watched.watchers:
                self._notices.tell(session, text)


def _refusals(tables: Tables, pairs: list[tuple[UserId, UserId]], default: Audience) -> list[ErrorCode | None]:
    return tables.consent.refusals(Purpose.SEE, pairs, default)
