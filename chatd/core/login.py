"""How a session begins and ends, and who stays when one user logs in twice.

Owns: the login flow, the marks that make a session exclusive per user and wire, kick-out.
Elsewhere: passwords (core.accounts), what a session is given (core.delivery).
Fails: Refused (told to the peer, nothing left behind); Unavailable from store or bus.

Source: protocols/chatserver.md (errno 2) and protocols/mobileimsdk.md (firstLoginTime). Whether a user is
connected is told by marks that die with their worker (Bus.claim), never by a column.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

from chatd import log
from chatd.bus.base import Bus, topic_of_user
from chatd.config import Config
from chatd.core import signals
from chatd.core.accounts import Accounts
from chatd.core.chain import Chain
from chatd.core.delivery import Delivery, mine
from chatd.core.hub import Hub
from chatd.core.notices import Notices
from chatd.core.presence import Presence
from chatd.core.session import Peer, Session
from chatd.errors import Disconnect, ErrorCode, Refused, Unavailable
from chatd.model import Friend, FriendRequest, Group, GroupId, Member, Protocol, User, UserId
from chatd.protocol import FriendRequested, Kicked, Login, LoginAccepted
from chatd.store.base import GroupRow, Tables, Waiting
from chatd.store.commit import GroupCommit

_VERDICT_S = 2.0
_MARK_POLL_S = 0.005
_ASK_AGAIN_S = 0.1
_REQUESTS = 100
"""Friend requests told at login; friend.list has the rest."""
_MEMBERS = 1000
"""Group members listed at login, in the sum of all groups."""


class View(NamedTuple):
    """What a login reads of the store, at one moment."""

    friends: list[User]
    requests: list[FriendRequest]
    groups: list[GroupRow]
    group_ids: set[GroupId]
    waiting: Waiting


class KickedAtLogin(Exception):
    """The session that is there stays; the new one is told so."""


def mark_of(user: User, protocol: Protocol) -> int:
    return user.id << 2 | protocol


class Logins:
    def __init__(
        self,
        accounts: Accounts,
        hub: Hub,
        bus: Bus,
        delivery: Delivery,
        notices: Notices,
        presence: Presence,
        store: GroupCommit,
        config: Callable[[], Config],
        chain: Chain,
    ) -> None:
        self._accounts = accounts
        self._hub = hub
        self._bus = bus
        self._delivery = delivery
        self._notices = notices
        self._presence = presence
        self._store = store
        self._config = config
        self._chain = chain
        self._holders: dict[int, Session] = {}
        self._verdicts: dict[int, asyncio.Future[bool]] = {}
        self._challenged: dict[int, int] = {}
        self._refs = itertools.count(time.time_ns() << 8 & (1 << 62) - 1)
        self._leaving: set[asyncio.Task[None]] = set()
        self._log = log.get()
        self.count = 0
        """Sessions of this worker."""

    # ---------------------------------------------------------------- in

    async def login(self, peer: Peer, command: Login) -> None:
        """Ends with the login answer queued, or raises."""
        if peer.session is not None:
            self._again(peer, peer.session, command)
            return
        await self._chain.before_login(peer, command)
        user = await self._accounts.authenticate(command)
        first_login_time = command.first_login_time
        if first_login_time <= 0:
            first_login_time = time.time_ns() // 1_000_000
        session = Session(user, peer, first_login_time)
        session.buffer = []
        try:
            await self._take_mark(session, command.first_login_time)
            await self._begin(peer, session)
        except KickedAtLogin:
            self._drop(session)
            peer.push(Kicked(False, "logged in elsewhere"))
            peer.close(Disconnect.KICKED_DUPLICATE)
        except BaseException:
            self._drop(session)
            raise

    def _again(self, peer: Peer, session: Session, command: Login) -> None:
        """COMPAT: MobileIMSDK clients log in again on a live connection and expect code 0."""
        same = command.name == session.user.name or command.name == str(session.user.id)
        if session.protocol is Protocol.CHATSERVER or not same:
            raise Refused(ErrorCode.ALREADY_LOGGED_IN)
        peer.push(LoginAccepted(session.user, session.first_login_time))

    async def _begin(self, peer: Peer, session: Session) -> None:
        user = session.user
        groups = await self._store.read(lambda tables: tables.group_ids(user.id))
        await self._hub.add(session, groups)
        limit = self._config().limits.in_flight
        listing = session.protocol is Protocol.CHATSERVER
        view = await self._store.read(lambda tables: _view(tables, user, limit, listing))
        await self._regroup(session, view.group_ids)
        online = await self._hub.online(_named(view))
        if session.closed or peer.closed:  # kicked, or the peer left, while we were reading
            raise Refused(ErrorCode.ALREADY_LOGGED_IN)
        peer.session = session
        self.count += 1
        told, told_at = peer.push_login(self._answer(session, view, online))
        if session.explicit:
            for request in view.requests:
                self._notices.friend_requested(session, FriendRequested(request))
        self._delivery.merge(session, view.waiting, told, told_at)
        self._presence.changed(user.id)
        self._chain.logged_in(session)
        self._log.debug("logged in", user=user.id, name=user.name, wire=session.protocol.name, peer=peer.remote)

    async def _regroup(self, session: Session, groups: set[GroupId]) -> None:
        """Memberships that changed on another worker before it knew that this one wants to hear of them."""
        had = session.groups or set()
        for group_id in had - groups:
            self._hub.leave(session, group_id)
        if new := groups - had:
            await self._hub.join(session, *new)
            session.behind = True

    def _answer(self, session: Session, view: View, online: set[UserId]) -> LoginAccepted:
        friends = tuple(Friend(user.id, user.name, user.id in online) for user in view.friends)
        groups = tuple(
            Group(
                row.group.id,
                row.group.name,
                row.group.description,
                tuple(Member(user.id, user.name, user.id in online, role) for user, role in row.members),
            )
            for row in view.groups
        )
        groups_now = {0, *(session.groups or ())}  # who was removed from one a moment ago is not given it any more
        waiting = tuple(
            message
            for message in view.waiting.messages
            if message.group_id in groups_now and not mine(message, session)
        )
        return LoginAccepted(session.user, session.first_login_time, friends, groups, tuple(view.requests), waiting)

    # ---------------------------------------------------------------- one session per user and wire

    async def _take_mark(self, session: Session, claimed_time: int) -> None:
        mark = mark_of(session.user, session.protocol)
        holder = self._holders.get(mark)
        if holder is not None and not holder.closed:
            self._settle(holder, claimed_time)
        self._holders[mark] = session
        if not await self._bus.claim(mark):
            await self._challenge(session, mark, claimed_time)

    def _settle(self, old: Session, claimed_time: int) -> None:
        """Old or new? Returns when the old session is ended, raises when the new one must go."""
        if old.protocol is Protocol.CHATSERVER:
            raise Refused(ErrorCode.ALREADY_LOGGED_IN)
        if 0 < claimed_time < old.first_login_time:
            raise KickedAtLogin
        if claimed_time == old.first_login_time:
            self._end(old, Disconnect.REPLACED)
            return
        if old.peer.session is old:
            old.peer.push(Kicked(False, "logged in elsewhere"))
        self._end(old, Disconnect.KICKED_DUPLICATE)

    def _end(self, session: Session, reason: Disconnect) -> None:
        if session.peer.session is session:
            session.peer.close(reason)
        else:  # still logging in
            session.closed = True

    async def _challenge(self, session: Session, mark: int, claimed_time: int) -> None:
        """Another worker holds the mark: ask it to decide, then wait until the mark is free."""
        topic = topic_of_user(session.user.id)
        loop = asyncio.get_running_loop()
        ref = next(self._refs)
        verdict = self._verdicts[ref] = loop.create_future()
        self._challenged[ref] = mark
        question = signals.encode(signals.Challenge(session.user.id, int(session.protocol), claimed_time, ref))
        ask_at = 0.0
        try:
            async with asyncio.timeout(_VERDICT_S):
                while not await self._bus.claim(mark):
                    if session.closed:  # another login on this worker has taken its place
                        raise Refused(ErrorCode.ALREADY_LOGGED_IN)
                    if loop.time() >= ask_at:  # again: the holder may not have heard us yet, or be another one by now
                        await self._bus.subscribe([topic])
                        self._bus.publish(topic, question)
                        ask_at = loop.time() + _ASK_AGAIN_S
                    await asyncio.wait([verdict], timeout=_MARK_POLL_S)
                    if verdict.done():
                        if not verdict.result():
                            raise KickedAtLogin
                        verdict = self._verdicts[ref] = loop.create_future()
        except TimeoutError:
            if session.protocol is Protocol.CHATSERVER:
                raise Refused(ErrorCode.ALREADY_LOGGED_IN) from None
            raise Unavailable("the worker with the old session does not answer") from None
        except KickedAtLogin:
            if session.protocol is Protocol.CHATSERVER:
                raise Refused(ErrorCode.ALREADY_LOGGED_IN) from None
            raise
        finally:
            del self._verdicts[ref], self._challenged[ref]
            if mark not in self._challenged.values() and not self._hub.of_user(session.user.id):
                self._bus.unsubscribe([topic])

    def challenged(self, challenge: signals.Challenge) -> None:
        """Another worker asks for a mark. Only the holder answers: two that wait for it would end each other."""
        mark = challenge.user_id << 2 | challenge.protocol
        holder = self._holders.get(mark)
        if holder is None or mark in self._challenged.values():
            return
        yielded = True
        if not holder.closed:
            try:
                self._settle(holder, challenge.first_login_time)
            except (Refused, KickedAtLogin):
                yielded = False
        answer = signals.encode(signals.Verdict(challenge.ref, yielded))
        self._bus.publish(topic_of_user(challenge.user_id), answer)

    def verdict(self, verdict: signals.Verdict) -> None:
        waiting = self._verdicts.get(verdict.ref)
        if waiting is not None and not waiting.done():
            waiting.set_result(verdict.yielded)

    # ---------------------------------------------------------------- out

    def left(self, peer: Peer) -> None:
        """The peer's session, if any, is over. Idempotent."""
        session = peer.session
        if session is None:
            return
        peer.session = None
        self.count -= 1
        self._delivery.detach(session)
        self._presence.unwatch(session)
        self._drop(session)
        self._store.saw(session.user.id, time.time_ns() // 1_000_000)
        self._chain.logged_out(session)

    def _drop(self, session: Session) -> None:
        """Free what the session holds; its mark only after its cursors are in the store, so that the next
        login elsewhere is not given again what this one acknowledged."""
        session.closed = True
        self._hub.remove(session)
        self._presence.changed(session.user.id)
        mark = mark_of(session.user, session.protocol)
        if self._holders.get(mark) is session:
            task = asyncio.get_running_loop().create_task(self._free(session, mark))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _free(self, session: Session, mark: int) -> None:
        try:
            await self._store.read(lambda tables: None)
        except Unavailable:
            self._log.warning("cursors may be behind", user=session.user.id)
        if self._holders.get(mark) is session:
            del self._holders[mark]
            self._bus.release(mark)

    def lost(self, mark: int) -> None:
        """Another worker holds this mark now: its session is the one that stays."""
        session = self._holders.get(mark)
        if session is not None and not session.closed:
            if session.peer.session is session:
                session.peer.push(Kicked(False, "logged in elsewhere"))
            self._end(session, Disconnect.KICKED_DUPLICATE)

    def end_own(self, user_id: UserId, protocol: Protocol) -> None:
        """The user ends their own session on another wire, wherever it is."""
        signal = signals.EndSession(user_id, int(protocol))
        self._bus.publish(topic_of_user(user_id), signals.encode(signal))
        self.kick(user_id, int(protocol), "ended by yourself")

    def kick(self, user_id: UserId, protocol: int, reason: str, *, by_admin: bool = False) -> int:
        """End the user's sessions on this worker, of one wire or (0) of every; returns how many."""
        chosen = [one for one in self._hub.of_user(user_id) if not protocol or one.protocol == protocol]
        for session in chosen:
            if session.peer.session is session:
                session.peer.push(Kicked(by_admin, reason))
            self._end(session, Disconnect.KICKED_BY_ADMIN if by_admin else Disconnect.KICKED_DUPLICATE)
        return len(chosen)


def _view(tables: Tables, user: User, limit: int, listing: bool) -> View:
    waiting = tables.waiting(user.id, limit)
    if tables.account("", user.id) is None:  # deleted while its password was checked
        raise Refused(ErrorCode.BAD_CREDENTIALS)
    requests, group_ids = tables.friend_requests(user.id, _REQUESTS), set(tables.group_ids(user.id))
    if not listing:
        return View([], requests, [], group_ids, waiting)
    return View(tables.friends(user.id), requests, tables.groups(user.id, _MEMBERS), group_ids, waiting)


def _named(view: View) -> set[UserId]:
    """Everybody the answer tells of."""
    members = (user.id for row in view.groups for user, _ in row.members)
    return {*(user.id for user in view.friends), *members}
