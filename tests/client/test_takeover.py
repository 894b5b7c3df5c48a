"""Two terminals of one user: one takes the place of the other, on one and on two workers."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon

from .process import run, terminal
from .recorder import Client, client, until

ROUNDS = 50
LOOKS = 4


def port(server: Daemon) -> int:
    return server.ports["chatserver"]


def test_the_other_terminal_says_so_and_does_not_fight_back(
    server: Daemon, tmp_path: Path, names: Iterator[str]
) -> None:
    async def story() -> None:
        name = next(names)
        async with client(port(server), tmp_path / "1") as old, client(port(server), tmp_path / "2") as new:
            await old.do(f'/register "{name}"', f'/login "{name}"')
            await new.do(f'/login "{name}"')
            await new.notices("this account is already logged in")
            await new.do(f'/takeover "{name}"')
            assert new.session.user is not None
            await old.notices(f"logged out: logged in elsewhere (/takeover {name} takes it back)")
            await until(lambda: not old.session.connected)
            assert (old.session.user, old.session.comes_back) == (None, False)
            await new.do("/sessions")  # served: nobody has ended this one
            assert sum("chatserver from" in one for one in new.screen.notices) == 1
            await old.do("hello")
            await old.notices("not logged in")
            await old.do("/takeover")  # as the same user
            await new.notices("logged out: logged in elsewhere")
            assert old.session.user is not None

    asyncio.run(story())


@pytest.mark.parametrize("server", [2], indirect=True, ids=["2-workers"])
def test_takeover_as_an_option_and_what_a_script_says(server: Daemon, tmp_path: Path, names: Iterator[str]) -> None:
    async def story() -> None:
        name, address = next(names), f"127.0.0.1:{port(server)}"
        (tmp_path / "password").write_text("pw\n")
        log_in = ("--name", name, "--password-file", str(tmp_path / "password"), address)
        await run(tmp_path, [address], f'/register "{name}"\npw\n')
        async with terminal(tmp_path / "1", *log_in) as person:
            await person.sees(f"{name}> ")
            code, printed = await run(tmp_path / "2", [*log_in])
            assert code == 1
            assert printed[-1].endswith("this account is already logged in")
            code, printed = await run(tmp_path / "2", ["--takeover", *log_in])
            assert code == 0
            assert printed[0].startswith(f"# logged in as {name}(")
            await person.sees("logged out: logged in elsewhere")
            await person.sees("chat> ")
        code, printed = await run(tmp_path, ["--takeover", address])
        assert code == 2
        assert "--takeover is for --name" in printed[-1]

    asyncio.run(story())


def take_turns(server: Daemon, tmp_path: Path, names: Iterator[str], rounds: int, settle_s: float = 20.0) -> None:
    """All the time the other user writes to this one, and whichever terminal is logged in writes back. AssertionError
    if a message is lost (not there after settle_s), doubled or out of order."""

    async def story() -> None:
        mine, theirs = next(names), next(names)
        numbers, written = itertools.count(), itertools.count()
        sent: list[str] = []

        async def write(bob: Client) -> None:
            await bob.do(f'/chat "{mine}"')
            while True:
                await bob.do(f"to {next(numbers)}")
                await asyncio.sleep(0.005)
                await until(lambda: bob.session.unacknowledged < 50)

        async with (
            client(port(server), tmp_path / "1") as one,
            client(port(server), tmp_path / "2") as two,
            client(port(server), tmp_path / "b") as bob,
        ):
            await one.do(f'/register "{mine}"', f'/register "{theirs}"', f'/login "{mine}"')
            await bob.do(f'/login "{theirs}"')
            writer = asyncio.create_task(write(bob))
            for _, new in zip(range(rounds), itertools.cycle((two, one))):
                await new.do(f'/takeover "{mine}"', f'/chat "{theirs}"')
                for text in (f"back {next(written)}" for _ in range(3)):
                    if new.session.user is not None:
                        await new.do(text)
                        sent.append(text)
            writer.cancel()
            assert await bob.session.settle()
            for terminal_ in (one, two):  # what it had not been acknowledged when it was ended is sent now
                await terminal_.do(f'/takeover "{mine}"')
                assert await terminal_.session.settle()
            last = next(numbers)
            await bob.do(f"to {last}")
            shown = [one.screen.messages, two.screen.messages]
            wanted = {f"to {number}" for number in range(last + 1)}
            await until(
                lambda: {text.rpartition(": ")[2] for each in shown for text in each} == wanted,
                lambda: "every message is shown",
                settle_s,
            )
            await until(lambda: len(bob.screen.messages) >= len(sent), lambda: "every answer is shown", settle_s)
            back = Counter(text.rpartition(": ")[2] for text in bob.screen.messages)
            assert back == Counter(sent)
            for each in shown:
                texts = Counter(text.rpartition(": ")[2] for text in each)
                assert not [text for text, times in texts.items() if times > 1]
                in_order = [int(text.rpartition("to ")[2]) for text in each]
                assert in_order == sorted(in_order)

    asyncio.run(story())


def test_nothing_is_lost_or_doubled_while_two_terminals_take_over_from_each_other(
    server: Daemon, tmp_path: Path, names: Iterator[str]
) -> None:
    take_turns(server, tmp_path, names, ROUNDS if len(server.workers()) > 1 else ROUNDS // 4)


@pytest.mark.parametrize("bug", ["skipped", "no_dedupe"])
def test_a_planted_bug_is_found(
    make_daemon: Callable[..., Daemon], tmp_path: Path, names: Iterator[str], bug: str
) -> None:
    """It strikes now and then, so it may need more than one look."""
    daemon = make_daemon(entry=("-m", "tests.faults.planted", bug), workers=2).start()

    def look() -> None:
        for number in range(LOOKS):
            take_turns(daemon, tmp_path / str(number), names, ROUNDS // 2, settle_s=2.0)

    with pytest.raises(AssertionError):
        look()
