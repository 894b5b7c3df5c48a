"""A slow link, calls cancelled at every step, and a program that is killed again and again: each message once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from chatd_client import State
from tests.chatd_client.people import People, quick
from tests.harness.deadline import run, until
from tests.harness.program import started
from tests.harness.proxy import Proxy

TURNS = 25
"""Turns of the loop after which a call is cancelled, one more each time; beyond them, milliseconds, MS at most."""
MS = 8


async def cancelled_after(steps: int, work: Coroutine[Any, Any, Any]) -> bool:
    """Whether it was still running then. What it raises by itself is raised."""
    task = asyncio.ensure_future(work)
    for _ in range(min(steps, TURNS)):
        await asyncio.sleep(0)
    if steps > TURNS:
        await asyncio.sleep((steps - TURNS) / 1000)
    is_running = not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return is_running


@pytest.mark.parametrize("scheme", ["tcp", pytest.param("wss", marks=pytest.mark.slow)])
def test_a_slow_link_is_kept_and_loses_nothing(people: People, scheme: str) -> None:
    """It carries less than is written for seconds, longer than a client waits for signs of life."""

    async def story(proxy: Proxy) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        timing = quick(keep_alive_s=0.5, answer_s=2.5)
        async with people.client(ann, scheme, proxy.port, timing=timing) as a, people.client(bob) as b:
            proxy.bytes_per_s = 40_000
            texts = [f"{number} {'x' * 500}" for number in range(120)]
            await asyncio.gather(*(a.send(bob, text) for text in texts))
            assert [(await b.receive(10)).text for _ in texts] == texts
            answers = [b.send(ann, text) for text in texts]
            await asyncio.gather(*answers)
            assert [(await a.receive(10)).text for _ in texts] == texts
            assert a.state is State.LIVE

    listener = {"tcp": "mobileimsdk", "wss": "mobileimsdk-wss"}[scheme]
    with Proxy(people.daemon.ports[listener]) as proxy:
        run(story(proxy), 60)
        assert proxy.accepted == 1, "the connection stayed"


def test_sending_is_cancelled_at_every_step(people: People) -> None:
    """Sent again with its fp, whatever had become of it, it is stored once."""

    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann) as a, people.client(bob) as b:
            ended = steps = 0
            while ended < 3 or steps <= TURNS:  # on a busy machine, cancelling may come too late before that
                fp = f"fp {steps}"
                ended += not await cancelled_after(steps, a.send(bob, str(steps), fp=fp))
                await a.send(bob, str(steps), fp=fp)
                assert (await b.receive(10)).text == str(steps)
                steps += 1
            assert steps > TURNS
            texts = [one.text async for one in b.conversations.history(ann, after=0)]
            assert texts == [str(number) for number in range(steps)]

    run(story())


def test_receiving_is_cancelled_at_every_step(people: People) -> None:
    """Whatever was not given to the program is given at its next call; nothing is given twice."""

    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann) as a, people.client(bob) as b:
            taken: list[str] = []

            async def take() -> None:
                taken.append((await b.receive(10)).text)

            for steps in range(TURNS + MS):
                sending = asyncio.ensure_future(a.send(bob, str(steps)))
                await cancelled_after(steps, take())
                await sending
            while len(taken) < TURNS + MS:
                await take()
            assert taken == [str(steps) for steps in range(TURNS + MS)]
            with pytest.raises(TimeoutError):
                await b.receive(0.2)

    run(story())


async def visit(people: People, name: str) -> None:
    async with people.client(name) as client:
        await client.profiles.get()


def test_requests_and_logins_are_cancelled_at_every_step(people: People) -> None:
    """The next one is served as if the one before had not been."""

    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(bob) as b:
            for steps in range(0, TURNS + MS, 2):
                await cancelled_after(steps, visit(people, ann))
            async with people.client(ann) as a:
                for steps in range(TURNS + MS):
                    await cancelled_after(steps, a.profiles.set(status=f"cancelled {steps}"))
                    assert await a.profiles.set(status=f"kept {steps}") == {"status": f"kept {steps}"}
                await b.send(ann, "still there?")
                assert (await a.receive(10)).text == "still there?"

    run(story())


PROGRAM = """
import asyncio, sys
from pathlib import Path
from chatd_client import Client, Options, Timing

async def main(url, name, password, to, journal):
    timing = Timing(backoff_first_s=0.01, backoff_most_s=0.1)
    async with Client(url, name, password=password, options=Options(journal=Path(journal), timing=timing)) as client:
        print("ready", flush=True)
        async for message in client.messages():
            print(message.text, flush=True)
            await client.send(to, "echo " + message.text, fp="echo " + message.text)

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_program_with_a_journal_is_killed_again_and_again(people: People, tmp_path: Path) -> None:
    """It answers each message once, and is given again at most the one that it had at the moment."""
    count, kills = 60, 6

    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        command = (sys.executable, "-c", PROGRAM, people.url(), ann, people.town.secret, bob, str(tmp_path / "journal"))
        shown: list[str] = []
        async with people.client(bob) as b:

            async def write() -> None:
                for number in range(count):
                    await b.send(ann, str(number))
                    await asyncio.sleep(0.02)

            writing = asyncio.ensure_future(write())
            for kill in range(kills):
                async with started(*command) as program:
                    await program.prints("ready")
                    has_worked = functools.partial(lambda lines, wanted: len(lines) > wanted, program.lines, 3 + kill)
                    await until(20, f"{3 + kill} messages", has_worked)
                    program.process.send_signal(signal.SIGKILL)
                    await program.exit_code()
                    shown += program.lines[1:]
            await writing
            async with started(*command) as program:
                echoes = [(await b.receive(20)).text for _ in range(count)]
                assert echoes == [f"echo {number}" for number in range(count)]
                with pytest.raises(TimeoutError):
                    await b.receive(0.3)
                shown += program.lines[1:]
        numbers = [int(text) for text in shown]
        assert sorted(set(numbers)) == [*range(count)]
        assert all(later - earlier in (0, 1) for earlier, later in itertools.pairwise(numbers)), numbers
        assert len(numbers) <= count + kills

    run(story(), 100)
