"""Surveys: every answer is counted for the question it belongs to, and waiting has an end."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from chatd.bus.contract import EVERYBODY, Topic, topic_of_answer
from chatd.bus.survey import Question, Surveys
from tests.core.exchange import Exchange, ExchangeBus
from tests.harness import deadline


class Weather(msgspec.Struct, frozen=True):
    ref: int
    celsius: int


class Host:
    """One worker on the exchange. It answers questions with its temperature, unless it is told to be silent."""

    def __init__(self, exchange: Exchange, celsius: int) -> None:
        self.bus: ExchangeBus = exchange.bus()
        self.surveys = Surveys(self.bus)
        self.celsius = celsius
        self.asked = 0
        self.silent = False
        self.bus.on_message = self._heard

    def _heard(self, topic: Topic, data: bytes) -> None:
        kind, ref = data.split(b" ")[:2]
        if kind == b"answer":
            self.surveys.answered(int(ref), Weather(int(ref), int(data.split(b" ")[2])))
            return
        self.asked += 1
        if not self.silent:
            self.bus.publish(topic_of_answer(int(ref)), b"answer %d %d" % (int(ref), self.celsius))


def question() -> Question[Weather]:
    return Question(EVERYBODY, lambda ref: b"question %d" % ref, Weather, private=True)


def play(story: Callable[[Exchange, list[Host]], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        exchange = Exchange()
        await story(exchange, [Host(exchange, number) for number in range(4)])

    deadline.run(whole(), 20.0)


def in_s(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_everybody_answers_and_it_is_complete() -> None:
    async def story(exchange: Exchange, hosts: list[Host]) -> None:
        answers: list[Weather] = []
        with contextlib.closing(hosts[0].surveys.open(question(), answers.append)) as survey:
            assert await survey.run(lambda: len(answers) == 3, in_s(10), every_s=math.inf)
        assert sorted(answer.celsius for answer in answers) == [1, 2, 3]
        assert {answer.ref for answer in answers} == {survey.ref}
        assert [host.asked for host in hosts] == [0, 1, 1, 1]
        assert len(hosts[0].surveys) == 0
        assert hosts[0].bus.own == set()

    play(story)


def test_who_is_silent_is_missing_after_the_deadline_and_may_be_asked_further() -> None:
    async def story(exchange: Exchange, hosts: list[Host]) -> None:
        hosts[2].silent = True
        answers: set[int] = set()
        survey = hosts[0].surveys.open(question(), lambda answer: answers.add(answer.celsius))
        assert not await survey.run(lambda: len(answers) == 3, in_s(0.1), every_s=0.02)
        assert answers == {1, 3}
        assert hosts[2].asked > 1
        hosts[2].silent = False
        assert await survey.run(lambda: len(answers) == 3, in_s(10), every_s=0.02)
        survey.close()
        survey.close()
        assert hosts[0].bus.own == set()

    play(story)


def test_a_question_that_was_lost_is_asked_again() -> None:
    async def story(exchange: Exchange, hosts: list[Host]) -> None:
        lost = [True] * 3
        exchange.lost = lambda source, target, data: bool(lost) and lost.pop()
        answers: set[int] = set()
        with contextlib.closing(
            hosts[0].surveys.open(question(), lambda answer: answers.add(answer.celsius))
        ) as survey:
            assert await survey.run(lambda: len(answers) == 3, in_s(10), every_s=0.02)

    play(story)


def test_surveys_at_the_same_time_do_not_mix_and_late_or_foreign_answers_are_ignored() -> None:
    async def story(exchange: Exchange, hosts: list[Host]) -> None:
        one, two = list[Weather](), list[Weather]()
        first = hosts[0].surveys.open(question(), one.append)
        second = hosts[0].surveys.open(question(), two.append)
        assert first.ref != second.ref
        await first.ask()
        await second.ask()
        while len(one) < 3 or len(two) < 3:
            await first.wait(0.01)
        assert {answer.ref for answer in one} == {first.ref}
        assert {answer.ref for answer in two} == {second.ref}
        hosts[0].surveys.answered(first.ref, "no weather at all")
        first.close()
        hosts[0].surveys.answered(first.ref, Weather(first.ref, 40))
        assert len(one) == 3
        second.close()

    play(story)


def test_an_answer_that_came_before_the_wait_is_not_missed() -> None:
    async def story(exchange: Exchange, hosts: list[Host]) -> None:
        answers: list[Weather] = []
        with contextlib.closing(hosts[0].surveys.open(question(), answers.append)) as survey:
            hosts[0].surveys.answered(survey.ref, Weather(survey.ref, 1))
            assert await survey.wait(10)
            assert not await survey.wait(0.01)
        assert len(answers) == 1

    play(story)


def test_the_private_topic_of_a_survey_is_subscribed_before_the_question_is_published() -> None:
    async def story(exchange: Exchange, hosts: list[Host]) -> None:
        exchange.gate = asyncio.Event()
        answers: list[Weather] = []
        survey = hosts[0].surveys.open(question(), answers.append)
        asking = asyncio.ensure_future(survey.ask())
        await asyncio.sleep(0.01)
        assert [host.asked for host in hosts] == [0, 0, 0, 0]
        exchange.gate.set()
        await asking
        while len(answers) < 3:
            await survey.wait(0.01)
        survey.close()

    play(story)
