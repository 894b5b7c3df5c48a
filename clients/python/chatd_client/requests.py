"""Requests to the server: each is asked until it is answered, over as many connections as that takes, and has one
effect.

Owns: the requests without an answer, their numbers and fps, and what a refusal means to a person.
Elsewhere: the frames (packets, chatserver.outgoing), connections and logins (session), what is asked for.
Fails: Refused for a refusal of the server, NotOffered among them; NoAnswer if the server does not answer in time;
Overloaded.

A request that is sent again has the same fp, so the server carries it out once and gives its first answer again: what
became of a request is known also when the connection broke before the answer.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from chatd_client.errors import ChatError, Code, NoAnswer, NotOffered, Overloaded, refusal
from chatd_client.model import Answer
from chatd_client.timing import Backoff

PUT_OFF = (Code.TOO_FAST, Code.BUSY, Code.UNAVAILABLE)
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

Encode = Callable[[str, int, str, Mapping[str, object]], bytes]
"""(op, ref, fp, arguments) -> the frame of a request."""


class _Pending(msgspec.Struct):
    frame: bytes
    fp: str
    answer: asyncio.Future[Answer]


class Requests:
    def __init__(self, answer_s: float, encode: Encode) -> None:
        self.offered = True
        """Whether the server of the last login has requests."""
        self._answer_s = answer_s
        self._encode = encode
        self._send: Callable[[bytes], None] | None = None
        """None while not logged in."""
        self._over: ChatError | None = None
        """Why there will be no connection."""
        self._pending: dict[int, _Pending] = {}
        self._numbers = itertools.count(1)

    def begin(self) -> None:
        """A connection is wanted from now on: requests wait for it."""
        self._over = None

    def start(self, send: Callable[[bytes], None]) -> None:
        """Logged in, on a new connection: what is unanswered is asked again."""
        self.offered = True
        self._over = None
        self._send = send
        for pending in self._pending.values():
            send(pending.frame)

    def stop(self) -> None:
        """The connection is lost. Requests wait for the next one."""
        self._send = None

    def end(self, why: ChatError) -> None:
        """There will be no next connection."""
        self._send = None
        self._over = why
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(why)

    def refuse_all(self) -> None:
        """The server has no requests."""
        self.offered = False
        self.end(NotOffered())

    def answered(self, answer: Answer) -> None:
        """An answer that nobody waits for any more is dropped."""
        pending = self._pending.get(answer.ref)
        if pending is not None and not pending.answer.done():
            pending.answer.set_result(answer)

    def refused(self, fp: str, code: int, text: str) -> bool:
        """The server did not read the request as one. False: it is none of these."""
        for ref, pending in self._pending.items():
            if pending.fp == fp:
                self.answered(Answer(ref, False, msgspec.Raw(b"{}"), code, text))
                return True
        return False

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
        """The result of the operation. `with_` stands for the argument "with"; arguments that are None are left out.

        Raises Refused, NoAnswer, Overloaded, SessionEnded."""
        if not self.offered:
            raise NotOffered
        if self._over is not None:
            raise self._over
        named = {name.rstrip("_"): value for name, value in arguments.items() if value is not None}
        pause = Backoff(0.3, 3.0)
        last: Answer | None = None
        try:
            async with asyncio.timeout(self._answer_s):
                while True:
                    last = answer = await self._ask_once(op, named)
                    if answer.code not in PUT_OFF:
                        break
                    await asyncio.sleep(pause.next_s())
        except TimeoutError:
            if last is not None and last.code in PUT_OFF:
                raise refusal(last.code, last.text, retry_after=self._answer_s) from None
            raise NoAnswer("no answer from the server: whether this was done is not known") from None
        if answer.ok:
            try:
                return msgspec.json.decode(answer.result, type=shape)
            except msgspec.DecodeError as error:
                raise NoAnswer(f"the server's answer is not understood: {error}") from None
        raise refusal(answer.code, answer.text)

    async def _ask_once(self, op: str, arguments: dict[str, object]) -> Answer:
        if len(self._pending) >= MAX_PENDING:
            raise Overloaded("too many requests wait for an answer")
        number = next(self._numbers)
        fp = uuid.uuid4().hex
        frame = self._encode(op, number, fp, arguments)
        pending = _Pending(frame, fp, asyncio.get_running_loop().create_future())
        self._pending[number] = pending
        if self._send is not None:
            self._send(frame)
        try:
            return await pending.answer
        finally:
            del self._pending[number]
