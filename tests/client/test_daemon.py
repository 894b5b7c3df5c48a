"""`chat` and a real chatd: two people at terminals, a script, and what happens when processes die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd_client.chatserver import Happening, LoggedIn
from chatd_client.connector import Connector
from chatd_client.events import Draining
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.deadline import wait_until

from .process import run, terminal
from .recorder import Client, client, until

MakeDaemon = Callable[..., Daemon]


def kill_a_worker(daemon: Daemon) -> None:
    """The one that serves longest, so that all have their turn."""
    wait_until(20, "every worker ready", daemon.all_ready, 0.05)
    os.kill(daemon.workers()[0], signal.SIGKILL)


def test_two_people_and_a_script(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    daemon = make_daemon(workers=2).start()
    address = f"127.0.0.1:{daemon.ports['chatserver']}"

    async def scenario() -> None:
        home_a, home_b = tmp_path / "a", tmp_path / "b"
        code, printed = await run(home_b, [address], "/register bob\npw\n")
        assert (code, printed) == (0, ["# registered bob, your number is 1; now: /login bob"])
        async with terminal(home_a, address) as alice:
            await alice.sees("chat>")
            await alice.enter("/register alice", "password of alice:")
            await alice.enter("pw", "repeat password:")
            await alice.enter("pw", "your number is 2")
            await alice.enter("/login alice pw", "logged in as alice(2)")
            await alice.enter("/addfriend 1", "asked 1")
            await alice.enter("/chat bob while you were away", "alice → bob>")
            await alice.enter("/creategroup team our group", "its number is 1")

            async with terminal(home_b, address) as bob:
                await bob.sees("chat>")
                await bob.enter("/login 1 pw", "logged in as bob(1)")
                await bob.sees("asks to be your friend (/accept 2 or /refuse 2)")
                await bob.sees("alice(2): while you were away")
                await bob.enter("/accept alice", "bob>")
                await alice.sees("bob (1) has accepted your friend request")
                await bob.enter("/joingroup 1", "joined the group team#1")
                bob.type("/chat alice here I am\r")
                await alice.sees("bob(1): here I am")
                await alice.enter("/g team hello all", "→ group 1>")
                await bob.sees("team#1 alice(2): hello all")
                await alice.enter("/friends", "bob(1) online")
                bob.type("/quit\r")
                assert await bob.exit_code() == 0

            code, printed = await run(home_b, [address], "/login bob pw\nchat:2:from a script\n")
            assert (code, printed) == (0, ["# logged in as bob(1)"])
            await alice.sees("bob(1): from a script")
            alice.type("\x04")
            assert await alice.exit_code() == 0

    asyncio.run(scenario())
    assert daemon.stop() == 0


def test_refusals_are_told(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    daemon = make_daemon().start()
    address = f"127.0.0.1:{daemon.ports['chatserver']}"
    script = [
        *("/login nobody pw", "/register alice", "pw", "/register alice", "pw", "/login alice pw"),
        *("/chat nobody one", "/chat 1 " + "x" * 7000, "/g 7 two"),
        *("/joingroup 7", "/addfriend 99", "/logout", "/chat 1 x", "/login alice pw"),
    ]
    code, printed = asyncio.run(run(tmp_path, [address], "\n".join(script)))
    expected = [
        "# cannot log in as nobody: unknown user or wrong password",
        "# registered alice, your number is 1; now: /login alice",
        "# cannot register alice: this name is taken",
        "# logged in as alice(1)",
        "# not sent to nobody: no such user: one",
        f"# not sent to 1: too long: {'x' * 7000}",
        "# not sent to group 7: no such group: two",
        "# no such group",
        "# no such user",
        "# logged out",
        "# not logged in: /login NAME first",
        "# logged in as alice(1)",
    ]
    # A refused message is told when the answer comes, which may be after the next line was done.
    # So may the notice that plain lines no longer go to nobody.
    told = [line for line in printed if not line.startswith("# what you write now goes")]
    assert sorted(told) == sorted(expected)
    assert code == 3


def test_a_frame_the_server_does_not_read_is_given_up(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    daemon = make_daemon().start()
    address = f"127.0.0.1:{daemon.ports['chatserver']}"
    script = ["/register bob", "pw", "/register alice", "pw", "/login alice pw", "/chat bob " + "y" * 65500, "next"]
    code, printed = asyncio.run(run(tmp_path, [address], "\n".join(script)))
    assert printed[3] == f"# not sent to bob: frame too long, the limit is 65536 bytes: {'y' * 65500}"
    assert code == 3
    code, printed = asyncio.run(run(tmp_path, [address], "/login bob pw"))
    assert [line.partition("] ")[2] for line in printed[1:]] == ["alice(2): next"]


def test_killed_workers_and_a_killed_daemon_lose_and_repeat_nothing(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """Two clients write to each other while their workers, and then everything, are killed."""
    daemon = make_daemon(workers=2).start()
    daemon.expect_error("worker died")
    port = daemon.ports["chatserver"]

    async def scenario() -> None:
        async with client(port, tmp_path / "a") as alice, client(port, tmp_path / "b") as bob:
            await alice.do("/register alice", "/login alice")
            await bob.do("/register bob", "/login bob", "/chat alice")
            await alice.do("/chat bob")
            for number in range(40):
                await alice.do(f"a{number}")
                await bob.do(f"b{number}")
                if number % 10 == 3:
                    await asyncio.to_thread(kill_a_worker, daemon)
                if number == 25:
                    await asyncio.to_thread(daemon.kill_all)
                    await asyncio.to_thread(daemon.start)
                await until(lambda number=number: alice.session.unacknowledged < 5)
            assert await alice.session.settle()
            assert await bob.session.settle()
            await bob.shows(*(f"alice(1): a{number}" for number in range(40)))
            await alice.shows(*(f"bob(2): b{number}" for number in range(40)))

    asyncio.run(scenario())
    daemon.stop()


def test_a_draining_server_is_left_and_come_back_to_when_it_says(
    make_daemon: MakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All workers are replaced while two clients write to each other, over TLS: such connections cannot be handed over.
    The second time the server's wish is ignored, and the clients come back too soon."""
    certificate = Certificate(tmp_path / "certificate")
    daemon = make_daemon(workers=2, certificate=certificate).start()
    port, ca = daemon.ports["chatserver-tls"], str(certificate.pem)

    async def early(*names: str) -> list[float]:
        """How many seconds before the time that was asked for each client came back."""
        async with client(port, tmp_path / names[0], ca=ca) as alice, client(port, tmp_path / names[1], ca=ca) as bob:
            both = ((alice, *names), (bob, *reversed(names)))
            for one, name, other in both:
                await one.do(f"/register {name}", f"/login {name}", f"/chat {other}")
            told = [watch(one) for one, _, _ in both]
            restart = asyncio.create_task(asyncio.to_thread(daemon.ctl, "restart-workers"))
            count = 0
            async with asyncio.timeout(30):
                while not restart.done() or not all(len(times) == 2 for times in told):
                    await alice.do(str(count))
                    await bob.do(str(count))
                    count += 1
                    await asyncio.sleep(0.02)
            assert restart.result().returncode == 0, restart.result().stderr
            for one, _, other in both:
                assert await one.session.settle()
                number = one.app.contacts.user_id_of(other)
                await until(lambda one=one: len(one.screen.messages) >= count)  # type: ignore[misc]
                assert one.screen.messages == [f"{other}({number}): {text}" for text in range(count)]
                assert one.screen.noticed("for maintenance")
                assert not one.screen.noticed("connection lost")
            return [due - back for due, back in told]

    def watch(person: Client) -> list[float]:
        """When it was to come back at the earliest, and when it did, by the loop's clock."""
        times: list[float] = []
        happened, now = person.app.happened, asyncio.get_running_loop().time

        def hear(event: Happening) -> None:
            if isinstance(event, Draining) and len(times) < 2:
                times[:] = [now() + event.retry_after_ms / 1000]  # the last one counts: it is said again at the end
            elif isinstance(event, LoggedIn) and len(times) == 1:
                times.append(now())
            happened(event)

        monkeypatch.setattr(person.app, "happened", hear)
        return times

    assert max(asyncio.run(early("alice", "bob"))) <= 0.01
    monkeypatch.setattr(Connector, "hold_off", lambda self, seconds: None)
    assert max(asyncio.run(early("cy", "dee"))) > 0.01
