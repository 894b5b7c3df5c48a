"""Earlier messages come while somebody reads, or writes, among those that are there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.web.desk import Bug, Desk, Site, Stage, Visitor
from tests.web.written import Sent, written_to

MESSAGES = 500
FIRST_LOADED = 50
"""What fills the page when a conversation is opened."""
BACK = """async (messages) => {
    const box = document.querySelector(".messages");
    const moved = [];
    const topOf = (one) => one.getBoundingClientRect().top;
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const isRead = (one) => one.getBoundingClientRect().bottom > topOf(box) + 200;
    box.scrollTop -= 500; // whoever is near the end stays there
    await frame();
    while (box.querySelectorAll(".message").length < messages) {
        const seen = [...box.querySelectorAll(".message")].find(isRead);
        const before = topOf(seen);
        const by = Math.min(box.scrollTop, 120);
        box.scrollTop -= by;
        await frame();
        await frame();
        moved.push(Math.round(Math.abs(topOf(seen) - before - by)));
    }
    return moved.filter((one) => one > 2);
}"""
"""Scroll back as a wheel does, until so many messages are there. What was read moves by what was scrolled."""
MADE_AGAIN: Bug = ("thread.js", "entries.flatMap(", "entries.map(")
"""The messages of a block are drawn anew when one comes before them."""


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """alice and bob have written to each other, in turns."""
    turns = [("alice", "bob"), ("bob", "alice")]
    messages = [Sent(*turns[n % 2], f"message {n} {'lorem ' * (n % 40)}") for n in range(MESSAGES)]
    site = written_to(tmp_path_factory.mktemp("long"), ["alice", "bob"], messages)
    yield site
    assert site.discard() == []


async def opened(stage: Stage, bug: Bug | None) -> Visitor:
    """bob, with the newest messages before him."""
    bob = await stage.visitor()
    if bug is not None:
        await bob.plant(bug)
    await bob.log_in("bob")
    await bob.page.locator(".row").first.click()
    await bob.page.locator(".message").nth(FIRST_LOADED - 1).wait_for(state="attached")
    return bob


async def read(stage: Stage, bug: Bug | None) -> None:
    bob = await opened(stage, bug)
    assert await bob.page.evaluate(BACK, FIRST_LOADED + 300) == []


async def edit(stage: Stage, bug: Bug | None) -> None:
    """The first message that is there, so that others of its block are still to come."""
    bob = await opened(stage, bug)
    await bob.loses_the_network()
    message = bob.page.locator(".message.mine").first
    await message.locator(".more").click()
    await message.get_by_role("button", name="Edit").click()
    await bob.page.keyboard.press("End")
    await bob.page.keyboard.type(", and more")
    written = await bob.page.locator(".editor").input_value()
    await bob.page.context.set_offline(False)
    await bob.is_live()
    await bob.page.evaluate("document.querySelector('.messages').scrollTop += 1")
    await bob.page.locator(".message").nth(FIRST_LOADED).wait_for(state="attached")
    await bob.page.keyboard.type(" yet")
    assert await bob.page.evaluate("document.querySelector('.editor')?.value") == f"{written} yet"


def test_what_is_read_stays_in_its_place_while_earlier_messages_come(desk: Desk, long: Site) -> None:
    desk.play(long, lambda stage: read(stage, None))


def test_what_is_edited_stays_while_earlier_messages_come(desk: Desk, long: Site) -> None:
    desk.play(long, lambda stage: edit(stage, None))


@pytest.mark.parametrize("story", [read, edit])
def test_the_tests_find_messages_that_are_drawn_anew(desk: Desk, long: Site, story: object) -> None:
    assert callable(story)
    with pytest.raises(AssertionError):
        desk.play(long, lambda stage: story(stage, MADE_AGAIN))
