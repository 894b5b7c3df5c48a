"""Uploads from the page while things break: the server, the network, the tab. Each file arrives whole, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import CDPSession

from tests.web.desk import Desk, Site, Stage, Visitor
from tests.web.samples import large, text
from tests.web.test_files import downloaded

SLOW_BYTES_PER_S = 300_000
FILE = large("log.txt")
KEPT = """async () => {
  const [{ name }] = (await indexedDB.databases()).filter((one) => one.name.includes("files"));
  const opened = await new Promise((resolve) => {
    const opening = indexedDB.open(name);
    opening.onsuccess = () => resolve(opening.result);
  });
  const counting = opened.transaction("blobs").objectStore("blobs").count();
  return new Promise((resolve) => (counting.onsuccess = () => resolve(counting.result)));
}"""
"""Files that the browser keeps."""


class Offsets:
    """Where the pieces of an upload began."""

    def __init__(self, visitor: Visitor) -> None:
        self.seen: list[int] = []
        visitor.page.on("request", lambda request: self._asked(request.method, request.headers))

    def _asked(self, method: str, headers: dict[str, str]) -> None:
        if method == "PATCH":
            self.seen.append(int(headers["upload-offset"]))


class Line:
    """What the network is like for a page. Made by slow(), with a session of its own: those of others count as well."""

    def __init__(self, session: CDPSession) -> None:
        self._session = session

    async def becomes(self, bytes_per_s: int = -1, *, offline: bool = False) -> None:
        """-1: as fast as can be."""
        told = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s}
        await self._session.send("Network.emulateNetworkConditions", told)


async def slow(visitor: Visitor) -> Line:
    session = await visitor.page.context.new_cdp_session(visitor.page)
    await session.send("Network.enable")
    line = Line(session)
    await line.becomes(SLOW_BYTES_PER_S)
    return line


async def begun(visitor: Visitor) -> None:
    """A part of the file is there, and not all of it."""
    await visitor.becomes("document.querySelector('.message progress')?.value > 0")


async def arrives(visitor: Visitor) -> None:
    """Once, and whole."""
    await visitor.page.get_by_role("button", name="Download log.txt").wait_for()
    assert (await downloaded(visitor, "log.txt"))[0] == FILE["buffer"]
    assert await visitor.page.locator(".card").count() == 1


Break = Callable[[Site, Visitor, Line], Awaitable[None]]


async def server_killed(site: Site, alice: Visitor, line: Line) -> None:
    site.kill_all()
    await alice.page.locator(".status", has_text="Trying again").wait_for()
    site.start()


async def network_away(site: Site, alice: Visitor, line: Line) -> None:
    await line.becomes(offline=True)
    await alice.page.locator(".status", has_text="Trying again").wait_for()


@pytest.mark.parametrize(
    ("number", "breaks"),
    [
        pytest.param(0, server_killed, id="server-killed"),
        pytest.param(1, network_away, id="network-away", marks=pytest.mark.slow),
    ],
)
def test_an_upload_goes_on_where_it_was(desk: Desk, site: Site, number: int, breaks: Break) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair(f"dora{number}", f"bob{number}")
        offsets = Offsets(alice)
        line = await slow(alice)
        await alice.send_files(FILE, text="with a log")
        await begun(alice)
        before = len(offsets.seen)
        await breaks(site, alice, line)
        await line.becomes()
        await bob.sees("with a log")
        await arrives(bob)
        await alice.state_of("with a log", "read")
        assert offsets.seen[before] > 0, "it began anew"

    desk.play(site, story)


@pytest.mark.slow
def test_another_tab_goes_on_with_the_upload_of_one_that_was_closed(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("dora2", "bob2")
        await slow(alice)
        await alice.send_files(FILE, text="kept")
        await begun(alice)
        await alice.page.close()
        again = await stage.visitor(context=alice.page.context)
        offsets = Offsets(again)
        await again.page.goto(site.url)
        await again.is_live()
        await bob.sees("kept")
        await arrives(bob)
        assert offsets.seen[0] > 0, "it began anew"
        await again.page.locator(".row", has_text="bob2").click()
        await again.shows(["kept"])
        assert await again.page.evaluate(KEPT) == 0

    desk.play(site, story)


@pytest.mark.slow
def test_files_wait_for_the_network(desk: Desk, site: Site) -> None:
    """Written without a network, in a tab that is closed; another one sends it."""

    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("dora3", "bob3")
        await alice.loses_the_network()
        await alice.send_files(FILE, text="later")
        await alice.state_of("later", "waiting")
        await alice.page.close()
        await alice.page.context.set_offline(False)
        again = await stage.visitor(context=alice.page.context)
        await again.page.goto(site.url)
        await again.is_live()
        await bob.sees("later")
        await arrives(bob)

    desk.play(site, story)


@pytest.mark.slow
def test_a_file_is_sent_as_it_was_when_it_was_chosen(desk: Desk, site: Site, tmp_path: Path) -> None:
    """Although it changes on the disk before it is uploaded."""
    path = tmp_path / "draft.txt"
    path.write_text("first")

    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("dora5", "bob5")
        await alice.loses_the_network()
        await alice.page.locator(".composer input[type=file]").set_input_files(path)
        await alice.page.locator(".tray li").wait_for()
        await alice.write("the draft")
        await alice.state_of("the draft", "waiting")
        await asyncio.to_thread(path.write_text, "second, and longer")
        await alice.page.context.set_offline(False)
        await bob.sees("the draft")
        assert (await downloaded(bob, "draft.txt"))[0] == b"first"

    desk.play(site, story)


@pytest.mark.slow
def test_an_upload_can_be_cancelled_and_texts_need_not_wait_for_it(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("dora4", "bob4")
        line = await slow(alice)
        await alice.send_files(FILE, text="not this")
        await begun(alice)
        await alice.write("at once")
        await bob.sees("at once")
        await alice.page.locator(".progress").get_by_role("button", name="Cancel").click()
        await line.becomes()
        await alice.send_files(text("notes.txt"), text="this")
        await bob.sees("this")
        await bob.shows(["at once", "this"])
        await alice.shows(["at once", "this"])
        assert (await downloaded(bob, "notes.txt"))[0] == b"some notes"

    desk.play(site, story)
