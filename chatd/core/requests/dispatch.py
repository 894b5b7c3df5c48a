"""Requests to the server (C2S): one table of operations, and exactly-once execution.

Owns: Operation, a row of the table; reading a request, running its operation, answering.
Elsewhere: what an operation does (core.requests.friends, groups, history, profile, sessions), sending answers
(core.requests.notices).
Fails: never towards its caller; a request that fails is answered with an error in the protocol's own terms.

A request that changes something runs in one transaction with its answer, under (sender, fp). Sent again, on any worker,
it is not run again but answered again, even if it was refused (P2). Another request under the same fp is refused with
FP_REUSED. The fp of an answer is made from that of the request, so that a client that gets the answer twice drops the
second.

Source: protocols/mobileimsdk.md, "Requests to the server".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from chatd import wall_clock
from chatd.core import refusals
from chatd.core.allowance import MESSAGE, Cost
from chatd.core.change import Change
from chatd.core.plugins.contract import Asks, Point, Reply
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.requests.notices import Notices, answer, refusal
from chatd.core.requests.truncate import fitted, size_of
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused, Unavailable, meaning
from chatd.protocol import Accepted, Ref, ServerRequest
from chatd.store.contract import Tables, text_hash

Read = Callable[[Session, Any], Awaitable[object]]
"""Reads from the store or memory. Returns the result, JSON-like."""
Write = Callable[[Session, Any], Awaitable[Change[Any]]]
"""Describes a change of the store, which is then made together with its answer."""


class Operation(NamedTuple):
    """One operation. Exactly one of read and write is given.

    arguments: what the request must contain. text: what it does, result: what its answer holds, both for the generated
    table in docs/protocols/mobileimsdk.md. asks: the point at which the operation's function asks plug-ins, for the
    generated table in docs/hooks.md and for the test that it does. has_secrets: its arguments are passwords, of which
    the store keeps nothing that a password could be guessed from. shown: makes the answer's result from the result of
    the Change. cost: what it takes from the user's allowance, the command in which it comes included.
    """

    arguments: type[msgspec.Struct]
    text: str
    result: str
    asks: Asks
    read: Read | None = None
    write: Write | None = None
    has_secrets: bool = False
    shown: Callable[[Any], object] = lambda result: {}
    cost: Cost = MESSAGE


OperationTable = dict[str, Operation]


class _Head(msgspec.Struct, frozen=True):
    """What every request contains. ref: the client's own, repeated in the answer."""

    op: str
    ref: (
        Annotated[str, Meta(max_length=64, pattern=r"^[^\x00-\x1f]*\Z")]
        | Annotated[int, Meta(gt=-(1 << 53), lt=1 << 53)]
        | None
    ) = None


class _OpOnly(msgspec.Struct, frozen=True):
    """A request whose ref cannot be repeated."""

    op: str


class _Answer(NamedTuple):
    """ref: the request's. final: the same request is always answered so. If not, the next answer must not be taken for
    a repetition of this one, so its fp is not made from the request's. retry_after_s: of a refusal."""

    ref: Ref
    text: str
    final: bool
    retry_after_s: int = 0


class _NotNow(NamedTuple):
    """The transaction changed nothing: the request was a repetition, or is refused. text: its answer. code: of the
    refusal; 0 = a repetition."""

    text: str
    code: int = 0


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_op = msgspec.json.Decoder(_OpOnly).decode


class RequestDispatcher:
    def __init__(self, services: Services, table: OperationTable, notices: Notices, plugins: PluginPipeline) -> None:
        self.table = table
        self._store = services.store
        self._allowances = services.allowances
        self._row = services.row
        self._log = services.log
        self._notices = notices
        self._plugins = plugins
        self._decoders = {name: msgspec.json.Decoder(op.arguments).decode for name, op in table.items()}

    async def serve(self, session: Session, command: ServerRequest) -> None:
        """Acknowledge the request and answer it. Raises Refused if a plug-in refuses a text that is not a request."""
        sent = command
        if self._plugins.has(Point.BEFORE_REQUEST):
            passed = await self._ask_plugins(session, command)
            if passed is None:
                return
            command = passed
        body = command.body.encode("utf-8", "surrogatepass")
        try:
            head = _decode_head(body)
        except (msgspec.DecodeError, RecursionError) as error:
            if not _names_an_operation(body):
                _acknowledge(session, command)  # COMPAT: stock servers acknowledge and drop such a text
                return
            reply = self._refused(None, Refused(ErrorCode.BAD_FIELD, str(error)))
        else:
            reply = await self._run(session, sent, head, body)
        self._answer(session, command, reply)

    def _answer(self, session: Session, command: ServerRequest, reply: _Answer) -> None:
        _acknowledge(session, command)
        fp = _fp_of_answer(command) if reply.final else ""
        self._notices.answer(session, reply.ref, reply.text, fp, reply.retry_after_s)

    async def _ask_plugins(self, session: Session, command: ServerRequest) -> ServerRequest | None:
        """The request to serve, which plug-ins may have rewritten; None = they have answered it."""
        try:
            verdict = await self._plugins.before_request(session, command, lambda asked: _head_of(asked).op)
        except Refused as refused:
            head = _head_of(command)
            if not head.op:
                raise
            reply = self._refused(head.ref, refused)
        else:
            if not isinstance(verdict, Reply):
                return verdict
            reply = _Answer(_head_of(command).ref, verdict.text, final=True)
        self._answer(session, command, reply)
        return None

    async def _run(self, session: Session, sent: ServerRequest, head: _Head, body: bytes) -> _Answer:
        """sent: the request as the client sent it. head, body: as plug-ins want it served."""
        operation, ref = self.table.get(head.op), head.ref
        try:
            if operation is None:
                raise Refused(ErrorCode.UNKNOWN_REQUEST, "no such op")
            arguments = self._decoders[head.op](body)
            if operation.read is not None:
                self._allowances.spend(session, operation.cost)
                room = session.peer.text_bytes - size_of(_fp_of_answer(sent))
                result = await operation.read(session, arguments)
                return _Answer(ref, fitted(result, partial(answer, ref), room), final=True)
            return _Answer(ref, await self._change(session, sent, head, operation, arguments), final=True)
        except (msgspec.ValidationError, RecursionError) as error:
            return self._refused(ref, Refused(ErrorCode.BAD_FIELD, str(error)))
        except Refused as refused:
            return self._refused(ref, refused)
        except Unavailable:
            return self._refused(ref, Refused(ErrorCode.UNAVAILABLE))
        except Exception as error:  # noqa: BLE001  a bug of one operation
            self._log.error(
                "unexpected exception while serving a request", op=head.op, user=session.user.id, exc_info=error
            )
            return self._refused(ref, Refused(ErrorCode.INTERNAL))

    def _refused(self, ref: Ref, refused: Refused) -> _Answer:
        code = refused.code
        refusals.count(self._row, code)
        # The first request's answer has the fp made from it.
        final = not meaning(code).temporary and code != ErrorCode.FP_REUSED
        return _Answer(ref, refusal(ref, code, refused.text), final, refused.retry_after_s)

    async def _change(
        self, session: Session, sent: ServerRequest, head: _Head, operation: Operation, arguments: object
    ) -> str:
        """The answer of now, or that of the first time if this is a repetition. Raises what operation.write may raise,
        Unavailable, and Refused FP_REUSED if another request has the fp."""
        assert operation.write is not None
        user_id, fp, body_hash = session.user.id, sent.fp, _recognised_by(sent, head, operation)
        if fp:  # before operation.write, which may check something that the first time has changed (a password)
            before = await self._store.read(lambda tables: tables.request_log.answered(user_id, fp, body_hash))
            if before is not None:
                return before
        self._allowances.spend(session, operation.cost)
        change = await _change_of(operation.write(session, arguments))
        text = ""

        def work(tables: Tables) -> object:
            nonlocal text
            before = tables.request_log.answered(user_id, fp, body_hash) if fp else None
            if before is not None:
                return _NotNow(before)
            try:
                result = change.write(tables)
                text = answer(head.ref, operation.shown(result))
            except Refused as refused:
                text = refusal(head.ref, refused.code, refused.text)
                result = _NotNow(text, refused.code)
            if fp:
                tables.request_log.remember(user_id, fp, text, wall_clock.now_ms(), body_hash)
            return result

        try:
            result = await self._store.write(work)
            if isinstance(result, _NotNow):
                if result.code:
                    refusals.count(self._row, result.code)
                return result.text
            await change.tell(result)
        finally:
            change.over()
        return text


def _recognised_by(sent: ServerRequest, head: _Head, operation: Operation) -> int:
    """The hash by which a repetition of the request is told from another request with its fp. It is quick to compute,
    so it must not be that of a text with a password: whoever reads the store could try a billion passwords a second.
    Two requests of such an operation differ by their ref alone."""
    return text_hash(msgspec.json.encode(head).decode() if operation.has_secrets else sent.body)


async def _change_of(write: Awaitable[Change[Any]]) -> Change[Any]:
    """write: what an operation's `write` returned. Raises: as it does, but a refusal that is final is returned, as a
    change that is refused."""
    try:
        return await write
    except Refused as refused:
        if meaning(refused.code).temporary:
            raise
        return _refusing(refused)


def _refusing(refused: Refused) -> Change[Any]:
    """A change that is refused in its transaction, where the refusal is remembered for repetitions of the request."""

    def write(tables: Tables) -> None:
        raise refused

    return Change(write)


def _acknowledge(session: Session, command: ServerRequest) -> None:
    session.peer.push(Accepted(command, 0, wall_clock.now_ms()))


def _fp_of_answer(command: ServerRequest) -> str:
    return f"re:{command.fp}" if command.fp else ""


def _head_of(command: ServerRequest) -> _Head:
    """op "": this is not a request."""
    body = command.body.encode("utf-8", "surrogatepass")
    try:
        return _decode_head(body)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return _Head(_decode_op(body).op)
    except (msgspec.DecodeError, RecursionError):
        return _Head("")


def _names_an_operation(body: bytes) -> bool:
    try:
        _decode_op(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
