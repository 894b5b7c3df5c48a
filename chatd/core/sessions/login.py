"""How a session begins and ends.

Owns: Logins: the steps of a login, the end of a session for any reason, and ending it from outside.
Elsewhere: authentication (core.accounts), which session stays when a user logs in twice (core.sessions.exclusive),
what a session is given (core.delivery).
Fails: Refused, and Unavailable from the store or if the worker with the user's old session does not answer; the session
is then closed and nothing of it remains. A bus that is cut off does not keep anybody from logging in.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import NamedTuple

import msgspec

from chatd import security_log, wall_clock
from chatd.address_bans import Network, contains
from chatd.bus.contract import topic_of_user
from chatd.config.schema import Config
from chatd.core import bus_messages, consent, trail
from chatd.core.bus_messages import SessionEnded
from chatd.core.catch_up import mine
from chatd.core.delivery import Delivery
from chatd.core.event_notes import EventNotes
from chatd.core.login_guard import Asks, Attempt, LoginGuard
from chatd.core.memberships import ByGroup, Memberships, members_only, read_memberships
from chatd.core.plugins.pipeline import LoginFailure, PluginPipeline
from chatd.core.presence import Presence
from chatd.core.privacy import check_acknowledges, check_private
from chatd.core.proof import NotProved, Proved
from chatd.core.requests.notices import Notices, OpenAdmissions
from chatd.core.services import Services
from chatd.core.sessions.duplicate_login import ELSEWHERE, Outranked, end
from chatd.core.sessions.exclusive import SessionLocks
from chatd.core.sessions.expiry import Expiry
from chatd.core.sessions.session import Peer, Session, SessionState
from chatd.errors import Disconnect, ErrorCode, Refused, meaning
from chatd.model import Friend, FriendRequest, Group, Member, Protocol, User, UserId
from chatd.protocol import FriendRequested, Kicked, Login, LoginAccepted
from chatd.security_log import SecurityEvent
from chatd.store.contract import GroupRow, Tables, Waiting

_MAX_REQUESTS = 100
"""Friend requests, invitations, and requests to join groups that are told at login, of each kind. Requests such as
friend.list give all."""
_AHEAD_MS = 24 * 3600 * 1000
"""How far the time of a first login may lie in the future: it was given by another host, whose clock may differ. The
time of a later login is made from it by adding, and must never leave 64 bits."""
_MAX_MEMBERS = 1000
"""Group members listed at login, of all groups together."""


class View(NamedTuple):
    """What a login reads from the store, at one moment."""

    friends: list[User]
    requests: list[FriendRequest]
    groups: list[GroupRow]
    waiting: Waiting
    memberships: ByGroup
    """As they were after `waiting` was read."""
    admissions: OpenAdmissions = OpenAdmissions()
    """Empty for a client that cannot be told."""
    unseen: set[UserId] = set()  # noqa: RUF012  never changed
    """Friends and members who do not show the user whether they are online."""


class Which(NamedTuple):
    """Which sessions of a user are meant. protocol: of this wire; 0 = of all. older_s: only those that began at least
    this long ago. before: only those with an earlier version of the credentials; 0 = with any."""

    protocol: int = 0
    older_s: float = 0.0
    before: int = 0

    def includes(self, session: Session) -> bool:
        if self.before:
            return session.credentials < self.before
        of_wire = not self.protocol or session.protocol == self.protocol
        return of_wire and session.began_at <= time.monotonic() - self.older_s


class Listeners(NamedTuple):
    """Called when a session has begun or ended."""

    notices: Notices
    presence: Presence
    plugins: PluginPipeline
    events: EventNotes


class Logins:
    def __init__(
        self,
        services: Services,
        delivery: Delivery,
        memberships: Memberships,
        listeners: Listeners,
        guard: LoginGuard,
    ) -> None:
        self._services = services
        self._accounts = guard.accounts
        self._delivery = delivery
        self._memberships = memberships
        self._notices, self._presence, self._plugins, self._events = listeners
        self._guard = guard
        self.locks = SessionLocks(services)
        self.expiry = Expiry()
        self.by_wire: Counter[Protocol] = Counter()
        """Sessions of this worker, by their wire."""

    @property
    def count(self) -> int:
        """Sessions of this worker."""
        return self.by_wire.total()

    # ---------------------------------------------------------------- in

    async def login(self, peer: Peer, command: Login) -> None:
        """Returns with the login answer queued.

        Raises:
            Refused: wrong name or secret, logged in elsewhere, refused by a plug-in, ended meanwhile, busy; a
                connection without TLS, or a client that does not acknowledge (core.privacy).
            Unavailable: from the store, or the worker with the user's old session does not answer.
        """
        session = peer.session
        attempt = self._guard.attempt(peer)
        try:
            if session is not None:
                await self._repeat(peer, session, command)
                return
            check_private(peer, self._services.config())
            check_acknowledges(peer, command)
            proved = await self._authenticate(attempt, command)
            await self._begin(peer, command, proved)
        except Refused as refused:
            self.refused(attempt, command, refused)
            raise
        self._guard.succeeded(attempt, proved.account.user.id)

    async def prove(self, peer: Peer, command: Login) -> Proved:
        """Whom a login lets in that begins no session, because its client is no client of a chat. Everything that keeps
        strangers out of login() holds here, too. Raises: Refused, Unavailable, as login()."""
        attempt = self._guard.attempt(peer)
        try:
            check_private(peer, self._services.config())
            proved = await self._authenticate(attempt, command)
        except Refused as refused:
            self.refused(attempt, command, refused)
            raise
        user = proved.account.user
        trail.record(SecurityEvent.LOGIN, peer, name=user.name, user=user.id)
        self._guard.succeeded(attempt, user.id)
        return proved

    def refused(self, attempt: Attempt, command: Login, refused: Refused) -> None:
        """Record it in the security trail, and tell plug-ins."""
        peer, session = attempt.peer, attempt.peer.session
        named = session.user if session else attempt.account.user if attempt.account else None
        reason = _record_refused(peer, command, named, refused)
        self._plugins.login_failed(peer, command, named, LoginFailure(refused.code, reason))

    async def _authenticate(self, attempt: Attempt, command: Login) -> Proved:
        """Raises Refused, Unavailable."""
        peer = attempt.peer
        asks = Asks(lambda: self._ask_plugins(attempt, command), lambda name: self._plugins.before_register(peer, name))
        proved = await self._guard.authenticate(attempt, command, asks)
        if proved.is_new:
            user = proved.account.user
            trail.record(SecurityEvent.REGISTERED, peer, reason="first_login", name=user.name, user=user.id)
        attempt.account = proved.account
        return proved

    async def _ask_plugins(self, attempt: Attempt, command: Login) -> None:
        """Raises Refused."""
        account, peer = attempt.account, attempt.peer
        if account is not None or "open" not in self._services.config().accounts.kinds:
            await self._plugins.before_login(peer, command, account.user if account else None)
        else:
            name = self._accounts.name_to_open(command)
            await self._plugins.before_login(peer, msgspec.structs.replace(command, name=name), None)
            await self._plugins.before_register(peer, name)

    async def _begin(self, peer: Peer, command: Login, proved: Proved) -> None:
        """The session of an authenticated user. Raises Refused, Unavailable."""
        user = proved.account.user
        fresh = command.first_login_time <= 0
        now_ms = wall_clock.now_ms()
        if command.first_login_time > now_ms + _AHEAD_MS:
            raise Refused(ErrorCode.BAD_FIELD, "firstLoginTime lies in the future")
        first_login_time = now_ms if fresh else command.first_login_time
        session = Session(user, peer, first_login_time, fresh=fresh, by_seq=command.acks)
        session.credentials = proved.account.credentials
        session.features = int(command.features or 0)
        session.takes_over = command.takeover
        session.allowance = self._services.allowances.of(user.id)
        session.buffer = []
        try:
            await self.locks.take(session)
            view, online = await self._read(peer, session, told=peer.traits.server_texts or command.requests)
        except Outranked:
            self._drop(session)
            elsewhere = "logged_in_elsewhere"
            trail.record(SecurityEvent.LOGIN_REFUSED, peer, reason=elsewhere, name=user.name, user=user.id)
            peer.push(Kicked(False, ELSEWHERE))
            peer.close(Disconnect.KICKED_DUPLICATE)
        except BaseException:
            self._drop(session)
            raise
        else:
            self._open(peer, session, command, view, online)
            self.expiry.watch(session, proved.ends_at_ms)

    async def _repeat(self, peer: Peer, session: Session, command: Login) -> None:
        """COMPAT: MobileIMSDK clients log in again on a live connection and expect code 0. A plug-in that no longer
        lets the user in ends the session."""
        is_renewed = await self._renew(session, command)
        if not (peer.traits.repeats_login or is_renewed) or not await self.names_user_of(session, command):
            raise Refused(ErrorCode.ALREADY_LOGGED_IN)
        try:
            await self._plugins.before_login(peer, command, session.user)
        except Refused as refused:
            if not meaning(refused.code).temporary:
                self.left(peer)
            raise
        session.features = int(command.features or 0)
        peer.push(LoginAccepted(session.user, session.first_login_time, features=command.features))

    async def _renew(self, session: Session, command: Login) -> bool:
        """Whether the session lasts longer by the token of a repeated login. Never raises."""
        if not self.expiry.end_of(session):
            return False
        ends_at_ms = await self._guard.authentication.fresh_end_ms(command, session.user.name)
        if ends_at_ms <= self.expiry.end_of(session):
            return False
        self.expiry.watch(session, ends_at_ms)
        return not session.is_over

    async def names_user_of(self, session: Session, command: Login) -> bool:
        """Whether a login names the account that is logged in here: by its name in any spelling, or by its number.
        Raises Unavailable; not for the name as it is, so that a session survives a store that does not answer."""
        return command.name == session.user.name or await self._accounts.is_account_of(command, session.user)

    async def _read(self, peer: Peer, session: Session, *, told: bool) -> tuple[View, set[UserId]]:
        """The contents of the login answer, and which of its users are online. told: the client will understand
        notices. Raises Refused, Unavailable."""
        user = session.user
        found = await self._services.store.read(partial(read_memberships, user_ids=[user.id]))
        await self._services.hub.add(session, found[user.id])
        before = dict(session.groups or {})
        config, listing = self._services.config(), peer.traits.lists_contacts

        def look(tables: Tables) -> View:
            view = _view(tables, session, config, listing)
            return view._replace(admissions=_open_admissions(tables, user.id)) if told else view

        view = await self._services.store.read(look)
        if entered := self._memberships.take(session, before, view.memberships):
            await self._services.hub.subscribe(entered)
            session.behind = True
        online = await self._services.hub.online(_named(view) - view.unseen)
        if session.is_over or peer.closed:  # kicked, or the peer left, while we were reading
            raise Refused(ErrorCode.ALREADY_LOGGED_IN)
        return view._replace(waiting=members_only(view.waiting, session, before, view.memberships)), online

    def _open(self, peer: Peer, session: Session, command: Login, view: View, online: set[UserId]) -> None:
        """Make the session live: the login answer, then the messages that wait."""
        user = session.user
        session.enter(SessionState.LIVE)
        peer.session = session
        self.by_wire[session.protocol] += 1
        self._plugins.logged_in(session)  # first: what is sent below may end the session
        self._events.logged_in(session)
        told, told_at = peer.push_login(self._answer(session, command, view, online))
        if peer.traits.server_texts:
            for request in view.requests:
                self._notices.friend_requested(session, FriendRequested(request))
            self._notices.still_open(session, view.admissions)
        self._delivery.catch_up.merge(session, view.waiting, told, told_at)
        self._presence.changed(user.id)
        trail.record(SecurityEvent.LOGIN, peer, name=user.name, user=user.id)

    def _answer(self, session: Session, command: Login, view: View, online: set[UserId]) -> LoginAccepted:
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
        waiting = tuple(
            self._delivery.recent.latest(message)
            for message in view.waiting.messages
            if not mine(message, session) and (message.conversation, message.seq) not in view.waiting.deleted
        )
        return LoginAccepted(
            user=session.user,
            first_login_time=session.first_login_time,
            friends=friends,
            groups=groups,
            requests=tuple(view.requests),
            waiting=waiting,
            features=command.features,
            links={
                (one.conversation, one.seq): self._delivery.in_flight.links_of(one)
                for one in waiting
                if one.attachments
            },
        )

    # ---------------------------------------------------------------- out

    def left(self, peer: Peer) -> None:
        """The peer's session, if it has one, is over. May be called twice."""
        session = peer.session
        if session is None:
            return
        peer.session = None
        self.by_wire[session.protocol] -= 1
        self.expiry.forget(session)
        session.enter(SessionState.CLOSING)
        self._delivery.detach(session)
        self._presence.unwatch(session)
        self._drop(session)
        self._services.store.saw(session.user.id, wall_clock.now_ms())
        self._plugins.logged_out(session)
        self._events.logged_out(session)

    def _drop(self, session: Session) -> None:
        """Take back everything the session holds. Once per session."""
        if session.state is SessionState.LOGGING_IN:
            session.enter(SessionState.CLOSING)
        self._services.hub.remove(session)
        self._presence.changed(session.user.id)
        self._services.background.start(self._release(session))

    async def _release(self, session: Session) -> None:
        """Its cursors are stored, then its lock is released."""
        await self.locks.release(session)
        session.enter(SessionState.CLOSED)

    def log_out(self, session: Session) -> None:
        """The client has sent Logout."""
        if session.peer.traits.logout_closes:
            session.peer.close(Disconnect.LOGGED_OUT)
        else:
            self.left(session.peer)

    def end_own(self, user_id: UserId, protocol: Protocol) -> None:
        """The user ends their own session on another wire, on any worker."""
        ended = SessionEnded(user_id, int(protocol))
        self._services.bus.publish(topic_of_user(user_id), bus_messages.encode(ended))
        self.end_own_here(ended)

    def end_own_here(self, ended: SessionEnded) -> None:
        """The same, on this worker; or what the user's changed password ends."""
        if ended.credentials:
            self.end_outdated(ended.user_id, ended.credentials)
        else:
            self.kick(ended.user_id, Which(protocol=ended.protocol), "ended by yourself", Disconnect.KICKED_DUPLICATE)

    def end_outdated(self, user_id: UserId, version: int) -> int:
        """The user's credentials have this version now: end the sessions on this worker that have an earlier one. Gives
        how many."""
        how = Disconnect.CREDENTIALS_CHANGED
        ended = self.kick(user_id, Which(before=version), how.text, how)
        if ended:
            security_log.record(SecurityEvent.SESSIONS_ENDED, user=user_id, sessions=ended)
        return ended

    def end_expired(self) -> None:
        """About twenty times a second: end the sessions whose token has expired."""
        for session in (due := self.expiry.due(wall_clock.now_ms())):
            security_log.record(SecurityEvent.SESSIONS_ENDED, user=session.user.id, sessions=1, reason="token_expired")
        _end(due, Disconnect.TOKEN_EXPIRED.text, Disconnect.TOKEN_EXPIRED)

    def kick(self, user_id: UserId, which: Which, reason: str, how: Disconnect) -> int:
        """End sessions of the user on this worker. Gives how many. reason: told to their clients. how: one of
        KICKED_DUPLICATE, KICKED_BY_ADMIN and CREDENTIALS_CHANGED."""
        return _end([one for one in self._services.hub.of_user(user_id) if which.includes(one)], reason, how)

    def kick_from(self, network: Network, which: Which, reason: str) -> int:
        """End sessions of all users on this worker whose clients are in this network, by KICKED_BY_ADMIN. Gives how
        many. Cost: some microseconds per session of this worker."""
        chosen = [
            one for one in self._services.hub.sessions() if which.includes(one) and contains(network, one.peer.remote)
        ]
        return _end(chosen, reason, Disconnect.KICKED_BY_ADMIN)


def _end(chosen: list[Session], reason: str, how: Disconnect) -> int:
    for session in chosen:
        if session.has_client:
            session.peer.push(Kicked(how is not Disconnect.KICKED_DUPLICATE, reason))
        end(session, how)
    return len(chosen)


def _record_refused(peer: Peer, command: Login, user: User | None, refused: Refused) -> str:
    """user: whose account the login names. The reason, as a fixed word."""
    name, user_id = command.name or (user.name if user else ""), user.id if user else 0
    event, reason = SecurityEvent.LOGIN_REFUSED, trail.reason_of(refused)
    if refused.code == ErrorCode.BAD_CREDENTIALS:
        event, reason = SecurityEvent.LOGIN_FAILED, "wrong_password" if user else "unknown_user"
    if isinstance(refused, NotProved):
        reason = refused.reason
    trail.record(event, peer, reason=reason, name=name, user=user_id)
    return reason


def _view(tables: Tables, session: Session, config: Config, listing: bool) -> View:
    """listing: also friends and groups. Raises Refused."""
    user = session.user
    waiting = tables.history.waiting(user.id, config.limits.in_flight)
    waiting = waiting._replace(deleted=tables.revisions.deleted(user.id, waiting.messages))
    account = tables.accounts.find("", user.id)
    if account is None or account.credentials != session.credentials:  # changed after the password was verified
        raise Refused(ErrorCode.BAD_CREDENTIALS)
    requests, memberships = (
        tables.friends.requests_to(user.id, _MAX_REQUESTS),
        read_memberships(tables, [user.id])[user.id],
    )
    if not listing:
        return View([], requests, [], waiting, memberships)
    view = View(tables.friends.of(user.id), requests, tables.groups.of(user.id, _MAX_MEMBERS), waiting, memberships)
    return view._replace(unseen=consent.unseen(tables, config, user.id, _named(view)))


def _open_admissions(tables: Tables, user_id: UserId) -> OpenAdmissions:
    admission = tables.admission
    return OpenAdmissions(
        admission.invitations(user_id, 0, _MAX_REQUESTS), admission.requests_to(user_id, _MAX_REQUESTS)
    )


def _named(view: View) -> set[UserId]:
    """The users whose presence the answer tells."""
    members = (user.id for row in view.groups for user, _ in row.members)
    return {*(user.id for user in view.friends), *members}
