"""All plug-ins of a worker, in the order of the configuration.

Owns: asking plug-ins before core does something, and telling them afterwards.
Elsewhere: the contract (core.plugins.contract, core.plugins.actions), one plug-in (core.plugins.plugin), the recipients
of messages (core.plugins.recipients), the queue of events (core.plugins.notifier).
Fails: Refused: by a plug-in, or BUSY if a plug-in with `fail = "closed"` gave no answer to go by.

If no plug-in has a point, has() says so, and nothing is made or awaited for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from chatd.core.plugins import contract
from chatd.core.plugins.actions import Action, Who
from chatd.core.plugins.contract import Point
from chatd.core.plugins.guard import Cause
from chatd.core.plugins.notifier import PluginNotifier
from chatd.core.plugins.plugin import Plugin, PluginFailed
from chatd.core.plugins.recipients import Recipients
from chatd.core.services import Services
from chatd.core.sessions.session import Peer, Session
from chatd.errors import ErrorCode, Refused
from chatd.model import GroupId, Message, Protocol, User, UserId
from chatd.protocol import Login, SendMessage, ServerRequest
from chatd.scoreboard import Row
from chatd.sources import source_of
from chatd.store.contract import Tables

MEMBERS_PAGE = 500
"""Group members of one read. Pages are small, so that other reads and writes come between."""
_NO_ANSWER = "a check of this server does not answer, try again"


class LoginFailure(NamedTuple):
    """code: an ErrorCode, or a plug-in's own. reason: a fixed word, as in the security trail."""

    code: int
    reason: str


class PluginPipeline:
    def __init__(self, plugins: Sequence[Plugin], services: Services) -> None:
        self._plugins = plugins
        self._hub = services.hub
        self._store = services.store
        self._config = services.config
        self._with_point = {point: [plugin for plugin in plugins if point in plugin.points] for point in Point}
        self._notifier = PluginNotifier(plugins, services.config, services.loop)
        self._recipients = Recipients(services)

    def has(self, point: Point) -> bool:
        """Whether a plug-in has this point."""
        return bool(self._with_point[point])

    async def _ask(self, plugin: Plugin, point: Point, event: object, cause: Cause) -> contract.Verdict:
        """Raises Refused."""
        try:
            verdict = await plugin.call(point, event, cause, self._config().limits.body_bytes)
        except PluginFailed:
            if plugin.fail_closed:
                raise Refused(ErrorCode.BUSY, _NO_ANSWER) from None
            return None
        if isinstance(verdict, contract.Veto):
            raise Refused(verdict.code, verdict.text)
        return verdict

    # ---------------------------------------------------------------- before somebody is let in

    async def before_login(self, peer: Peer, command: Login, user: User | None) -> None:
        """user: the account that the login names, None = there is none. Raises Refused."""
        if not self.has(Point.BEFORE_LOGIN):
            return
        wire, cause = wire_of(peer.protocol), source_of(peer.remote)
        attempt = contract.LoginAttempt(command.name, command.user_id, command.secret, wire, peer.remote, user)
        for plugin in self._with_point[Point.BEFORE_LOGIN]:
            await self._ask(plugin, Point.BEFORE_LOGIN, attempt, cause)

    async def before_register(self, peer: Peer, name: str) -> None:
        """name: as it would be stored. Raises Refused."""
        if not self.has(Point.BEFORE_REGISTER):
            return
        registration = contract.Registration(name=name, wire=wire_of(peer.protocol), remote=peer.remote)
        for plugin in self._with_point[Point.BEFORE_REGISTER]:
            await self._ask(plugin, Point.BEFORE_REGISTER, registration, source_of(peer.remote))

    # ---------------------------------------------------------------- before a user does something

    async def before_message(self, session: Session, command: SendMessage) -> SendMessage:
        """The message to store, which plug-ins may have rewritten. Raises Refused, Unavailable."""
        wire, remote = wire_of(session.protocol), session.peer.remote
        to = await self._recipients.of(command)
        for plugin in self._with_point[Point.BEFORE_MESSAGE]:
            given = command.to_name, command.to_id, command.to_group
            event = contract.OutgoingMessage(
                session.user, *given, command.body, command.typeu, command.fp, wire, remote, to
            )
            verdict = await self._ask(plugin, Point.BEFORE_MESSAGE, event, session.user.id)
            if isinstance(verdict, contract.Rewrite):
                command = msgspec.structs.replace(command, **_changes(verdict))
        return command

    async def before_request(
        self, session: Session, command: ServerRequest, op: Callable[[ServerRequest], str]
    ) -> ServerRequest | contract.Reply:
        """The request to serve, which plug-ins may have rewritten, or its answer. op: gives the operation that a
        request names, or "". Raises Refused."""
        wire = wire_of(session.protocol)
        for plugin in self._with_point[Point.BEFORE_REQUEST]:
            event = contract.Request(session.user, command.body, command.typeu, command.fp, op(command), wire)
            verdict = await self._ask(plugin, Point.BEFORE_REQUEST, event, session.user.id)
            if isinstance(verdict, contract.Reply):
                return verdict
            if isinstance(verdict, contract.Rewrite):
                command = msgspec.structs.replace(command, **_changes(verdict))
        return command

    async def before_action(self, session: Session, point: Point, make: Callable[[Tables, Who], Action]) -> None:
        """Called by the function that carries out an action, whatever wire it came by, before it changes or shows
        anything. make: the action, in one read of the store; it may raise Refused. Cost, if no plug-in has the point:
        one lookup.

        Raises: Refused, by make or by a plug-in; Unavailable."""
        plugins = self._with_point[point]
        if not plugins:
            return
        who = Who(actor=session.user, wire=wire_of(session.protocol), remote=session.peer.remote)
        action = await self._store.read(lambda tables: make(tables, who))
        for plugin in plugins:
            await self._ask(plugin, point, action, session.user.id)

    # ---------------------------------------------------------------- afterwards

    def login_failed(self, peer: Peer, command: Login, user: User | None, failure: LoginFailure) -> None:
        """Tell it. user: as for before_login()."""
        if self.has(Point.LOGIN_FAILED):
            failed = contract.FailedLogin(
                name=command.name,
                user_id=command.user_id,
                user=user,
                wire=wire_of(peer.protocol),
                remote=peer.remote,
                code=failure.code,
                reason=failure.reason,
            )
            self._tell(Point.LOGIN_FAILED, failed, source_of(peer.remote))

    def logged_in(self, session: Session) -> None:
        """Tell it."""
        if self.has(Point.AFTER_LOGIN):
            event = contract.LoggedIn(session.user, wire_of(session.protocol), session.peer.remote)
            self._tell(Point.AFTER_LOGIN, event, session.user.id)

    def logged_out(self, session: Session) -> None:
        """Tell it."""
        if self.has(Point.AFTER_LOGOUT):
            event = contract.LoggedOut(session.user, wire_of(session.protocol), session.peer.remote)
            self._tell(Point.AFTER_LOGOUT, event, session.user.id)

    def stored(self) -> Callable[[Message], None] | None:
        """To be called with every message that is stored for the first time; None = no plug-in wants to know."""
        wanted = self.has(Point.AFTER_STORED) or self.has(Point.RECIPIENT_OFFLINE)
        return self._tell_stored if wanted else None

    def _tell_stored(self, message: Message) -> None:
        if self.has(Point.AFTER_STORED):
            self._tell(Point.AFTER_STORED, contract.StoredMessage(message), message.sender_id)
        if self.has(Point.RECIPIENT_OFFLINE) and (message.group_id or not self._hub.of_user(message.to_id)):
            made = partial(self._make_missed, message)
            self._notifier.tell(Point.RECIPIENT_OFFLINE, made, message.sender_id)

    async def _make_missed(self, message: Message) -> contract.MissedMessage | None:
        users = await self.absent(message)
        return contract.MissedMessage(message, users) if users else None

    async def absent(self, message: Message) -> tuple[User, ...]:
        """The recipients without a session anywhere, as far as this worker knows. Raises Unavailable."""
        if not message.group_id:
            online = await self._hub.online([message.to_id])
            return () if online else (User(message.to_id, message.to_name),)
        found: list[User] = []
        after = 0
        while True:
            page = await self._store.read(partial(_members, group_id=message.group_id, after=after))
            online = await self._hub.online(user.id for user in page)
            found += [user for user in page if user.id != message.sender_id and user.id not in online]
            if len(page) < MEMBERS_PAGE:
                return tuple(found)
            after = page[-1].id

    async def push(self, note: contract.PushNote) -> bool | None:
        """Notify a user through a gateway. False: the token has ended. None: no plug-in has served it, now."""
        for plugin in self._with_point[Point.PUSH]:
            try:
                answer = await plugin.call(Point.PUSH, note, note.user.id)
            except PluginFailed:
                continue
            if answer is not None:
                return isinstance(answer, contract.Taken)
        return None

    def _tell(self, point: Point, event: object, cause: Cause) -> None:
        async def ready() -> object:
            return event

        self._notifier.tell(point, ready, cause)

    # ---------------------------------------------------------------- the clock, the end

    def report(self, row: Row) -> None:
        """Write the plug-ins' counters to the worker's row of the scoreboard."""
        if self._plugins:
            row.hooks_open = sum(plugin.suspended for plugin in self._plugins)
            row.hook_users_held = sum(plugin.held for plugin in self._plugins)
            row.hook_failures = sum(plugin.failures for plugin in self._plugins)
            row.hook_dropped = self._notifier.dropped

    async def settle(self) -> None:
        """Return when everything was told. The caller sets the time limit."""
        await self._notifier.settle()

    def close(self) -> None:
        """Start no more calls."""
        for plugin in self._plugins:
            plugin.close()


def wire_of(protocol: Protocol) -> str:
    """The wire's name, as plug-ins are given it."""
    return protocol.name.lower()


def _members(tables: Tables, group_id: GroupId, after: UserId) -> list[User]:
    return [user for user, _ in tables.groups.members(group_id, after, MEMBERS_PAGE)]


def _changes(verdict: contract.Rewrite) -> dict[str, str | int]:
    fields: dict[str, str | int | None] = {"body": verdict.body, "typeu": verdict.typeu}
    return {name: value for name, value in fields.items() if value is not None}
