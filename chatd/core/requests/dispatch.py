"""Requests to the server (C2S): one table of operations.

Owns: reading a request, the table, exactly-once, answers.
Elsewhere: what an operation does (requests_people, requests_groups, requests_history); S2C delivery (notices).
Fails: never towards its caller; a request that fails is answered with an error in the protocol's own terms.

A request that changes something runs in one transaction with its answer, under (sender, fp): sent again, on
whatever worker, it is not run again but answered again, also where it was refused (P2). An answer's fp is made
from the request's, so that a client that gets it twice drops the second.

Source: protocols/mobileimsdk.md, "Requests to the server".
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from chatd import log
from chatd.core.change import Change
from chatd.core.plugins.contract import Point, Reply
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.requests.notices import Notices, Ref, answer, refusal
from chatd.core.requests.truncate import fitted, size_of
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused, Unavailable, meaning
from chatd.protocol import Accepted, ServerRequest
from chatd.store.contract import Tables
from chatd.store.group_commit import GroupCommit

Read = Callable[[Session, Any], Awaitable[object]]
Write = Callable[[Session, Any], Awaitable[Change[Any]]]


class Op(NamedTuple):
    """One operation. Exactly one of read and write is given. result: what its answer holds, for people.

    shown: makes the answer of what a Change gave.
    """

    arguments: type[msgspec.Struct]
    text: str
    result: str
    read: Read | None = None
    write: Write | None = None
    shown: Callable[[Any], object] = lambda result: {}


Table = dict[str, Op]


class NoArguments(msgspec.Struct, frozen=True):
    pass


class _Head(msgspec.Struct, frozen=True):
    op: str
    ref: (
        Annotated[str, Meta(max_length=64, pattern=r"^[^\x00-\x1f]*\Z")]
        | Annotated[int, Meta(gt=-(1 << 53), lt=1 << 53)]
        | None
    ) = None


class _BareHead(msgspec.Struct, frozen=True):
    """Of a request whose ref cannot be repeated."""

    op: str


class _Answered(NamedTuple):
    """Nothing was changed now: a repeat, or a refusal."""

    text: str


class _Answer(NamedTuple):
    """final: given the same way to the same request again. Else the next answer must not be taken for this one."""

    text: str
    final: bool


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_bare = msgspec.json.Decoder(_BareHead).decode


class Requests:
    def __init__(self, table: Table, notices: Notices, store: GroupCommit, chain: PluginPipeline) -> None:
        self.table = table
        self._plugins = chain
        self._notices = notices
        self._store = store
        self._decoders = {name: msgspec.json.Decoder(op.arguments).decode for name, op in table.items()}
        self._log = log.get()

    async def serve(self, session: Session, command: ServerRequest) -> None:
        """Acknowledge and answer. Commands after it wait (core.dispatcher)."""
        if self._plugins.has(Point.BEFORE_REQUEST):
            asked = await self._ask(session, command)
            if asked is None:
                return
            command = asked
        body = command.body.encode("utf-8", "surrogatepass")
        try:
            head = _decode_head(body)
        except (msgspec.DecodeError, RecursionError) as error:
            if not _names_an_op(body):
                self.unknown(session, command)
                return
            text, final = _refused(None, ErrorCode.BAD_FIELD, str(error))
        else:
            text, final = await self._answer(session, command, head, body)
        session.peer.push(Accepted(command, 0, time.time_ns() // 1_000_000))
        self._notices.tell(session, text, _fp_of_answer(command) if final else "")

    async def _ask(self, session: Session, command: ServerRequest) -> ServerRequest | None:
        """What plug-ins want served in its place; None = they have dealt with it."""
        try:
            verdict = await self._plugins.before_request(session, command, lambda asked: _head_of(asked).op)
        except Refused as refused:
            head = _head_of(command)
            if not head.op:
                raise
            text, final = _refused(head.ref, refused.code, refused.text)
            fp = _fp_of_answer(command) if final else ""
        else:
            if not isinstance(verdict, Reply):
                return verdict
            text, fp = verdict.text, _fp_of_answer(command)
        session.peer.push(Accepted(command, 0, time.time_ns() // 1_000_000))
        self._notices.tell(session, text, fp)
        return None

    def unknown(self, session: Session, command: ServerRequest) -> None:
        """COMPAT: a text that is no request is acknowledged and dropped, as stock servers do."""
        session.peer.push(Accepted(command, 0, time.time_ns() // 1_000_000))

    async def _answer(self, session: Session, command: ServerRequest, head: _Head, body: bytes) -> _Answer:
        op, ref = self.table.get(head.op), head.ref
        try:
            if op is None:
                raise Refused(ErrorCode.UNKNOWN_REQUEST, "no such op")
            arguments = self._decoders[head.op](body)
            if op.read is not None:
                room = session.peer.text_bytes - size_of(_fp_of_answer(command))
                return _Answer(fitted(await op.read(session, arguments), partial(answer, ref), room), True)
            return _Answer(await self._change(session, command.fp, ref, op, arguments), True)
        except (msgspec.ValidationError, RecursionError) as error:
            return _refused(ref, ErrorCode.BAD_FIELD, str(error))
        except Refused as refused:
            return _refused(ref, refused.code, refused.text)
        except Unavailable:
            return _refused(ref, ErrorCode.UNAVAILABLE)
        except Exception as error:  # noqa: BLE001  a bug of one operation
            self._log.error("bug", op=head.op, user=session.user.id, exc_info=error)
            return _refused(ref, ErrorCode.INTERNAL)

    async def _change(self, session: Session, fp: str, ref: Ref, op: Op, arguments: object) -> str:
        """The answer of the first time, or of now. Raises what op.write may raise, and Unavailable."""
        assert op.write is not None
        user_id = session.user.id
        if fp:  # before op.write, which may ask for what the first time has changed (a password)
            before = await self._store.read(lambda tables: tables.request_log.answered(user_id, fp))
            if before is not None:
                return before
        change = await op.write(session, arguments)
        text = ""

        def work(tables: Tables) -> object:
            nonlocal text
            before = tables.request_log.answered(user_id, fp) if fp else None
            if before is not None:
                return _Answered(before)
            try:
                result = change.write(tables)
                text = answer(ref, op.shown(result))
            except Refused as refused:
                text = refusal(ref, refused.code, refused.text)
                result = _Answered(text)
            if fp:
                tables.request_log.remember(user_id, fp, text, time.time_ns() // 1_000_000)
            return result

        result = await self._store.write(work)
        if isinstance(result, _Answered):
            return result.text
        told = change.after(result)
        if told is not None:
            await told
        return text


def _fp_of_answer(command: ServerRequest) -> str:
    return f"re:{command.fp}" if command.fp else ""


def _refused(ref: Ref, code: int, text: str = "") -> _Answer:
    means = meaning(code)
    return _Answer(refusal(ref, code, text or means.text), not means.temporary)


def _head_of(command: ServerRequest) -> _Head:
    """op "": this is no request."""
    body = command.body.encode("utf-8", "surrogatepass")
    try:
        return _decode_head(body)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return _Head(_decode_bare(body).op)
    except (msgspec.DecodeError, RecursionError):
        return _Head("")


def _names_an_op(body: bytes) -> bool:
    try:
        _decode_bare(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
