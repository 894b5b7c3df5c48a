"""Requests to the server: each is asked until it is answered, over as many connections as that takes, and has one
effect.

Owns: the requests without an answer, their numbers and fps, and what a refusal means to a person.
Elsewhere: the frames (frames, outgoing), connections and logins (session), what is asked for (commands, live).
Fails: Declined for a refusal of the server; NotOffered; NotDone if the server does not answer in time.

A request that is sent again has the same fp, so the server carries it out once and gives its first answer again: what
became of a request is known also when the connection broke before the answer.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from chatd.client import frames, outgoing
from chatd.client.sender import NotDone
from chatd.client.timing import Backoff
from chatd.errors import ErrorCode

PUT_OFF = (ErrorCode.TOO_FAST, ErrorCode.BUSY, ErrorCode.UNAVAILABLE)
"""Refusals after which the request is sent again after a pause."""
MAX_PENDING = 100
"""Maximum requests without an answer."""

PAGES = 50
"""Maximum pages that are read of one list."""


class Page(Protocol):
    """The answer of an operation that gives a list in pages."""

    @property
    def more(self) -> bool: ...


P = TypeVar("P", bound=Page)
R = TypeVar("R")
T = TypeVar("T")


class Declined(NotDone):
    """The server has refused the request. code: a number of chatd.errors, or a plug-in's own."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class NotOffered(NotDone):
    """This server does not have the operation, or no requests at all."""

    def __init__(self) -> None:
        super().__init__("this server does not offer this")


class _Pending(msgspec.Struct):
    frame: bytes
    answer: asyncio.Future[frames.Answer]


class Requests:
    def __init__(self, answer_s: float) -> None:
        self.offered = True
        """Whether the server of the last login has requests."""
        self._answer_s = answer_s
        self._send: Callable[[bytes], None] | None = None
        """None while not logged in."""
        self._pending: dict[int, _Pending] = {}
        self._numbers = itertools.count(1)

    def start(self, send: Callable[[bytes], None]) -> None:
        """Logged in, on a new connection: what is unanswered is asked again."""
        self.offered = True
        self._send = send
        for pending in self._pending.values():
            send(pending.frame)

    def stop(self) -> None:
        """The connection is lost. Requests wait for the next one."""
        self._send = None

    def end(self, why: NotDone) -> None:
        """There will be no next connection."""
        self._send = None
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(why)

    def refuse_all(self) -> None:
        """The server has no requests."""
        self.offered = False
        self.end(NotOffered())

    def answered(self, answer: frames.Answer) -> None:
        """An answer that nobody waits for any more is dropped."""
        pending = self._pending.get(answer.ref)
        if pending is not None and not pending.answer.done():
            pending.answer.set_result(answer)

    async def rows(
        self, op: str, shape: type[P], of: Callable[[P], Sequence[R]], id_of: Callable[[R], int], **arguments: object
    ) -> list[R]:
        """All rows of a list, read in at most PAGES pages. of: the rows of a page. id_of: by which they are sorted.
        Raises as ask()."""
        found: list[R] = []
        for _ in range(PAGES):
            page = await self.ask(op, shape, after=id_of(found[-1]) if found else 0, **arguments)
            rows = of(page)
            found += rows
            if not page.more or not rows:
                break
        return found

    async def ask(self, op: str, shape: type[T], **arguments: object) -> T:
        """The result of the operation. `with_` stands for the argument "with". Raises Declined, NotOffered, NotDone."""
        if not self.offered:
            raise NotOffered
        named = {name.rstrip("_"): value for name, value in arguments.items()}
        pause = Backoff(0.3, 3.0)
        try:
            async with asyncio.timeout(self._answer_s):
                while True:
                    answer = await self._ask_once(op, named)
                    if answer.code not in PUT_OFF:
                        break
                    await asyncio.sleep(pause.next_s())
        except TimeoutError:
            raise NotDone("no answer from the server: whether this was done is not known") from None
        if answer.ok:
            try:
                return msgspec.json.decode(answer.result, type=shape)
            except msgspec.DecodeError as error:
                raise NotDone(f"the server's answer is not understood: {error}") from None
        if answer.code == ErrorCode.UNKNOWN_REQUEST:
            raise NotOffered
        raise Declined(answer.code, answer.text or "refused")

    async def _ask_once(self, op: str, arguments: dict[str, object]) -> frames.Answer:
        if len(self._pending) >= MAX_PENDING:
            raise NotDone("too many requests wait for an answer")
        number = next(self._numbers)
        frame = outgoing.request(op, number, uuid.uuid4().hex, arguments)
        pending = _Pending(frame, asyncio.get_running_loop().create_future())
        self._pending[number] = pending
        if self._send is not None:
            self._send(frame)
        try:
            return await pending.answer
        finally:
            del self._pending[number]
