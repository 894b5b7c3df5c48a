"""Commands to handlers: the gates, then a table.

Owns: Core, which ties the parts of core together; what is allowed before login; what an error becomes.
Elsewhere: what each command does (accounts, login, messages, friends, groups, delivery).
Fails: never towards its caller. Refused and Unavailable become a Failed event; anything else is a bug:
logged once with its traceback, the peer sees INTERNAL, the worker lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from chatd import log
from chatd.background import BackgroundTasks
from chatd.bus.contract import EVERYBODY, Bus, Topic
from chatd.bus.survey import Surveys
from chatd.config.schema import Config
from chatd.core import bus_messages
from chatd.core.accounts import Accounts
from chatd.core.delivery import Delivery
from chatd.core.friends import Friends
from chatd.core.groups import Groups
from chatd.core.memberships import Memberships
from chatd.core.messages import Messages
from chatd.core.plugins.contract import Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.plugins.plugin import Plugin
from chatd.core.presence import Presence
from chatd.core.requests.dispatch import Requests
from chatd.core.requests.groups import GroupRequests
from chatd.core.requests.history import HistoryRequests
from chatd.core.requests.notices import Notices
from chatd.core.requests.people import Parts, PeopleRequests
from chatd.core.services import Services
from chatd.core.sessions.hub import Hub
from chatd.core.sessions.kick import Kicks
from chatd.core.sessions.login import Listeners, Logins
from chatd.core.sessions.query import SessionQuery
from chatd.core.sessions.session import Peer, Session
from chatd.errors import MEANINGS, Disconnect, ErrorCode, Refused, Unavailable
from chatd.protocol import (
    Acknowledge,
    AddFriend,
    AnswerFriend,
    Command,
    CreateGroup,
    Echo,
    Echoed,
    Failed,
    JoinGroup,
    KeepAlive,
    KeptAlive,
    Login,
    Logout,
    Malformed,
    Register,
    Registered,
    SendMessage,
    ServerRequest,
)
from chatd.scoreboard import Row
from chatd.store.contract import Tables
from chatd.store.group_commit import GroupCommit

_PROBE_ROUNDS = 3

_Slow = Callable[[Peer, Any], Awaitable[None]]
_OfSession = Callable[[Session, Any], Awaitable[None]]
_Quick = Callable[[Peer, Any], None]


class Core:
    """One worker's chat. `config` gives the configuration in force."""

    def __init__(
        self,
        tables: Tables,
        bus: Bus,
        config: Callable[[], Config],
        row: Row,
        loop: asyncio.AbstractEventLoop,
        plugins: Sequence[Plugin] = (),
        readers: Sequence[Tables] = (),
    ) -> None:
        self._config = config
        self._row = row
        self._rounds = 0
        self._probing = False
        self._bus = bus
        self._log = log.get()
        self.store = GroupCommit(tables, loop, row, self._results, readers)
        self.hub = Hub(bus)
        self._background = BackgroundTasks(loop)
        self.surveys = Surveys(bus)
        services = Services(
            store=self.store,
            bus=bus,
            hub=self.hub,
            loop=loop,
            config=config,
            log=self._log,
            surveys=self.surveys,
            background=self._background,
        )
        self._memberships = Memberships(services)
        self.delivery = Delivery(services, self._memberships)
        self.plugins = PluginPipeline(plugins, services)
        self._messages = Messages(self.delivery, config, self.plugins.stored())
        self._accounts = Accounts(self.store, config)
        notices = Notices(self.delivery)
        self._presence = Presence(services, notices)
        listeners = Listeners(notices, self._presence, self.plugins)
        self.logins = Logins(services, self._accounts, self.delivery, self._memberships, listeners)
        self._friends = Friends(services, notices, self._presence)
        self._groups = Groups(services, self._memberships, notices, self._presence)
        self._history = HistoryRequests(services, notices)
        self._session_query = SessionQuery(services)
        self.kicks = Kicks(services, self.logins)
        people = PeopleRequests(
            Parts(
                self.store,
                self.hub,
                self._friends,
                self._presence,
                self._accounts,
                self.logins,
                self._session_query,
                config,
            )
        )
        table = people.table() | GroupRequests(self.store, self.hub, self._groups).table() | self._history.table()
        self.requests = Requests(table, notices, self.store, self.plugins)
        self._anyone: dict[type, _Quick] = {Echo: self._echo, Malformed: self._malformed}
        self._quick: dict[type, _Quick] = {
            SendMessage: self._not_logged_in,
            Acknowledge: self._not_logged_in,
            KeepAlive: self._keep_alive,
            Logout: self._logout,
        }
        self._anyone_slow: dict[type, _Slow] = {Login: self.logins.login, Register: self._register}
        self._slow: dict[type, _OfSession] = {
            ServerRequest: self.requests.serve,
            AddFriend: self._friends.add,
            AnswerFriend: self._friends.answer,
            CreateGroup: self._groups.create,
            JoinGroup: self._groups.join,
        }
        self._at_once: type = SendMessage
        if self.plugins.has(Point.BEFORE_MESSAGE):
            self._at_once = Acknowledge
            del self._quick[SendMessage]
            self._slow[SendMessage] = self._ask_and_send

    # ---------------------------------------------------------------- commands

    def handle(self, peer: Peer, command: Command) -> Awaitable[None] | None:
        """Serve one command. What is returned must be awaited before the peer's next command is handled."""
        kind = type(command)
        session = peer.session
        if session is not None and (kind is self._at_once or kind is Acknowledge):
            self._quickly(session, command)
            return None
        if (quick := self._quick.get(kind)) is not None:
            if peer.session is None:
                self._not_logged_in(peer, command)
                return None
            self._now(quick, peer, command)
            return None
        if (quick := self._anyone.get(kind)) is not None:
            self._now(quick, peer, command)
            return None
        if (slow := self._anyone_slow.get(kind)) is not None:
            return self._later(slow, peer, command)
        if session is None:
            self._not_logged_in(peer, command)
            return None
        return self._later(self._slow[kind], session, command)

    def _quickly(self, session: Session, command: Command) -> None:
        """The two commands nearly all are."""
        try:
            if type(command) is SendMessage:
                if command.claimed is not None:
                    self._check_claimed(session.peer, command)
                self._messages.send(self.store, session, command)
            else:
                self.delivery.acknowledged(session, command.fp)  # type: ignore[union-attr]
        except Refused as refused:
            session.peer.push(Failed(refused.code, refused.text, command))
        except Exception as error:  # noqa: BLE001  the one place where a bug ends
            self._bug(session.peer, command, error)

    def _now(self, handler: _Quick, peer: Peer, command: Command) -> None:
        try:
            self._check_claimed(peer, command)
            handler(peer, command)
        except Refused as refused:
            peer.push(Failed(refused.code, refused.text, command))
        except Exception as error:  # noqa: BLE001  the one place where a bug ends
            self._bug(peer, command, error)

    async def _later(self, handler: _Slow | _OfSession, whose: Peer | Session, command: Command) -> None:
        """The session may end while this waits; what it asked for is done all the same."""
        peer = whose.peer if isinstance(whose, Session) else whose
        try:
            self._check_claimed(peer, command)
            await handler(whose, command)  # type: ignore[arg-type]
        except Refused as refused:
            self._failed(peer, command, refused.code, refused.text)
        except Unavailable:
            self._failed(peer, command, ErrorCode.UNAVAILABLE, MEANINGS[ErrorCode.UNAVAILABLE].text)
        except Exception as error:  # noqa: BLE001  the one place where a bug ends
            self._bug(peer, command, error)

    async def _ask_and_send(self, session: Session, command: SendMessage) -> None:
        self._messages.send(self.store, session, await self.plugins.before_message(session, command))

    def _failed(self, peer: Peer, command: Command, code: int, text: str) -> None:
        peer.push(Failed(code, text, command))
        if type(command) is Login and peer.traits.refusal_closes and peer.session is None:
            peer.close(Disconnect.LOGIN_REFUSED)

    def _bug(self, peer: Peer, command: Command, error: Exception) -> None:
        session = peer.session
        self._log.error(
            "bug",
            command=type(command).__name__,
            user=session.user.id if session else 0,
            peer=peer.remote,
            exc_info=error,
        )
        peer.push(Failed(ErrorCode.INTERNAL, MEANINGS[ErrorCode.INTERNAL].text, command))

    def _check_claimed(self, peer: Peer, command: Command) -> None:
        claimed = getattr(command, "claimed", None)
        if claimed is not None and peer.session is not None and claimed != peer.session.user.id:
            self._log.warning(
                "claimed identity refused",
                user=peer.session.user.id,
                claimed=claimed,
                command=type(command).__name__,
                peer=peer.remote,
            )
            raise Refused(ErrorCode.CLAIMED_IDENTITY)

    def _not_logged_in(self, peer: Peer, command: Command) -> None:
        peer.push(Failed(ErrorCode.NOT_LOGGED_IN, MEANINGS[ErrorCode.NOT_LOGGED_IN].text, command))
        if peer.traits.refusal_closes:
            peer.close(Disconnect.NOT_LOGGED_IN)

    # ---------------------------------------------------------------- what connections tell

    def check_receipts(self, session: Session) -> None:
        """Take what the session's peer has acknowledged by now as delivered."""
        self.delivery.receipts(session)

    def disconnected(self, peer: Peer) -> None:
        """The connection is over, and its session with it. Idempotent."""
        self.logins.left(peer)

    # ---------------------------------------------------------------- handlers

    def _keep_alive(self, peer: Peer, command: KeepAlive) -> None:
        peer.push(KeptAlive())

    def _echo(self, peer: Peer, command: Echo) -> None:
        peer.push(Echoed(command.raw))

    def _malformed(self, peer: Peer, command: Malformed) -> None:
        peer.push(Failed(command.code, command.text, command, command.ref))

    def _logout(self, peer: Peer, command: Logout) -> None:
        if peer.traits.logout_closes:
            peer.close(Disconnect.LOGGED_OUT)
        else:
            self.logins.left(peer)

    async def _register(self, peer: Peer, command: Register) -> None:
        peer.push(Registered(await self._accounts.register(command)))

    def _results(self, drafts: list[Any], origins: list[Any], results: list[Any]) -> None:
        self._messages.results(drafts, origins, results)

    # ---------------------------------------------------------------- the bus and the clock

    async def open(self) -> None:
        await self._bus.open(self.signal, self._gap, self.logins.locks.lost)
        await self._bus.subscribe([EVERYBODY])

    def _gap(self) -> None:
        """Something of another worker may have been missed."""
        self.delivery.gap()
        self._memberships.gap()
        self._presence.gap()
        self.logins.locks.gap()

    def signal(self, topic: Topic, data: bytes) -> None:
        """What another worker says."""
        try:
            signal = bus_messages.decode(data)
        except msgspec.DecodeError as error:
            self._log.debug("signal not understood", why=str(error))  # of a later version
            return
        match signal:
            case bus_messages.MessageStored(message, members_version):
                self.delivery.arrived(message, members_version)
            case bus_messages.SessionChallenge():
                self.logins.locks.challenged(signal)
            case bus_messages.GroupJoined():
                self._background.start(self._groups.joined(signal))
            case bus_messages.GroupLeft():
                self._groups.left(signal)
            case bus_messages.GroupNotice():
                self._groups.news(signal)
            case bus_messages.UserNotice():
                self._history.heard(signal)
            case bus_messages.PresenceChanged():
                self._presence.heard(signal)
            case bus_messages.SessionEnded(user_id, protocol):
                self.logins.kick(user_id, protocol, "ended by yourself")
            case bus_messages.SessionsAsked():
                self._session_query.asked(signal)
            case bus_messages.KickAsked():
                self.kicks.asked(signal)
            case bus_messages.SessionVerdict() | bus_messages.SessionsAnswered() | bus_messages.KickAnswered():
                self.surveys.answered(signal.ref, signal)
            case bus_messages.FriendRequestSent() | bus_messages.FriendRequestAnswered():
                self._friends.heard(signal)

    def round(self) -> None:
        """Once a second."""
        self.delivery.resend()
        self._presence.round()
        self._rounds += 1
        if self._rounds % _PROBE_ROUNDS == 0 and not self._probing:
            self._probing = True
            self._background.start(self._probe())

    async def _probe(self) -> None:
        """Whether the store answers is to be known also where nobody asks it anything."""
        try:
            await self.store.read(lambda tables: tables.accounts.last_seen(0))
        except Unavailable as error:
            self._log.warning("the store does not answer", why=str(error))
        finally:
            self._probing = False

    def tick(self) -> None:
        """Some ten times a second."""
        self.store.tick(self._config().timeouts.store_s)
        self.delivery.sweep_receipts()
        self.delivery.work_off_gap()
        self.delivery.work_off_behind()
        self.logins.locks.tick()
        row = self._row
        row.sessions = self.logins.count
        row.messages_in = self._messages.stored
        row.messages_out = self.delivery.given
        self.plugins.report(row)
