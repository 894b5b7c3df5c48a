"""Surveys: asking other workers a question, and collecting their answers.

Owns: Surveys, the open questions of one worker, and Survey, one of them. A question is published with a `ref`, a number
that no other question uses; every answer repeats it. The question may be published again and again, for a worker that
missed it.
Elsewhere: what is asked, when the answers are complete, and the bytes (core.sessions, core.bus_messages); reading the
bus, whose answers are handed over with Surveys.answered().
Fails: never. A worker that does not answer is missing from the answers; how long to wait is the caller's decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from chatd.bus.contract import Bus, Topic, topic_of_answer

A = TypeVar("A")
Ref = int

_REF_BITS = 59
"""One less than topic_of_answer() allows: refs count upwards from a random number."""


class Question(NamedTuple, Generic[A]):
    """One question, before it is asked.

    topic: the workers subscribed to it are asked.
    encode: the bytes of the question with this ref; called whenever it is published, so it may contain its own age.
    answer: the type of the answers; what else comes with the same ref is ignored.
    private: the answers come on topic_of_answer(ref), which is subscribed while the survey is open. Otherwise they come
    on `topic`, to which the worker that asks is subscribed itself.
    """

    topic: Topic
    encode: Callable[[Ref], bytes]
    answer: type[A]
    private: bool = False


class Surveys:
    """The open surveys of one worker."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._open: dict[Ref, Survey[Any]] = {}
        self._refs = itertools.count(secrets.randbits(_REF_BITS) + 1)

    def __len__(self) -> int:
        """Surveys that are open."""
        return len(self._open)

    def open(self, question: Question[A], take: Callable[[A], None]) -> Survey[A]:
        """A survey, in which nothing is asked yet. take: called with every answer, until the survey is closed."""
        survey = Survey(self._bus, next(self._refs), question, take)
        self._open[survey.ref] = survey
        survey.on_close = self._closed
        return survey

    def answered(self, ref: Ref, answer: object) -> None:
        """An answer has arrived. An answer to another worker's survey, or to one that is over, is ignored."""
        if (survey := self._open.get(ref)) is not None:
            survey.answered(answer)

    def _closed(self, ref: Ref) -> None:
        self._open.pop(ref, None)


class Survey(Generic[A]):
    """One question to other workers. Made by Surveys.open(); the caller that opened it closes it."""

    def __init__(self, bus: Bus, ref: Ref, question: Question[A], take: Callable[[A], None]) -> None:
        self.ref = ref
        self.on_close: Callable[[Ref], None] = lambda ref: None
        self._bus = bus
        self._question = question
        self._take = take
        self._heard = asyncio.Event()
        """An answer came since wait() returned last."""
        self._subscribed = False
        """The private topic is subscribed."""

    async def run(self, is_complete: Callable[[], bool], deadline: float, every_s: float) -> bool:
        """Ask now and every every_s seconds, until is_complete() or the loop's time is `deadline`. is_complete is asked
        again after every answer, and at least every every_s. Returns what it said last. May be run again."""
        now = asyncio.get_running_loop().time
        ask_at = now()
        while not (complete := is_complete()) and now() < deadline:
            if now() >= ask_at:
                await self.ask()
                ask_at = now() + every_s
            await self.wait(min(ask_at, deadline) - now())
        return complete

    async def ask(self) -> None:
        """Publish the question once. The first time, returns when a private answer would arrive."""
        if self._question.private and not self._subscribed:
            self._subscribed = True
            await self._bus.subscribe([topic_of_answer(self.ref)])
        self._bus.publish(self._question.topic, self._question.encode(self.ref))

    async def wait(self, limit_s: float) -> bool:
        """Return when an answer comes, or came since the last call (True), or after limit_s (False)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._heard.wait()
        heard = self._heard.is_set()
        self._heard.clear()
        return heard

    def answered(self, answer: object) -> None:
        if isinstance(answer, self._question.answer):
            self._take(answer)
            self._heard.set()

    def close(self) -> None:
        """Ignore further answers. May be called twice."""
        self.on_close(self.ref)
        if self._subscribed:
            self._subscribed = False
            self._bus.unsubscribe([topic_of_answer(self.ref)])
