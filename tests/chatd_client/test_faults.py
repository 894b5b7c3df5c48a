"""Under faults nothing is lost and nothing is given twice to the caller, as the judge sees it."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd_client import Client, Code, Invalid, Kicked, LimitReached, NotAcknowledged, State, events
from tests.chatd_client.people import TRANSPORTS, People, quick
from tests.harness import judge
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until, wait_until, within
from tests.harness.journal import Journal, digest, next_connection, pair
from tests.harness.proxy import LosesAnswer, Proxy
from tests.upgrade.installation import upgrade_of

SCHEMES = ("tcp", "wss", "tls")


class Writer:
    """A client that writes to others and to a group, and writes down what it sends and what it takes."""

    def __init__(self, people: People, proxy: Proxy, client: Client, journal: Journal) -> None:
        self.client = client
        self.name = client.me.name
        self.proxy = proxy
        self.journal = journal
        self.connection = next_connection()
        self.taken = 0
        self.slow_s = 0.0
        """How long it takes over each message."""
        journal.note("connect", self.name, self.connection)

    def conversation(self, place: str) -> str:
        return place if place.startswith("#") else pair(self.name, place)

    async def write(self, to: str, number: int) -> None:
        text = f"{self.name} {to} {number}"
        where = self.conversation(to)
        self.journal.note("send", self.name, self.connection, id=text, conv=where, hash=digest(text))
        sent = await self.client.send(to, text)
        self.journal.note("ok", self.name, self.connection, id=text, seq=sent.seq)

    async def read(self) -> None:
        async for message in self.client.messages():
            self.journal.note(
                "receive", self.name, self.connection, id=message.text, conv=self.conversation(message.conversation),
                sender=message.sender, hash=digest(message.text), seq=message.seq,
            )  # fmt: skip
            self.taken += 1
            if self.slow_s:
                await asyncio.sleep(self.slow_s)


async def converse(
    people: People, fault: Callable[[int, list[Writer]], object], rounds: int, record: Callable[[str, object], None]
) -> judge.Verdict:
    """Three users on three transports, each behind a proxy, write to each other and to a group. fault: done in the
    background at each round, by number."""
    journal = Journal()
    names = [await people.user(name) for name in ("ann", "bob", "cy")]
    team = await people.town.make_group("team", names)
    journal.note("members", "", conv=f"#{team}", users=tuple(names))
    proxies = [Proxy(people.daemon.ports[TRANSPORTS[scheme]]) for scheme in SCHEMES]
    try:
        clients = [
            people.client(name, scheme, proxy.port) for name, scheme, proxy in zip(names, SCHEMES, proxies, strict=True)
        ]
        async with clients[0], clients[1], clients[2], asyncio.TaskGroup() as tasks:
            writers = [Writer(people, proxy, one, journal) for proxy, one in zip(proxies, clients, strict=True)]
            readers = [tasks.create_task(writer.read()) for writer in writers]
            writing = []
            for number in range(rounds):
                for writer in writers:
                    for to in (f"#{team}", *(name for name in names if name != writer.name)):
                        writing.append(tasks.create_task(writer.write(to, number)))
                await asyncio.to_thread(fault, number, writers)
            for proxy in proxies:
                proxy.thaw()
            await asyncio.wait(writing)
            await until(40, "everything is taken", lambda: all(one.taken >= 4 * rounds for one in writers))
            await asyncio.sleep(0.2)  # what is given twice would come now
            for reader in readers:
                reader.cancel()
    finally:
        for proxy in proxies:
            proxy.close()
    verdict = judge.judge(journal.lines)
    record("verdict", str(verdict))
    assert all(proxy.accepted > 1 for proxy in proxies), "every client had to come back"
    return verdict


@pytest.fixture
def faulty(make_daemon: Callable[..., Daemon], tmp_path: Path) -> People:
    """A daemon that soon gives messages again that are not acknowledged, and gives few at once."""
    daemon = make_daemon(
        workers=2,
        certificate=Certificate(tmp_path / "certificate"),
        timeouts={"resend_s": 0.1},
        limits={"in_flight": 8},
    )
    return People(daemon.start())


def test_nothing_is_lost_or_doubled_by_cuts_kills_and_copies(
    faulty: People, record_property: Callable[[str, object], None]
) -> None:
    daemon = faulty.daemon
    daemon.expect_error("worker died")

    def fault(number: int, writers: list[Writer]) -> None:
        victim = writers[number % 3]
        victim.slow_s = random.choice((0.0, 0.0, 0.03))  # longer than resend_s for eight messages: copies come
        match number % 8:
            case 1 | 3 | 6:
                victim.proxy.cut()
            case 2:
                victim.proxy.freeze()
            case 4:
                wait_until(20, "every worker ready", daemon.all_ready, 0.05)
                os.kill(daemon.workers()[0], signal.SIGKILL)
            case 5:
                for one in writers:
                    one.proxy.thaw()
            case 7 if number == 15:
                daemon.kill_all()
                daemon.start()

    verdict = run(converse(faulty, fault, 24, record_property), 100)
    assert verdict.clean, str(verdict)
    assert verdict.counts["receive"] == 12 * 24


def test_the_judge_finds_a_client_that_forgets_what_it_has_given(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the memory off, a cut gives messages twice."""
    monkeypatch.setattr("chatd_client.memory.Memory.has", lambda self, message: False)
    monkeypatch.setattr("chatd_client.session.Session._send", lambda self, packet: None)  # no acknowledgement arrives

    def fault(number: int, writers: list[Writer]) -> None:
        if number == 3:
            wait_until(10, "something is taken", lambda: all(writer.taken > 4 for writer in writers))
            for writer in writers:
                writer.proxy.cut()

    verdict = run(converse(people, fault, 5, lambda name, value: None))
    assert "duplicate" in verdict.kinds()


# ---------------------------------------------------------------- single faults


def test_a_message_whose_acknowledgement_is_lost_is_stored_once(people: People) -> None:
    async def story(proxy: Proxy, loses: LosesAnswer) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann, port=proxy.port) as a, people.client(bob) as b:
            for number, reached in enumerate((True, False)):
                loses.marker = f"text {number}".encode()
                loses.arm(reached=reached)
                sent = await a.send(bob, f"text {number}")
                assert loses.struck.is_set()
                assert sent.seq == number + 1
            loses.marker = b"profile.set"
            for reached in (True, False):
                loses.arm(reached=reached)
                assert await a.profiles.set(status=f"{reached}") == {"status": f"{reached}"}
                assert loses.struck.is_set()
            assert [(await b.receive(10)).text for _ in range(2)] == ["text 0", "text 1"]
            with pytest.raises(TimeoutError):
                await b.receive(0.2)

    loses = LosesAnswer(b"")
    with Proxy(people.daemon.ports["mobileimsdk"], hook=loses) as proxy:
        run(story(proxy, loses))


def test_a_connection_that_is_silent_is_replaced(people: People) -> None:
    """The network takes everything and gives nothing: only the signs of life tell."""

    async def story(proxy: Proxy) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        timing = quick(keep_alive_s=0.1, answer_s=0.4)
        async with people.client(ann, port=proxy.port, timing=timing) as a, people.client(bob) as b:
            proxy.freeze()
            await until(10, "the silence is noticed", lambda: a.state is State.WAITING or a.state is State.CONNECTING)
            proxy.cut()
            proxy.thaw()
            await b.send(ann, "are you back?")
            assert (await a.receive(10)).text == "are you back?"

    with Proxy(people.daemon.ports["mobileimsdk"]) as proxy:
        run(story(proxy))


def test_a_message_is_sent_although_nobody_waits_for_it_any_more(people: People) -> None:
    async def story(proxy: Proxy) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann, port=proxy.port) as a, people.client(bob) as b:
            proxy.refuse()
            with pytest.raises(NotAcknowledged) as late:
                await a.send(bob, "late", timeout_s=0.1)
            assert a.unacknowledged == 1
            again = asyncio.create_task(a.send(bob, "late", fp=late.value.fp))
            proxy.allow()
            assert (await again).fp == late.value.fp
            assert (await b.receive(10)).text == "late"
            assert [one.text async for one in a.conversations.history(bob)] == ["late"]

    with Proxy(people.daemon.ports["mobileimsdk"]) as proxy:
        run(story(proxy))


def test_who_reads_too_slowly_disconnects_until_there_is_room(people: People) -> None:
    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann, inbox_messages=8) as a, people.client(bob) as b:
            for number in range(40):
                await b.send(ann, str(number))
            await until(10, "the inbox is full", lambda: a.state is State.WAITING)
            assert [(await a.receive(10)).text for _ in range(40)] == [str(number) for number in range(40)]
            with pytest.raises(TimeoutError):
                await a.receive(0.2)

    run(story())


def test_a_program_with_a_journal_goes_on_where_it_was(people: People, tmp_path: Path) -> None:
    """It is left by an exception, as by a crash: nothing is settled, and what it has at the moment is not taken."""

    class Crash(Exception):
        pass

    async def first(ann: str, bob: str, proxy: Proxy) -> None:
        async with people.client(ann, port=proxy.port, journal=tmp_path / "ann.journal") as a:
            for expected in ("0", "1", "2"):
                assert (await a.receive(10)).text == expected
            proxy.refuse()  # what it acknowledges and sends from here on arrives nowhere
            assert (await a.receive(10)).text == "3"
            with pytest.raises(NotAcknowledged):
                await a.send(bob, "kept", timeout_s=0.1)
            raise Crash

    async def story(proxy: Proxy) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(bob) as b:
            for number in range(5):
                await b.send(ann, str(number))
            with pytest.raises(Crash):
                await first(ann, bob, proxy)
            async with people.client(ann, journal=tmp_path / "ann.journal") as a:
                assert [(await a.receive(10)).text for _ in range(2)] == ["3", "4"]
                assert (await b.receive(10)).text == "kept"
                await until(10, "it is acknowledged", lambda: not a.unacknowledged)
            async with people.client(ann, journal=tmp_path / "ann.journal") as a:
                with pytest.raises(TimeoutError):
                    await a.receive(0.2)
            assert [one.text async for one in b.conversations.history(ann, limit=1)] == ["kept"]

    with Proxy(people.daemon.ports["mobileimsdk"]) as proxy:
        run(story(proxy))


def test_a_message_that_is_put_off_too_long_is_taken_back(make_daemon: Callable[..., Daemon]) -> None:
    """The mailbox is full: the server has not stored it, and will not be asked again."""
    crowded = People(make_daemon(limits={"waiting_from_one": 10}).start())

    async def story() -> None:
        ann, bob = await crowded.user("ann"), await crowded.user("bob")
        async with crowded.client(bob) as b:
            for number in range(10):
                await b.send(ann, str(number))
            with pytest.raises(LimitReached) as full:
                await b.send(ann, "10", timeout_s=0.3)
            assert (full.value.code, full.value.temporary) == (Code.MAILBOX_FULL, True)
            assert full.value.retry_after
            assert b.unacknowledged == 0
            waiting = asyncio.create_task(b.send(ann, "11", fp="mine"))
            await asyncio.sleep(0)
            with pytest.raises(Invalid) as reused:
                await b.send(ann, "12", fp="mine")
            assert reused.value.code == Code.FP_REUSED
            async with crowded.client(ann) as a:
                assert [(await a.receive(10)).text for _ in range(10)] == [str(number) for number in range(10)]
                assert (await a.receive(10)).text == "11"
            await waiting

    run(story())


# ---------------------------------------------------------------- what an operator does


def test_clients_come_back_when_a_draining_server_has_told_them_to(faulty: People) -> None:
    """Workers are replaced one after the other, twice."""

    async def story() -> None:
        ann, bob = await faulty.user("ann"), await faulty.user("bob")
        async with faulty.client(ann, "wss") as a, faulty.client(bob) as b:
            numbers = itertools.count()

            async def write() -> None:
                while True:
                    await b.send(ann, str(next(numbers)))
                    await asyncio.sleep(0.01)

            writing = asyncio.create_task(write())
            heard = asyncio.create_task(draining(a))
            done = await asyncio.to_thread(faulty.daemon.ctl, "restart-workers")
            assert done.returncode == 0, done.stderr
            writing.cancel()
            waited_s, asked_s = await within(10, "the notice, and the way back", heard)
            assert asked_s <= waited_s < asked_s + 10
            last = await b.send(ann, "last")
            texts = [(await a.receive(10)).text for _ in range(last.seq)]
            assert texts == [*(str(number) for number in range(last.seq - 1)), "last"]

    async def draining(client: Client) -> tuple[float, float]:
        """How long after the notice it was logged in again, and how long it was to wait at least."""
        asked_s, told_at = 0.0, 0.0
        now = asyncio.get_running_loop().time
        async for event in client.events():
            if isinstance(event, events.Draining):
                asked_s, told_at = event.retry_after_ms / 1000, now()
            elif isinstance(event, events.StateChanged) and event.state is State.LIVE and told_at:
                return now() - told_at, asked_s
        raise AssertionError("the client was closed")

    run(story())


def test_an_upgrade_in_place_is_not_noticed(faulty: People) -> None:
    async def story() -> None:
        ann, bob = await faulty.user("ann"), await faulty.user("bob")
        async with faulty.client(ann, "ws") as a, faulty.client(bob) as b:
            changes: list[events.StateChanged] = []
            listening = [asyncio.create_task(listen(one, changes)) for one in (a, b)]
            await a.presence.watch([])
            before = faulty.daemon.workers()
            sent = [await b.send(ann, "before")]
            done = await asyncio.to_thread(upgrade_of, faulty.daemon)
            assert done.returncode == 0, done.stderr
            assert faulty.daemon.workers() != before
            sent += [await b.send(ann, "after"), await a.send(bob, "here")]
            assert [(await a.receive(10)).text for _ in range(2)] == ["before", "after"]
            assert (await b.receive(10)).text == "here"
            assert [one.state for one in changes] == [State.LIVE, State.LIVE]
            for one in listening:
                one.cancel()

    async def listen(client: Client, changes: list[events.StateChanged]) -> None:
        async for event in client.events():
            if isinstance(event, events.StateChanged):
                changes.append(event)

    run(story())


def test_a_session_that_ended_raises_in_everything_that_waits(people: People) -> None:
    async def story(proxy: Proxy) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann, port=proxy.port) as a, people.client(bob):
            waiting = [asyncio.create_task(a.receive()), asyncio.create_task(read_events(a))]
            code, _, said = await asyncio.to_thread(people.daemon.ctl_said, "kick", ann)
            assert code == 0, said
            for one in waiting:
                with pytest.raises(Kicked):
                    await within(10, "it ends", one)
            with pytest.raises(Kicked):
                await a.send(bob, "x")

    async def read_events(client: Client) -> None:
        async for _ in client.events():
            pass

    with Proxy(people.daemon.ports["mobileimsdk"]) as proxy:
        run(story(proxy))
