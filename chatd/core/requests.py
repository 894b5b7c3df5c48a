"""Requests to the server (C2S): one table of operations.

Owns: reading a request, the table, exactly-once, answers.
Elsewhere: what an operation does (requests_people, requests_groups, requests_history); S2C delivery (notices).
Fails: never towards its caller; a request that fails is answered with an error in the protocol's own terms.

A request that changes something runs in one transaction with its answer, under (sender, fp): sent again, on
whatever worker, it is not run again but answered again (P2). An answer's fp is made from the request's, so
that a client that gets it twice drops the second.

Source: protocols/mobileimsdk.md, "Requests to the server".
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from chatd import log
from chatd.core.change import Change
from chatd.core.notices import Notices, Ref, answer, fitted, refusal
from chatd.core.session import Session
from chatd.errors import MEANINGS, ErrorCode, Refused, Unavailable
from chatd.protocol import Accepted, ServerRequest
from chatd.store.base import Tables
from chatd.store.commit import GroupCommit

Read = Callable[[Session, Any], Awaitable[object]]
Write = Callable[[Session, Any], Awaitable[Change[Any]]]


class Op(NamedTuple):
    """One operation. Exactly one of read and write is given. result: what its answer holds, for people.

    shown: makes the answer of what a Change gave.
    """

    arguments: type[msgspec.Struct]
    text: str
    read: Read | None = None
    write: Write | None = None
    shown: Callable[[Any], object] = lambda result: {}


Table = dict[str, Op]


class NoArguments(msgspec.Struct, frozen=True):
    pass


class _Head(msgspec.Struct, frozen=True):
    op: str
    ref: Ref = None


class _Repeat(NamedTuple):
    text: str


_decode_head = msgspec.json.Decoder(_Head).decode


class Requests:
    def __init__(self, table: Table, notices: Notices, store: GroupCommit) -> None:
        self._table = table
        self._notices = notices
        self._store = store
        self._decoders = {name: msgspec.json.Decoder(op.arguments).decode for name, op in table.items()}
        self._log = log.get()

    async def serve(self, session: Session, command: ServerRequest) -> None:
        """Acknowledge and answer. Commands after it wait (core.dispatch)."""
        body = command.body.encode("utf-8", "surrogatepass")
        try:
            head = _decode_head(body)
        except (msgspec.DecodeError, RecursionError):
            self.unknown(session, command)
            return
        text = await self._answer(session, command, head, body)
        session.peer.push(Accepted(command, 0, time.time_ns() // 1_000_000))
        self._notices.tell(session, text, f"re:{command.fp}" if command.fp else "")

    def unknown(self, session: Session, command: ServerRequest) -> None:
        """COMPAT: a text that is no request is acknowledged and dropped, as stock servers do."""
        session.peer.push(Accepted(command, 0, time.time_ns() // 1_000_000))

    async def _answer(self, session: Session, command: ServerRequest, head: _Head, body: bytes) -> str:
        op = self._table.get(head.op)
        try:
            if op is None:
                raise Refused(ErrorCode.UNKNOWN_REQUEST, "no such op")
            arguments = self._decoders[head.op](body)
            if op.read is not None:
                return fitted(head.ref, await op.read(session, arguments), session.peer.text_bytes)
            assert op.write is not None
            return await self._change(session, command.fp, head.ref, op, await op.write(session, arguments))
        except (msgspec.ValidationError, RecursionError) as error:
            return refusal(head.ref, ErrorCode.BAD_FIELD, str(error))
        except Refused as refused:
            return refusal(head.ref, refused.code, refused.text)
        except Unavailable:
            return refusal(head.ref, ErrorCode.UNAVAILABLE, MEANINGS[ErrorCode.UNAVAILABLE].text)
        except Exception as error:  # noqa: BLE001  a bug of one operation
            self._log.error("bug", op=head.op, user=session.user.id, exc_info=error)
            return refusal(head.ref, ErrorCode.INTERNAL, MEANINGS[ErrorCode.INTERNAL].text)

    async def _change(self, session: Session, fp: str, ref: Ref, op: Op, change: Change[Any]) -> str:
        user_id = session.user.id
        text = ""

        def work(tables: Tables) -> object:
            nonlocal text
            if fp:
                before = tables.answered(user_id, fp)
                if before is not None:
                    return _Repeat(before)
            result = change.write(tables)
            text = answer(ref, op.shown(result))
            if fp:
                tables.remember(user_id, fp, text, time.time_ns() // 1_000_000)
            return result

        result = await self._store.write(work)
        if isinstance(result, _Repeat):
            return result.text
        told = change.after(result)
        if told is not None:
            await told
        return text
