"""A real browser talks to the daemon with its own WebSocket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from chatd.net.websocket.frames import CloseCode
from tests.harness.browser import Page, browse, visit
from tests.harness.chatserver import ONE_CHAT
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.mobileimsdk import content
from tests.harness.person import Town

PAGE = Path(__file__).with_name("browser.html").read_bytes()
TEXT = "from a browser: é, 中文, 🙂 & <tags> " + "x" * 3000


def parameters(town: Town, name: str, to: str) -> dict[str, str]:
    url = f"ws://127.0.0.1:{town.port('web')}/websocket"
    return {"url": url, "name": name, "secret": town.secret, "to": to, "text": TEXT}


async def logged_in(page: Page) -> None:
    assert content((await page.event("50"))["packet"])["code"] == 0


@pytest.mark.timeout(180)
def test_a_browser_talks_with_a_client_on_tcp_and_is_kicked(town: Town) -> None:
    async def story(page: Page) -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        other = await town.on_mobile(bob)
        async with visit(page, subprotocol="mobileimsdk", **parameters(town, alice, bob)):
            opened = await page.event("open")
            assert (opened["subprotocol"], opened["extensions"]) == ("mobileimsdk", "")
            await logged_in(page)
            heard = await other.find(type=2)
            assert (heard["from"], heard["to"], heard["dataContent"]) == (alice, bob, TEXT)
            assert (await page.event("4"))["packet"]["dataContent"] == heard["fp"]
            other.acknowledge(heard)
            other.say(bob, alice, TEXT, "fp-1")
            assert (await page.event("2"))["packet"]["dataContent"] == TEXT
            assert (await other.find(type=4))["dataContent"] == "fp-1"
            await town.on_mobile(alice)
            assert content((await page.event("54"))["packet"])["code"] == 1
            closed = await page.event("closed")
            assert (closed["code"], closed["clean"]) == (CloseCode.KICKED_DUPLICATE, True)
            assert closed["reason"] == "logged in elsewhere"

    run(with_page(story), 150)


@pytest.mark.timeout(180)
def test_by_default_a_page_of_another_host_cannot_connect(make_daemon: Callable[..., Daemon]) -> None:
    """The same server under another name is another host to a browser."""

    async def story(page: Page) -> None:
        town = Town(make_daemon().start())
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        page.origin = page.origin.replace("127.0.0.1", "localhost")
        async with visit(page, **parameters(town, alice, bob)):
            closed = await page.event("closed")
            assert (closed["code"], closed["clean"]) == (1006, False)
        (refused,) = town.daemon.logged("connection_refused")
        assert (refused["reason"], refused["origin"]) == ("origin", page.origin)

    run(with_page(story), 150)


@pytest.mark.timeout(180)
def test_only_pages_of_the_origins_named_may_connect_and_a_drain_is_told(make_daemon: Callable[..., Daemon]) -> None:
    async def story(page: Page) -> None:
        web = {"mobileimsdk-ws": {"origins": [page.origin]}}
        town = Town(make_daemon(listen=web, timeouts={"drain_s": 5.0, "drain_spread_s": 0.5}).start())
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        async with browse(PAGE) as elsewhere, visit(elsewhere, **parameters(town, alice, bob)):
            closed = await elsewhere.event("closed")
            assert (closed["code"], closed["clean"]) == (1006, False)
        other = await town.errand(bob)
        async with visit(page, **parameters(town, alice, bob)):
            assert (await page.event("open"))["subprotocol"] == ""
            await logged_in(page)
            await page.event("4")
            assert (await other.find(msgid=ONE_CHAT))["msg"] == TEXT
            assert town.daemon.process is not None
            town.daemon.process.terminate()
            closed = await page.event("closed")
            assert (closed["code"], closed["clean"]) == (CloseCode.SERVICE_RESTART, True)

    run(with_page(story), 150)


async def with_page(story: Callable[[Page], Awaitable[None]]) -> None:
    async with browse(PAGE) as page:
        await story(page)
