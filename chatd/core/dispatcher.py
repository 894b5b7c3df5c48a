"""Commands to handlers: one table, and the gates in front of it.

Owns: Handler, a row of the table; the gates (logged in, claimed identity) and what an error becomes, both in one place.
Elsewhere: which function serves which command (core.core makes the table), what users have left of their rates
(core.allowances), commands before the login (net.connection), what a handler does.
Fails: never towards its caller. Refused and Unavailable become a Failed event. Anything else is a bug: it is logged
once with its traceback, the client is told INTERNAL, and the worker goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from chatd import log
from chatd.core import refusals, trail
from chatd.core.allowance import Cost
from chatd.core.allowances import Allowances
from chatd.core.plugins.contract import Asks, NotAsked, Point
from chatd.core.sessions.session import Peer, Session
from chatd.errors import MEANINGS, Disconnect, ErrorCode, Refused, Unavailable
from chatd.protocol import (
    Acknowledge,
    AddFriend,
    AnswerFriend,
    Command,
    CreateGroup,
    Echo,
    Failed,
    JoinGroup,
    KeepAlive,
    Login,
    Logout,
    Malformed,
    Received,
    Register,
    SendMessage,
    ServerRequest,
)
from chatd.scoreboard import Row
from chatd.security_log import SecurityEvent


class Handler(NamedTuple):
    """How one kind of command is served.

    function: called with the session (or with the peer, if no login is needed) and the command.
    needs_login: refused with NOT_LOGGED_IN before the login.
    is_async: function returns a coroutine, until the end of which the peer's next command waits, or None.
    cost: what it takes from the user's allowance, once there is one; before the login nothing.
    """

    function: Callable[[Any, Any], Awaitable[None] | None]
    needs_login: bool = True
    is_async: bool = False
    cost: Cost = Cost()


class _Row(NamedTuple):
    """A handler as the dispatcher uses it. has_claim: the command has a field `claimed`. cost: in commands."""

    function: Callable[[Any, Any], Any]
    needs_login: bool
    is_async: bool
    has_claim: bool
    cost: int


_RECEIPT = NotAsked("it says what the client has received")
_NOTHING_DONE = NotAsked("it changes nothing, and shows nothing of anybody")
ASKS: dict[type[Any], Asks] = {
    Login: Point.BEFORE_LOGIN,
    Register: Point.BEFORE_REGISTER,
    SendMessage: Point.BEFORE_MESSAGE,
    ServerRequest: Point.BEFORE_REQUEST,
    AddFriend: Point.BEFORE_FRIEND_REQUEST,
    AnswerFriend: Point.BEFORE_FRIEND_ANSWER,
    CreateGroup: Point.BEFORE_GROUP_CREATE,
    JoinGroup: Point.BEFORE_GROUP_JOIN,
    Acknowledge: _RECEIPT,
    Received: _RECEIPT,
    KeepAlive: _NOTHING_DONE,
    Echo: _NOTHING_DONE,
    Malformed: _NOTHING_DONE,
    Logout: NotAsked("anybody may leave"),
}
"""The point at which the function of a command asks plug-ins; for a ServerRequest that names an operation, the
operation has another (core.requests.dispatch.Operation.asks). The source of the table in docs/hooks.md. A kind of
command without a row here cannot be served."""


def _paying(allowances: Allowances, handler: Handler) -> Callable[[Any, Any], Any]:
    """The handler's function, after its changes are paid for."""
    function, changes = handler.function, handler.cost.changes

    def serve(session: Session, command: Any) -> Any:
        allowances.spend_changes(session, changes)
        return function(session, command)

    return serve


class Dispatcher:
    def __init__(
        self,
        table: Mapping[type[Any], Handler],
        answered: Callable[[Peer], None] = lambda peer: None,
        allowances: Allowances | None = None,
        row: Row | None = None,
    ) -> None:
        """table: a handler for every kind of command. answered: called when a command that took a while (is_async) has
        been served, and its answer is queued. allowances: None = every session's is unlimited. row: where refusals are
        counted. Raises ValueError if a command has no row in ASKS."""
        self._rows: dict[type[Any], _Row] = {}
        self._answered = answered
        self._allowances = allowances
        self._row = row
        self._log = log.get()
        for kind, handler in table.items():
            self.register(kind, handler)

    def register(self, kind: type[Any], handler: Handler) -> None:
        """Serve this kind of command with this handler from now on. Raises ValueError, see ASKS."""
        if kind not in ASKS:
            raise ValueError(f"core.dispatcher.ASKS must say whether plug-ins are asked about {kind.__name__}")
        has_claim = any(field.name == "claimed" for field in msgspec.structs.fields(kind))
        function, cost = handler.function, handler.cost
        if cost.changes and self._allowances is not None:
            function = _paying(self._allowances, handler)
        self._rows[kind] = _Row(function, handler.needs_login, handler.is_async, has_claim, cost.commands)

    def handle(self, peer: Peer, command: Command) -> Awaitable[None] | None:
        """Serve one command. The result, if any, must be awaited before the peer's next command is handled.

        Nearly all commands are messages and acknowledgements, so this is one function, with one lookup.
        """
        function, needs_login, is_async, has_claim, cost = self._rows[type(command)]
        session = peer.session
        if needs_login and session is None:
            self._refuse_before_login(peer, command)
            return None
        if cost and session is not None:
            allowance = session.allowance
            left = allowance.commands - cost
            if left < 0 and self._is_too_fast(peer, session, command, cost):
                return None
            allowance.commands = left
        caller = session if needs_login else peer
        try:
            if has_claim and command.claimed is not None:  # type: ignore[union-attr]
                self._check_claimed(peer, session, command)
            if is_async:
                work = function(caller, command)
                return None if work is None else self._finish(work, peer, command)
            function(caller, command)
        except Refused as refused:
            self._refuse(peer, command, refused)
        except Exception as error:  # noqa: BLE001  the one place where bugs are caught
            self._report_bug(peer, command, error)
        return None

    async def _finish(self, work: Awaitable[None], peer: Peer, command: Command) -> None:
        """The session may end meanwhile; its command is completed nevertheless."""
        try:
            await work
        except Refused as refused:
            self._refuse(peer, command, refused)
        except Unavailable:
            self._refuse(peer, command, Refused(ErrorCode.UNAVAILABLE))
        except Exception as error:  # noqa: BLE001  the one place where bugs are caught
            self._report_bug(peer, command, error)
        self._answered(peer)

    # ---------------------------------------------------------------- gates and errors

    def _refuse_before_login(self, peer: Peer, command: Command) -> None:
        self._count(ErrorCode.NOT_LOGGED_IN)
        peer.push(Failed(ErrorCode.NOT_LOGGED_IN, MEANINGS[ErrorCode.NOT_LOGGED_IN].text, command))
        if peer.traits.refusal_closes:
            peer.close(Disconnect.NOT_LOGGED_IN)

    def _is_too_fast(self, peer: Peer, session: Session, command: Command, cost: int) -> bool:
        """The user has too few commands left. True: the command is refused."""
        if self._allowances is None:
            return False
        refused = self._allowances.refuses_command(session, cost, keeps_alive=type(command) is KeepAlive)
        if refused is None:
            return False
        self._refuse(peer, command, refused)
        return True

    def _check_claimed(self, peer: Peer, session: Session | None, command: Any) -> None:
        """Raises: Refused if the command claims to be another user's."""
        if session is not None and command.claimed != session.user.id:
            kind = type(command).__name__
            trail.record(SecurityEvent.CLAIMED_IDENTITY, peer, claimed=command.claimed, command=kind)
            raise Refused(ErrorCode.CLAIMED_IDENTITY)

    def _count(self, code: int) -> None:
        if self._row is not None:
            refusals.count(self._row, code)

    def _refuse(self, peer: Peer, command: Command, refused: Refused) -> None:
        self._count(refused.code)
        peer.push(Failed(refused.code, refused.text, command, retry_after_s=refused.retry_after_s))
        if type(command) is Login and peer.traits.refusal_closes and peer.session is None:
            peer.close(Disconnect.LOGIN_REFUSED)

    def _report_bug(self, peer: Peer, command: Command, error: Exception) -> None:
        session = peer.session
        self._log.error(
            "unexpected exception while serving a command",
            command=type(command).__name__,
            user=session.user.id if session else 0,
            peer=peer.remote,
            exc_info=error,
        )
        self._count(ErrorCode.INTERNAL)
        peer.push(Failed(ErrorCode.INTERNAL, MEANINGS[ErrorCode.INTERNAL].text, command))
