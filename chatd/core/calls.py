"""Calls: what is done in a user's or the system's name by somebody who has no session, such as an application.

Owns: Calls, the one way to do it: a command is served as if it had come from a session of that user, which exists only
for it; finding the user in whose name it is done.
Elsewhere: serving commands, with all their checks (core.dispatcher); who may call (http); what the system may do
(store.contract.Draft).
Fails: Refused, with the code with which a client would be refused, and Unavailable.

Nothing is left out: plug-ins are asked, quotas and consent hold, the user's allowance is spent. Only model.SYSTEM has
no allowance, and everybody accepts its messages.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import msgspec

from chatd import wall_clock
from chatd.core.remembered import Remembered
from chatd.core.services import Services
from chatd.core.sessions.session import Session, SessionState
from chatd.errors import Disconnect, ErrorCode, Refused
from chatd.model import SYSTEM, Protocol, User, UserId
from chatd.protocol import (
    Accepted,
    Command,
    Deliver,
    Event,
    Failed,
    LoginAccepted,
    SendMessage,
    ServerMessage,
    ServerRequest,
    WireTraits,
)
from chatd.store.contract import Account, Tables
from chatd.texts.sizes import over

T = TypeVar("T")
MAX_ANSWER_BYTES = 1024 * 1024
"""Longest answer of an operation, as JSON text."""
_TRAITS = WireTraits(server_texts=True)


class Caller(NamedTuple):
    """In whose name something is done. remote: the address of the application that does it, for logs and limits."""

    user: User
    remote: str


class _CallPeer:
    """core.sessions.session.Peer of a session that exists for one command. answer: settled by the command's answer:
    an Accepted for a message, the ServerMessage for a request; otherwise the events are in `events`."""

    __slots__ = ("answer", "events", "heard", "remote", "session")

    traits = _TRAITS
    protocol = Protocol.HTTP
    carrier = "http"
    closed = False
    gone = False
    lossy = False
    has_receipts = False
    is_private = True
    out_bytes = 0
    text_bytes = MAX_ANSWER_BYTES

    def __init__(self, remote: str, answer: asyncio.Future[Any]) -> None:
        self.remote = remote
        self.answer = answer
        self.session: Session | None = None
        self.heard = 0.0
        self.events: list[Event] = []

    def push(self, event: Event) -> int:
        answer = self.answer
        if answer.done():
            return 0
        if isinstance(event, Failed):
            answer.set_exception(Refused(event.code, event.text, event.retry_after_s))
        elif isinstance(event, Accepted):
            if isinstance(event.command, SendMessage):
                answer.set_result(event)
        elif isinstance(event, ServerMessage) and event.is_answer:
            answer.set_result(event)
        else:
            self.events.append(event)
        return 0

    def is_cut(self, event: Deliver) -> bool:
        return False

    def replace(self, end: int, event: Event) -> list[tuple[int, int]]:
        return []

    def push_login(self, event: LoginAccepted) -> tuple[int, int]:
        return 0, 0

    def received(self) -> int:
        return 0

    def settle(self, session: Session) -> None:
        """It never sends anything that must be received."""

    def close(self, reason: Disconnect) -> None:
        """There is no connection."""


class _Error(msgspec.Struct, frozen=True):
    code: int
    text: str


class _Answer(msgspec.Struct, frozen=True):
    ok: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: _Error | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


class Calls:
    """handle: core.dispatcher.Dispatcher.handle. All methods are called from the worker's loop."""

    def __init__(self, services: Services, handle: Callable[[Any, Command], Awaitable[None] | None]) -> None:
        self.services = services
        self._handle = handle
        self._store = services.store
        self._allowances = services.allowances
        self._loop = services.loop
        self._found: Remembered[str | UserId, User] = Remembered()
        """Users by the name or id by which they were asked for. One who was locked or deleted is forgotten as soon as
        this worker learns of it."""
        self._fp = f"a{time.time_ns():x}.{services.slot:x}"
        self._numbers = itertools.count()

    # ---------------------------------------------------------------- in whose name

    def remembered(self, who: str | UserId) -> User | None:
        """The same as find(), if the answer is at hand. Costs one look-up."""
        return self._found.find(who)

    async def find(self, who: str | UserId) -> User:
        """The user with this name or (a number) this id, whose account is not locked. A name that consists of digits is
        a name, never the id of another account.

        Raises: Refused UNKNOWN_RECIPIENT, ACCOUNT_LOCKED; Unavailable.
        """
        user = self.remembered(who)
        if user is not None:
            return user
        account = await self._store.read(lambda tables: _look_up(tables, who))
        if account is None:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT, f"no such user: {who}")
        if account.locked_at_ms:
            raise Refused(ErrorCode.ACCOUNT_LOCKED)
        return self._found.add(who, account.user)

    def forget(self, user_id: UserId) -> None:
        """The account was locked, deleted, or has a new password."""
        self._found.forget(lambda user: user.id == user_id)

    def new_fp(self) -> str:
        """An fp that was never used before."""
        return f"{self._fp}.{next(self._numbers):x}"

    # ---------------------------------------------------------------- doing it

    async def send(self, caller: Caller, command: SendMessage) -> Accepted:
        """Send the message; returns when it is stored (P1). Raises: Refused as a client would be refused."""
        accepted: Accepted = await self._serve(caller, command)
        return accepted

    async def begin(self, caller: Caller, command: SendMessage) -> asyncio.Future[Accepted]:
        """Send a message on behalf of another server, which has let its user send it: it takes nothing from the user's
        allowance. Returns when the message is queued: messages are stored in the order of the calls. The future
        is settled as send() ends."""
        answer: asyncio.Future[Accepted] = self._loop.create_future()
        peer = self._peer(caller, answer, spends=False)

        def end(settled: asyncio.Future[Accepted]) -> None:
            peer.session = None  # the two refer to each other
            if not settled.cancelled():
                settled.exception()  # the caller may have gone: nobody need be told of it

        answer.add_done_callback(end)
        if (work := self._handle(peer, command)) is not None:
            await work
        return answer

    async def operate(self, caller: Caller, op: str, arguments: object, kind: type[T], fp: str = "") -> T:
        """Run one of the operations that clients have (docs/protocols/mobileimsdk.md). arguments: a struct or a dict
        with its fields. kind: what its result is read as. fp: repeated with the same fp, it is carried out once, and
        answered as it was the first time.

        Raises: Refused, Unavailable.
        """
        fields = msgspec.to_builtins(arguments)
        body = _encode({"op": op, **fields}).decode()
        told: ServerMessage = await self._serve(caller, ServerRequest(body=body, fp=fp))
        answer = _decode_answer(told.body)
        if answer.error is not None:
            raise Refused(answer.error.code, answer.error.text, told.retry_after_s)
        return msgspec.json.decode(answer.result, type=kind)

    async def run(self, caller: Caller, command: Command) -> list[Event]:
        """Serve any other command; returns what its client would have been told. Raises: Refused."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        peer = self._peer(caller, answer)
        if (work := self._handle(peer, command)) is not None:
            await work
        peer.session = None
        if answer.done():
            answer.result()
        return peer.events

    async def _serve(self, caller: Caller, command: Command) -> Any:
        answer: asyncio.Future[Any] = self._loop.create_future()
        peer = self._peer(caller, answer)
        try:
            if (work := self._handle(peer, command)) is not None:
                await work
            return await answer
        finally:
            peer.session = None  # the two refer to each other

    def session(self, caller: Caller) -> Session:
        """For one call of a function of core that is given the session of the one who acts."""
        return Session(caller.user, _CallPeer(caller.remote, self._loop.create_future()), 0)

    def _peer(self, caller: Caller, answer: asyncio.Future[Any], *, spends: bool = True) -> _CallPeer:
        """spends: what it does takes from the user's allowance."""
        user, remote = caller
        peer = _CallPeer(remote, answer)
        peer.session = session = Session(user, peer, 0)
        session.enter(SessionState.LIVE)
        if spends and user is not SYSTEM:
            session.allowance = self._allowances.of(user.id)
        return peer

    # ---------------------------------------------------------------- changes of the store

    async def once(self, fp: str, body_hash: int, work: Callable[[Tables, int], bytes]) -> tuple[bytes, bool]:
        """Change the store once: `work` returns its answer, which is remembered under (the system, fp) in the same
        transaction. Asked again with the same fp, on any worker or host, it is not run, and the first answer is
        returned. work: called with the tables and the time, epoch ms; it raises Refused before it changes anything.
        fp "": it is run each time. body_hash: by which a repetition is told from another request.

        Returns the answer, and whether `work` was run now. Raises: Refused FP_REUSED, or as `work` does; Unavailable.
        """
        raise_for_fp(fp, self.services.config().limits.fp_bytes)
        now_ms = wall_clock.now_ms()

        def change(tables: Tables) -> tuple[bytes, bool]:
            before = tables.request_log.answered(SYSTEM.id, fp, body_hash) if fp else None
            if before is not None:
                return before.encode(), False
            answer = work(tables, now_ms)
            if fp:
                tables.request_log.remember(SYSTEM.id, fp, answer.decode(), now_ms, body_hash)
            return answer, True

        return await self._store.write(change)


def _look_up(tables: Tables, who: str | UserId) -> Account | None:
    return tables.accounts.find("", who) if isinstance(who, int) else tables.accounts.named(who)


def raise_for_fp(fp: str, most_bytes: int) -> None:
    """Raises Refused TOO_LONG."""
    if over(fp, most_bytes):
        raise Refused(ErrorCode.TOO_LONG, f"an Idempotency-Key has at most {most_bytes} bytes")
