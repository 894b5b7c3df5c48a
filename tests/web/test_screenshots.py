"""How the page looks, compared with the pictures in tests/web/screenshots/.

The same on every machine: the browser has fonts of its own (fonts.conf), and shows the same times whenever the test
runs. After a wanted change, make them again, look at them, and commit them:

    CHATD_SCREENSHOTS=renew .venv/bin/pytest tests/web/test_screenshots.py

A picture that differs is written into the directory of the test, which the failure names. The README shows README.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from tests.web.desk import Desk, Site, Stage, Visitor

FOLDER = Path(__file__).with_name("screenshots")
RENEWS = os.environ.get("CHATD_SCREENSHOTS") == "renew"
README = "conversation-light"
MOST_BYTES = 150_000
MOST_DIFFERENT = 0.01
"""Of all pixels: browsers of other versions draw edges of letters a little differently."""
DIFFERENT = 48
"""A pixel counts as different if one of its colours differs by so much, of 255."""
SIZE = {"width": 1100, "height": 680}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 760}, "has_touch": True, "is_mobile": True}
TIMES = """
    Date.prototype.toLocaleTimeString = () => "14:05";
    Date.prototype.toLocaleDateString = function () { return this.getTime() === 0 ? "" : "Fri 27 November"; };
"""
COMPARE = """async ([one, other, most]) => {
    const pixels = async (data) => {
        const image = new Image();
        image.src = `data:image/png;base64,${data}`;
        await image.decode();
        const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
        canvas.drawImage(image, 0, 0);
        return canvas.getImageData(0, 0, image.width, image.height);
    };
    const [left, right] = [await pixels(one), await pixels(other)];
    if (left.width !== right.width || left.height !== right.height) return 1;
    let count = 0;
    for (let at = 0; at < left.data.length; at += 4)
        if ([0, 1, 2].some((color) => Math.abs(left.data[at + color] - right.data[at + color]) > most)) count += 1;
    return count / (left.width * left.height);
}"""
TALK = (
    ("bob", "Are you coming to the boathouse on Saturday?"),
    ("alice", "Yes, at nine. Shall I bring the long oars?"),
    ("bob", "Please do.\nThe weather looks good: https://example.org/weather"),
    ("alice", "晚上一起吃饭吗？"),  # noqa: RUF001
    ("bob", "好的，七点见。"),  # noqa: RUF001
    ("alice", "مرحبا، أراكم يوم السبت"),
    ("bob", "The key is with carol, in case that you are the first one there."),
)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Where nobody else writes. bob and carol have written to alice, who has a group."""
    site = Site(tmp_path_factory.mktemp("calm"), workers=1)
    site.start()
    site.people("alice", "bob", "carol")
    yield site
    assert site.discard() == []


async def share(stage: Stage, one: bytes, other: bytes) -> float:
    """Of pixels that differ."""
    page = (await stage.visitor()).page
    found: float = await page.evaluate(COMPARE, [*(base64.b64encode(png).decode() for png in (one, other)), DIFFERENT])
    return found


async def check(stage: Stage, page: Page, name: str, scratch: Path) -> None:
    png = await page.screenshot(animations="disabled", caret="hide")
    kept = FOLDER / f"{name}.png"
    if RENEWS:
        FOLDER.mkdir(exist_ok=True)
        kept.write_bytes(png)
    different = await share(stage, kept.read_bytes(), png)
    found = scratch / f"{name}.png"
    if different > MOST_DIFFERENT:
        found.write_bytes(png)
    assert different <= MOST_DIFFERENT, f"{different:.1%} of {found} differ from {kept}"


async def person(stage: Stage, name: str, **options: Any) -> Visitor:
    visitor = await stage.visitor(**{"viewport": SIZE, "color_scheme": "light", **options})
    await visitor.page.add_init_script(TIMES)
    await visitor.log_in(name)
    return visitor


async def talk(stage: Stage) -> tuple[Visitor, Visitor]:
    """alice and bob, after their conversation and what carol wrote."""
    carol = await person(stage, "carol")
    await carol.open("alice")
    await carol.write("See you there!")
    await carol.state_of("See you there!", "stored")
    await carol.page.close()
    alice, bob = await person(stage, "alice"), await person(stage, "bob")
    await alice.open("bob")
    await bob.open("alice")
    for name, text in TALK:
        writer, reader = (alice, bob) if name == "alice" else (bob, alice)
        await writer.write(text)
        await reader.sees(text)
        await writer.state_of(text, "read")
    return alice, bob


async def found_group(alice: Visitor) -> None:
    await alice.page.click("#tab-groups")
    await alice.page.get_by_placeholder("Name of a new group").fill("Rowing club")
    await alice.page.get_by_role("button", name="Create").click()
    await alice.page.locator(".thread h2", has_text="Rowing club").wait_for()
    await alice.page.get_by_role("button", name="Members and rules").click()
    await alice.page.get_by_role("dialog").locator(".person", has_text="alice").wait_for()


def test_the_page_looks_as_it_did(desk: Desk, calm: Site, tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        visitor = await stage.visitor(viewport=SIZE, color_scheme="light")
        await visitor.page.goto(calm.url)
        await visitor.page.wait_for_selector("form")
        await check(stage, visitor.page, "login", tmp_path)
        alice, bob = await talk(stage)
        await alice.page.locator(".row", has_text="See you there!").wait_for()
        await alice.page.locator(".typing", has_text="bob").wait_for(state="detached")
        await check(stage, alice.page, README, tmp_path)
        await alice.page.emulate_media(color_scheme="dark")
        await check(stage, alice.page, "conversation-dark", tmp_path)
        await alice.page.evaluate("document.documentElement.dir = 'rtl'")
        await check(stage, alice.page, "conversation-mirrored", tmp_path)
        await bob.page.close()
        await alice.page.close()
        phone = await person(stage, "alice", **PHONE)
        await check_phone(stage, phone, tmp_path)
        groups = await person(stage, "alice")
        await found_group(groups)
        await check(stage, groups.page, "group", tmp_path)

    desk.play(calm, story)


async def check_phone(stage: Stage, phone: Visitor, scratch: Path) -> None:
    await phone.page.locator(".row").nth(1).wait_for()
    await check(stage, phone.page, "phone-list", scratch)
    await phone.page.locator(".row", has_text="bob").click()
    await phone.sees(TALK[-1][1])
    await check(stage, phone.page, "phone-conversation", scratch)


def test_what_looks_different_is_found(desk: Desk, calm: Site) -> None:
    """Other colours, and a field that is gone."""

    async def story(stage: Stage) -> None:
        page = (await stage.visitor(viewport=SIZE, color_scheme="light")).page
        await page.goto(calm.url)
        await page.wait_for_selector("form")
        before = await page.screenshot()
        assert await share(stage, before, await page.screenshot()) == 0
        await page.evaluate("document.querySelector('input').parentElement.remove()")
        assert await share(stage, before, await page.screenshot()) > MOST_DIFFERENT
        await page.emulate_media(color_scheme="dark")
        assert await share(stage, before, await page.screenshot()) > MOST_DIFFERENT

    desk.play(calm, story)


def test_the_picture_of_the_readme_is_small() -> None:
    kept = FOLDER / f"{README}.png"
    assert f"tests/web/screenshots/{README}.png" in (FOLDER.parents[2] / "README.md").read_text()
    assert kept.stat().st_size < MOST_BYTES
