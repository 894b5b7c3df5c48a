"""Who is hashed next: classes by their shares, sources in turns, and who gives way when the queue is full."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatd.core.admission import AdmissionQueue, Applicant, Work
from chatd.errors import ErrorCode, Refused
from tests.harness.deadline import run


def nothing() -> None:
    pass


class Played:
    """A queue with one thread, which is held until release(); then `order` is the order of the hashes."""

    def __init__(self, most: int = 1000) -> None:
        self.pool = ThreadPoolExecutor(1)
        self.queue = AdmissionQueue(self.pool, 1, 0.001)
        self.gate = threading.Event()
        self.order: list[str] = []
        self.refused: list[str] = []
        self.most = most
        self.tasks = [asyncio.ensure_future(self.queue.run(self.gate.wait, Applicant("", Work.KNOWN, nothing), 1, 9))]

    async def ask(self, label: str, source: str, work: Work, check: Callable[[], None] = nothing) -> None:
        self.tasks.append(asyncio.ensure_future(self._ask(label, Applicant(source, work, check))))
        await asyncio.sleep(0)

    async def _ask(self, label: str, applicant: Applicant) -> None:
        try:
            await self.queue.run(lambda: self.order.append(label), applicant, self.most, 1000.0)
        except Refused:
            self.refused.append(label)

    async def release(self) -> None:
        self.gate.set()
        await asyncio.gather(*self.tasks)
        self.pool.shutdown()


def test_a_newcomer_waits_for_one_round_and_not_for_the_flood() -> None:
    async def story() -> None:
        played = Played()
        await asyncio.sleep(0)
        for number in range(200):
            await played.ask(f"flood {number}", "attacker", Work.STREAM)
        await played.ask("newcomer", "owner", Work.STREAM)
        await played.release()
        assert played.order.index("newcomer") <= 1
        assert len(played.order) == 201

    run(story(), 20)


def test_datagrams_get_their_share_and_no_more_while_others_wait() -> None:
    async def story() -> None:
        played = Played()
        await asyncio.sleep(0)
        for number in range(200):
            await played.ask("datagram", f"source {number}", Work.DATAGRAM)
        for number in range(60):
            await played.ask("stream", f"source {number}", Work.STREAM)
        await played.release()
        first = played.order[:40]
        assert 12 <= first.count("datagram") <= 15, "one of three: 0.125 against 0.25"
        assert set(played.order[95:]) == {"datagram"}, "what nobody else uses is theirs"

    run(story(), 20)


def test_a_full_queue_drops_the_newest_of_the_source_with_the_most() -> None:
    async def story() -> None:
        played = Played(most=10)
        await asyncio.sleep(0)
        for number in range(10):
            await played.ask(f"flood {number}", "attacker", Work.STREAM)
        await played.ask("newcomer", "owner", Work.STREAM)
        await played.ask("flood 10", "attacker", Work.STREAM)
        await played.ask("known", "home", Work.KNOWN)
        await played.release()
        assert played.refused == ["flood 9", "flood 10", "flood 8"]
        assert {"newcomer", "known"} <= set(played.order)

    run(story(), 20)


def test_guessers_from_many_sources_do_not_keep_newcomers_out_of_a_full_queue() -> None:
    """Each has one hash waiting, as the newcomer has; but a wrong password came from each of them before."""

    async def story() -> None:
        played = Played(most=10)
        await asyncio.sleep(0)
        for number in range(30):
            await played.ask(f"guess {number}", f"source {number}", Work.SUSPECT)
        for number in range(3):
            await played.ask(f"newcomer {number}", f"home {number}", Work.STREAM)
        await played.release()
        assert not [label for label in played.refused if label.startswith("newcomer")]
        assert max(played.order.index(f"newcomer {number}") for number in range(3)) <= 5

    run(story(), 20)


def test_a_client_that_has_gone_is_not_hashed() -> None:
    async def story() -> None:
        played = Played()
        await asyncio.sleep(0)

        def gone() -> None:
            raise Refused(ErrorCode.BUSY)

        await played.ask("gone", "one", Work.STREAM, gone)
        await played.ask("there", "two", Work.STREAM)
        await played.release()
        assert (played.order, played.refused) == (["there"], ["gone"])
        assert played.queue.waiting == 0

    run(story(), 20)


@pytest.mark.parametrize("work", Work)
def test_one_who_gives_up_leaves_no_thread_behind(work: Work) -> None:
    async def story() -> None:
        played = Played()
        await asyncio.sleep(0)
        await played.ask("gives up", "one", work)
        played.tasks.pop().cancel()
        await played.ask("stays", "one", work)
        await played.release()
        assert played.order == ["stays"]

    run(story(), 20)
