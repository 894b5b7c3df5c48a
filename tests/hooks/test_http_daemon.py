"""The plug-in that asks a backend, in a daemon: what the backend says happens, no answer is no, and who waits for it
waits alone."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from chatd.errors import ErrorCode
from tests.harness.daemon import Daemon, free_port
from tests.harness.deadline import run, until
from tests.harness.link import LoginRefused, Seen
from tests.harness.person import Person, Town
from tests.webhooks.judge import stored_by
from tests.webhooks.receiver import new_secret

pytestmark = pytest.mark.xdist_group("http plug-in")
NOT_TODAY = 2001
TIMEOUT_MS = 1500
SECRET = new_secret()


class House(Town):
    """A daemon that asks about messages and logins, at `backend`."""

    backend: int

    @asynccontextmanager
    async def decided(self) -> AsyncIterator[None]:
        """Inside, the backend is there."""
        runner = web.ServerRunner(web.Server(_decide), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.backend, reuse_address=True).start()
        try:
            yield
        finally:
            await runner.cleanup()


async def code(sender: Person, to: Person, text: str) -> int:
    """Why a message was refused; 0 = it was not."""
    outcome = await sender.say(to.name, text)
    assert outcome is not None
    return 0 if outcome.ok else outcome.code


async def _decide(request: web.BaseRequest) -> web.Response:
    """What the text of the message, or the name, asks for."""
    body = await request.read()
    Webhook(SECRET).verify(body, {name.lower(): value for name, value in request.headers.items()})
    told = json.loads(body)
    text = told["event"]["body"] if told["point"] == "before_message" else told["event"]["name"]
    if text.startswith("hang"):
        await asyncio.sleep(60)
    if text.startswith("break"):
        return web.Response(status=500)
    if text.startswith("deny"):
        return web.json_response({"allow": False, "text": "not today", "code": NOT_TODAY})
    if text.startswith("change"):
        return web.json_response({"body": "changed"})
    return web.Response(status=204)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("http")
    late = root / "late"
    late.mkdir()
    daemon = Daemon(root / "daemon", entry=("-m", "tests.upgrade.late_imports"), env={"LATE": str(late)})
    house = House(daemon)
    house.backend = free_port()
    daemon.config["hook"] = [
        {
            "name": "http",
            "fail": "closed",
            "time_limit_ms": 2 * TIMEOUT_MS,
            "breaker_failures": 1000,
            "options.url": f"http://127.0.0.1:{house.backend}/decide",
            "options.points": ["before_message", "before_login"],
            "options.secret": SECRET,
            "options.timeout_ms": TIMEOUT_MS,
            "options.allow_private": ["127.0.0.1"],
        }
    ]
    daemon.write_config()
    daemon.expect_error("plug-in failed")
    try:
        daemon.start()
        yield house
        assert daemon.stop() == 0
        assert [file.read_text().split() for file in late.iterdir()] == [[]], "imported after the fork"
    finally:
        complaints = daemon.discard()
    assert complaints == []


def test_the_backend_decides_about_messages(house: House) -> None:
    async def story() -> None:
        async with house.decided():
            ann, bob = await house.pair()
            assert await code(ann, bob, "hello") == 0
            assert await code(ann, bob, "deny it") == NOT_TODAY
            assert await code(ann, bob, "change it") == 0
            await bob.sees(Seen(ann.name, "hello"))
            await bob.sees(Seen(ann.name, "changed"))

    run(story())


def test_the_backend_decides_about_logins(house: House) -> None:
    async def story() -> None:
        denied = await house.settle("deny1", "mobile")
        async with house.decided():
            with pytest.raises(LoginRefused) as refused:
                await denied.arrive()
        assert refused.value.code == NOT_TODAY

    run(story())


def test_a_backend_that_fails_or_is_away_means_no(house: House) -> None:
    """Nothing that was refused is stored, and everything goes on when it is back."""

    async def story() -> None:
        async with house.decided():
            ann, bob = await house.pair()
            before = len(stored_by(house.daemon))
            assert await code(ann, bob, "break it") == ErrorCode.BUSY
        assert await code(ann, bob, "nobody is asked") == ErrorCode.BUSY
        late = await house.settle("late", "mobile")
        with pytest.raises(LoginRefused):
            await late.arrive()
        assert len(stored_by(house.daemon)) == before
        async with house.decided():
            assert await code(ann, bob, "it is back") == 0
            await bob.sees(Seen(ann.name, "it is back"))
            await late.arrive()

    run(story())


def test_a_backend_that_hangs_means_no_and_keeps_nobody_else_waiting(house: House) -> None:
    async def story() -> None:
        async with house.decided():
            (ann, bob), (cyd, dan) = await house.pair(), await house.pair()
            begun = time.monotonic()
            hanging = ann.post(bob.name, "hang on")
            for number in range(20):
                assert await code(cyd, dan, f"meanwhile {number}") == 0
            assert hanging not in ann.outcomes, "it still hangs"
            outcome = await ann.told(hanging)
            assert (outcome.ok, outcome.code) == (False, ErrorCode.BUSY)
            assert TIMEOUT_MS / 1000 <= time.monotonic() - begun < 10
            await until(10, "dan has all", lambda: len(dan.seen) == 20)
            assert bob.seen == []

    run(story())
