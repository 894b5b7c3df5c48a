"""The chat of one worker: its parts, put together.

Owns: Core: which parts there are, which handler serves which command, which part receives which message of the bus, and
the work of every tick of the worker's clock.
Elsewhere: what each part does; calling the handlers (core.dispatcher); sockets (net); the implementations of store and
bus (worker).
Fails: open() raises Unavailable from the bus. Nothing else raises.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from chatd import log
from chatd.background import BackgroundTasks
from chatd.bus.contract import EVERYBODY, Topic
from chatd.bus.survey import Surveys
from chatd.core import bus_messages, refusals
from chatd.core.accounts import Accounts
from chatd.core.administration import Administration
from chatd.core.administrators import Administrators
from chatd.core.allowance import ASK_FRIEND, CREATE_GROUP, FREE, JOIN, LOGIN_AGAIN, MESSAGE, WRITE
from chatd.core.allowances import Allowances
from chatd.core.authentication import Authentication
from chatd.core.bans import BanWatch
from chatd.core.blocks import Blocks
from chatd.core.bus_messages import MessageStored
from chatd.core.calls import Calls
from chatd.core.changes import Changes
from chatd.core.cut_notices import CutNotices
from chatd.core.delivery import Delivery
from chatd.core.delivery_delay import DeliveryDelay
from chatd.core.dispatcher import Dispatcher, Handler
from chatd.core.elsewhere import Elsewhere, ElsewhereSending
from chatd.core.event_notes import EventNotes
from chatd.core.figures import Figures
from chatd.core.file_addresses import FileAddresses
from chatd.core.friends import Friends
from chatd.core.groups.groups import Groups
from chatd.core.groups.notify import GroupNotify
from chatd.core.key_ring import KeyRing
from chatd.core.login_guard import LoginGuard
from chatd.core.memberships import Memberships
from chatd.core.messages import Messages
from chatd.core.parts import CoreParts
from chatd.core.passes import Passes
from chatd.core.penalties import Penalties
from chatd.core.penalty_clearing import PenaltyClearing
from chatd.core.penalty_exchange import PenaltyExchange
from chatd.core.plugins.contract import Point
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.presence import Presence
from chatd.core.registration import Registration
from chatd.core.requests.changes import ChangeOperations
from chatd.core.requests.consent import ConsentOperations
from chatd.core.requests.delivered_notices import DeliveredNotices
from chatd.core.requests.dispatch import OperationTable, RequestDispatcher
from chatd.core.requests.files import FileOperations
from chatd.core.requests.friends import FriendOperations
from chatd.core.requests.group_admission import GroupAdmissionOperations
from chatd.core.requests.groups import GroupOperations
from chatd.core.requests.history import HistoryOperations
from chatd.core.requests.notices import Notices
from chatd.core.requests.profile import ProfileOperations
from chatd.core.requests.push import PushOperations
from chatd.core.requests.sessions import SessionOperations
from chatd.core.requests.typing_notices import TypingOperations
from chatd.core.retention import Retention
from chatd.core.sending_rules import CurrentRules
from chatd.core.services import Services
from chatd.core.sessions.arrivals import Arrivals
from chatd.core.sessions.broadcast import Broadcasts
from chatd.core.sessions.credentials import CredentialsWatch
from chatd.core.sessions.departures import Departures
from chatd.core.sessions.hub import Hub
from chatd.core.sessions.kick import SessionKicks
from chatd.core.sessions.listing import SessionListing
from chatd.core.sessions.login import Listeners, Logins
from chatd.core.sessions.moving_parts import MovingParts
from chatd.core.sessions.query import SessionQuery
from chatd.core.sessions.session import Peer, Session
from chatd.core.store_probe import StoreProbe
from chatd.core.tracing import Tracing
from chatd.core.uploads import Uploads
from chatd.errors import Unavailable
from chatd.model import UserId
from chatd.protocol import (
    Acknowledge,
    AddFriend,
    AnswerFriend,
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
    Received,
    Register,
    Registered,
    SendMessage,
    ServerRequest,
)
from chatd.store.group_commit import Connections, GroupCommit

_REOPEN_S = 0.5
"""Pause between two attempts to read what must be known before the first login."""
_COSTS_ROUNDS = 600
"""Rounds between two looks at what the passwords of the store's accounts cost."""


class Core:
    """One worker's chat. Everything is called from the worker's loop.

    services: what its parts share, for what is built upon it.
    _rounds: calls of round(), to look at the costs of passwords every _COSTS_ROUNDS.
    """

    def __init__(self, parts: CoreParts) -> None:
        self._row, self._config = parts.row, parts.config
        self._bus = parts.bus
        self._log = log.get()
        self._rounds = 0
        self._background = BackgroundTasks(parts.loop)
        stores = Connections(parts.tables, parts.readers)
        results: Callable[..., None] = lambda *batch: self.messages.results(*batch)  # noqa: E731
        self.store = GroupCommit(stores, parts.loop, parts.row, results, CurrentRules(parts.config))
        self.hub = Hub(parts.bus)
        self.surveys = Surveys(parts.bus)
        self.tracing = Tracing(DeliveryDelay(parts.loop.call_soon, parts.row))
        self.allowances = Allowances(parts.config, self.hub, parts.bus, parts.row, parts.loop)
        services = self.services = self._services(parts)
        self.memberships = Memberships(services)
        self.delivery = Delivery(services, self.memberships)
        self.plugins = PluginPipeline(parts.plugins, services)
        self.events = EventNotes(services, self.plugins.absent)
        self.messages = Messages(services, self.delivery, self.events.stored(self.plugins.stored()))
        self.accounts = Accounts(services)
        self.penalties = Penalties(parts.penalty_table, parts.config)
        self.tokens = parts.tokens
        self.passes = Passes(services, self.accounts)
        self.file_addresses = FileAddresses(services, self.accounts)
        self.delivery.in_flight.links_of = self.file_addresses.links
        authentication = Authentication(services, self.accounts, self.passes, parts.tokens, parts.backend)
        self.guard = LoginGuard(services, self.accounts, self.penalties, authentication)
        self.exchange = PenaltyExchange(services, self.penalties) if parts.many_hosts else None
        self.clearing = PenaltyClearing(services, self.penalties, self.exchange)
        self.registration = Registration(services, self.accounts, self.plugins, self.guard)
        notices = self._notices = Notices(services, self.delivery)
        self.presence = Presence(services, notices)
        listeners = Listeners(notices, self.presence, self.plugins, self.events)
        self.logins = Logins(services, self.delivery, self.memberships, listeners, self.guard)
        self.friends = Friends(services, notices, self.presence, self.plugins)
        self.groups = Groups(services, GroupNotify(services, self.memberships, notices, self.presence), self.plugins)
        self.blocks = Blocks(services, self.plugins)
        self.kicks = SessionKicks(services, self.logins)
        self.administration = Administration(services, self.accounts, self.kicks)
        self.administrators = Administrators(services, self.logins, self.guard)
        moving = MovingParts(
            services=services, delivery=self.delivery, logins=self.logins, presence=self.presence, guard=self.guard
        )
        self.departures, self.arrivals = Departures(moving), Arrivals(moving)
        self.broadcasts = Broadcasts(services, notices)
        self.departures.tell_broadcasts = self.broadcasts.tell_now
        self.arrivals.on_broadcasts = self.broadcasts.told_before
        self.bans = BanWatch(services, parts.address_bans)
        self._credentials = CredentialsWatch(services, self.logins, self.kicks.ended_before)
        self.session_query = SessionQuery(services)
        self.session_listing = SessionListing(services)
        self.figures = Figures(services, parts.address_bans, self.logins, self.messages, self.delivery)
        self._probe = StoreProbe(self.store, self._background)
        self._retention = Retention(services, parts.row, content=parts.files)
        self.uploads = Uploads(services, parts.files)
        self.changes = Changes(services, self.delivery, self.memberships, notices)
        self.delivery.in_flight.on_cut = CutNotices(services, notices).given
        self.requests = RequestDispatcher(services, self._operations(services, notices), notices, self.plugins)
        self.dispatcher = Dispatcher(self._commands(parts.elsewhere), self.guard.answered, self.allowances, parts.row)
        self.handle = self.dispatcher.handle
        self.calls = Calls(services, self.handle)
        self.keys = KeyRing(services)
        self._credentials.on_change = self.kicks.on_credentials = self.calls.forget
        self._on_bus_message = self._bus_messages()

    def _services(self, parts: CoreParts) -> Services:
        return Services(
            store=self.store,
            bus=parts.bus,
            hub=self.hub,
            loop=parts.loop,
            config=parts.config,
            log=self._log,
            surveys=self.surveys,
            allowances=self.allowances,
            row=parts.row,
            background=self._background,
            tracing=self.tracing,
            slot=parts.slot,
            leads=parts.leads,
        )

    # ---------------------------------------------------------------- commands

    def _commands(self, elsewhere: Elsewhere | None) -> dict[type[Any], Handler]:
        send = Handler(self.messages.send, cost=MESSAGE)
        if self.plugins.has(Point.BEFORE_MESSAGE):
            send = Handler(self._ask_plugins_and_send, is_async=True, cost=MESSAGE)
        if elsewhere is not None:
            send = send._replace(function=ElsewhereSending(elsewhere, send.function).send, is_async=True)
        acknowledged, received = self.delivery.in_flight.acknowledged, self.delivery.in_flight.received
        return {
            SendMessage: send,
            Acknowledge: Handler(lambda session, command: acknowledged(session, command.fp), cost=FREE),
            Received: Handler(lambda session, one: received(session, one.conversation, one.seq), cost=FREE),
            KeepAlive: Handler(lambda session, command: session.peer.push(KeptAlive())),
            Logout: Handler(lambda session, command: self.logins.log_out(session), cost=FREE),
            ServerRequest: Handler(self.requests.serve, is_async=True),
            AddFriend: Handler(self.friends.add, is_async=True, cost=ASK_FRIEND),
            AnswerFriend: Handler(self.friends.answer, is_async=True, cost=WRITE),
            CreateGroup: Handler(self.groups.settings.create, is_async=True, cost=CREATE_GROUP),
            JoinGroup: Handler(self.groups.admission.join, is_async=True, cost=JOIN),
            Login: Handler(self._login, needs_login=False, is_async=True, cost=LOGIN_AGAIN),
            Register: Handler(self._register, needs_login=False, is_async=True),
            Echo: Handler(lambda peer, command: peer.push(Echoed(command.raw)), needs_login=False),
            Malformed: Handler(self._malformed, needs_login=False),
        }

    def _operations(self, services: Services, notices: Notices) -> OperationTable:
        """All operations. Those that also receive messages of the bus are kept."""
        self._change_operations = ChangeOperations(services, self.changes, self.delivery, notices, self.plugins)
        self._typing = TypingOperations(services)
        self._delivered = DeliveredNotices(services)
        self.delivery.in_flight.on_reached = self._delivered.reached
        return (
            FriendOperations(services, self.friends, self.presence, self.plugins).table()
            | GroupOperations(services, self.groups).table()
            | GroupAdmissionOperations(services, self.groups).table()
            | HistoryOperations(services, notices, self.plugins, self.delivery.recent).table()
            | self._change_operations.table()
            | self._typing.table()
            | ProfileOperations(services, self.accounts, self.guard, self._credentials, self.plugins).table()
            | ConsentOperations(services, self.blocks).table()
            | SessionOperations(self.logins, self.session_query, self.plugins).table()
            | PushOperations(services).table()
            | FileOperations(services, self.file_addresses, self.uploads, self.delivery.recent).table()
        )

    async def _ask_plugins_and_send(self, session: Session, command: SendMessage) -> None:
        changed = await self.plugins.before_message(session, command)
        self.messages.send(session, changed, command.body)

    async def _register(self, peer: Peer, command: Register) -> None:
        peer.push(Registered(await self.registration.register(peer, command)))

    def _malformed(self, peer: Peer, command: Malformed) -> None:
        refusals.count(self._row, command.code)
        peer.push(Failed(command.code, command.text, command, command.ref))

    # ---------------------------------------------------------------- net

    async def is_same_user(self, session: Session, command: Login) -> bool:
        """Whether a login names the account that is logged in here. Raises Unavailable."""
        return await self.logins.names_user_of(session, command)

    def may_ask(self, session: Session) -> bool:
        """Count a frame that is no command, such as a ping; False: the user sends too many."""
        return self.allowances.take(session)

    def check_receipts(self, session: Session, *, final: bool = False) -> None:
        """The client of this session may have received more bytes, or (final) its connection is over."""
        self.delivery.in_flight.check_receipts(session, final=final)

    def disconnected(self, peer: Peer) -> None:
        """The connection is over, and its session with it. May be called twice."""
        self.logins.left(peer)
        self.guard.disconnected(peer)

    def trace(self, user_id: UserId, for_s: float, *, tell_others: bool) -> None:
        """As Tracing.trace(). tell_others: also the workers of other hosts."""
        self.tracing.trace(user_id, for_s)
        if tell_others:
            self._bus.publish(EVERYBODY, bus_messages.encode(bus_messages.TracingAsked(user_id, for_s)))

    # ---------------------------------------------------------------- the bus

    async def open(self, *, patient: bool = False) -> None:
        """Join the bus, and read from the store what must be known before the first login.

        patient: what cannot be done now is done as soon as it can; until then logins are refused as the store refuses
        them, and the bus is one that is cut off.

        Raises:
            Unavailable: the bus cannot be reached, or the store does not answer. If patient, only the bus of one host
                raises it.
        """
        await self._bus.open(self.on_bus_message, self._on_gap, self.logins.locks.lost, patient=patient)
        await self._bus.subscribe([EVERYBODY])
        if self.tokens is not None:
            await self.tokens.open(self._background)
        try:
            await self._open_store()
        except Unavailable as error:
            if not patient:
                raise
            self._log.warning("the store does not answer, nobody can log in yet", why=str(error))
            self._background.start(self._open_store_later())

    async def _open_store(self) -> None:
        """Raises Unavailable."""
        # On the connection that checks the schema, before any other is used.
        await self.store.write(lambda tables: None)
        await self.bans.open()
        await self.keys.read_first()
        await self.accounts.learn_costs()
        await self._credentials.open()  # last: from here on users can log in

    async def _open_store_later(self) -> None:
        while not self._credentials.is_open:
            await asyncio.sleep(_REOPEN_S)
            with contextlib.suppress(Unavailable):
                await self._open_store()
        self._log.info("the store answers, users can log in")

    async def _login(self, peer: Peer, command: Login) -> None:
        if not self._credentials.is_open:
            raise Unavailable("the store has not answered yet")
        await self.logins.login(peer, command)

    def _bus_messages(self) -> dict[type[Any], Callable[[Any], object]]:
        return {
            MessageStored: self._message_stored,
            bus_messages.GroupNotice: self.groups.notify.notify,
            bus_messages.UserNotice: self._notices.arrived,
            bus_messages.MessageChanged: self.changes.arrived,
            bus_messages.HistoryDeleted: self._change_operations.history_deleted,
            bus_messages.ChangeApplied: self._answered,
            bus_messages.FriendRequestSent: self.friends.notify,
            bus_messages.FriendRequestAnswered: self.friends.notify,
            bus_messages.GroupJoined: lambda message: self._background.start(self.groups.notify.joined(message)),
            bus_messages.GroupLeft: self.groups.notify.left,
            bus_messages.GroupEntered: self.groups.notify.was_let_in,
            bus_messages.GroupDissolved: self.groups.notify.dissolved,
            bus_messages.GroupRenamed: self.groups.notify.renamed,
            bus_messages.TypingNoticed: self._typing.notify,
            bus_messages.DeliveredNoticed: self._delivered.notify,
            bus_messages.PresenceChanged: self.presence.changed_elsewhere,
            bus_messages.SessionChallenge: self.logins.locks.challenged,
            bus_messages.SessionEnded: self.logins.end_own_here,
            bus_messages.SessionsAsked: self.session_query.asked,
            bus_messages.WorkerSessionsAsked: self.session_query.asked_by_operator,
            bus_messages.WorkerSessionsAnswered: self._answered,
            bus_messages.ClientsAsked: self.session_listing.asked,
            bus_messages.ClientsAnswered: self._answered,
            bus_messages.TracingAsked: lambda message: self.tracing.trace(message.user_id, message.for_s),
            bus_messages.KickAsked: self.kicks.asked,
            bus_messages.BroadcastAsked: self.broadcasts.asked,
            bus_messages.BroadcastAnswered: self._answered,
            bus_messages.BansChanged: self.bans.asked,
            bus_messages.BansApplied: self._answered,
            bus_messages.AllowanceSpent: self.allowances.spent_elsewhere,
            bus_messages.PenaltiesCounted: lambda message: self.penalties.merge(message.records),
            bus_messages.PenaltiesCleared: lambda message: self.penalties.clear(list(message.subjects)),
            bus_messages.SessionVerdict: self._answered,
            bus_messages.SessionsAnswered: self._answered,
            bus_messages.KickAnswered: self._answered,
        }

    def on_bus_message(self, topic: Topic, data: bytes) -> None:
        """A message from another worker."""
        try:
            message = bus_messages.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._log.debug("bus message dropped, it is of a later version", why=str(error))
            return
        self._on_bus_message[type(message)](message)

    def _message_stored(self, stored: MessageStored) -> None:
        if self.tracing.follows:
            self.tracing.arrived(stored.message)
        self.delivery.arrived(stored.message, stored.members_version, tells=stored.tells)

    def _answered(self, answer: bus_messages.SurveyAnswer) -> None:
        self.surveys.answered(answer.ref, answer)

    def _on_gap(self) -> None:
        """Messages from other workers may have been missed."""
        self._row.bus_gaps += 1
        self.delivery.catch_up.gap()
        self.memberships.gap()
        self.presence.gap()
        self.logins.locks.gap()
        if self.exchange is not None:
            self.exchange.gap()

    # ---------------------------------------------------------------- the clock

    def round(self) -> None:
        """Once a second."""
        self.delivery.in_flight.resend()
        self.delivery.recent.sweep()
        self.presence.round()
        self.penalties.round()
        self.allowances.round()
        self.tracing.round()
        self._retention.round()
        self._typing.round()
        self._probe.round()
        if self.tokens is not None:
            self.tokens.round()
        self.figures.round()
        self._rounds += 1
        if self._rounds % _COSTS_ROUNDS == 0:
            self._background.start(self.accounts.learn_costs())

    def tick(self) -> None:
        """About twenty times a second."""
        self.store.tick(self._config().timeouts.store_s)
        self.delivery.in_flight.sweep_receipts()
        self.delivery.catch_up.work_off_gap()
        self.delivery.catch_up.work_off_behind()
        self.logins.locks.tick()
        if self.exchange is not None:
            self.exchange.tick()
        self._credentials.tick()
        self.logins.end_expired()
        self.bans.tick()
        self.keys.tick()
        self.broadcasts.tick()
        self.figures.tick(self.plugins)
