"""The page on small and large screens, by touch, and mirrored for languages that are written from right to left."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page

from tests.web.desk import Desk, Site, Stage
from tests.web.test_assets import STATIC

PHONE: dict[str, Any] = {"viewport": {"width": 320, "height": 568}, "has_touch": True, "is_mobile": True}
SMALL: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
WIDE: dict[str, Any] = {"viewport": {"width": 2560, "height": 1300}}
SCREENS = {"phone": PHONE, "larger phone": SMALL, "wide": WIDE}
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3
OVERFLOWING = """() => {
    const wide = document.documentElement.clientWidth;
    const found = document.documentElement.scrollWidth > wide ? ["the page"] : [];
    for (const one of document.querySelectorAll(".app *, .login *, dialog[open] *")) {
        const { left, right, width } = one.getBoundingClientRect();
        const clipped = one.closest(".name, .preview, h1, h2, .tray, svg, [hidden]");
        if (width > 0 && !clipped && (right > wide + 1 || left < -1)) found.push(`${one.tagName}.${one.className}`);
    }
    for (const one of document.querySelectorAll(".messages, .sidebar, dialog[open]"))
        if (one.scrollWidth > one.clientWidth + 1) found.push(`${one.className || one.tagName} scrolls`);
    return found;
}"""
TOO_SMALL = """() => [...document.querySelectorAll("button, input, select, textarea")]
    .filter((one) => one.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true }))
    .map((one) => [one.textContent || one.placeholder || one.type, one.getBoundingClientRect()])
    .filter(([, box]) => box.width > 0 && Math.min(box.width, box.height) < 24)
    .map(([name, box]) => `${name}: ${Math.round(box.width)} x ${Math.round(box.height)}`)"""
"""WCAG 2.2, 2.5.8. A checkbox has a label around it."""


async def fits(page: Page, where: str) -> None:
    found = await page.evaluate(OVERFLOWING)
    assert found == [], f"{where}: {found}"


async def can_be_touched(page: Page, where: str) -> None:
    found = [one for one in await page.evaluate(TOO_SMALL) if not one.startswith(("checkbox", "on:"))]
    assert found == [], f"{where}: {found}"


CASES = [(screen, direction) for screen in SCREENS for direction in ("ltr", "rtl")]


@pytest.mark.parametrize(
    ("screen", "direction"),
    [pytest.param(*one, marks=() if number in (0, 3, 4) else pytest.mark.slow) for number, one in enumerate(CASES)],
)
def test_nothing_is_wider_than_the_screen(desk: Desk, site: Site, screen: str, direction: str) -> None:
    number = 5 + list(SCREENS).index(screen) * 2 + (direction == "rtl")
    name, other = f"hal{number}", f"ina{number}"

    async def story(stage: Stage) -> None:
        dora = await stage.visitor(**SCREENS[screen])
        page = dora.page
        await page.goto(site.url)
        await page.evaluate("dir => { document.documentElement.dir = dir; }", direction)
        await page.wait_for_selector("form")
        await fits(page, "login")
        await dora.log_in(name)
        await page.evaluate("dir => { document.documentElement.dir = dir; }", direction)
        await dora.open(other)
        await dora.write(LONG)
        await dora.write("see https://example.org/" + "path/" * 60)
        await dora.state_of(LONG, "stored")
        await page.get_by_role("button", name="Actions").last.click()
        await fits(page, "conversation")
        if screen != "wide":
            await can_be_touched(page, "conversation")
            await page.get_by_role("button", name="Back").click()
        await fits(page, "list")
        for tab in ("people", "groups"):
            await page.click(f"#tab-{tab}")
            await fits(page, tab)
        await page.get_by_placeholder("Name of a new group").fill(LONG[:50])
        await page.get_by_role("button", name="Create").click()
        await page.get_by_role("button", name="Members and rules").click()
        await page.locator("dialog .person").wait_for()
        await fits(page, "group")
        await can_be_touched(page, "group")
        await page.keyboard.press("Escape")
        await fits(page, "group conversation")
        await page.get_by_role("button", name="Settings").click()
        await page.get_by_label("Who may write to you").wait_for()
        await fits(page, "settings")

    desk.play(site, story)


def test_a_phone_is_enough(desk: Desk, site: Site) -> None:
    """One of list and conversation is shown, and everything is done with a finger."""

    async def story(stage: Stage) -> None:
        alice, bob = await stage.person("hal2", **PHONE), await stage.person("hal3", **PHONE)
        page = alice.page
        await page.locator(".sidebar input").tap()
        await page.keyboard.type("hal3")
        await page.get_by_role("button", name="New conversation").tap()
        await page.wait_for_selector(".thread h2:has-text('hal3')")
        assert not await page.locator(".sidebar").is_visible()
        await page.locator(".composer textarea").tap()
        await page.keyboard.type("by touch")
        await page.get_by_role("button", name="Send").tap()
        await bob.page.locator(".row", has_text="by touch").tap()
        await bob.sees("by touch")
        await bob.page.get_by_role("button", name="Actions").tap()
        await bob.page.get_by_role("button", name="Reply").tap()
        await bob.write("so is this")
        await alice.sees("so is this")
        await page.get_by_role("button", name="Back").tap()
        await page.locator(".row", has_text="so is this").wait_for()
        assert not await page.locator(".thread").is_visible()

    desk.play(site, story)


def test_the_page_is_mirrored(desk: Desk, site: Site) -> None:
    """With dir="rtl", the list is on the right, and own messages are on the left."""
    places = """() => {
        const middle = (name) => {
            const { left, right } = document.querySelector(name).getBoundingClientRect();
            return (left + right) / 2;
        };
        return { list: middle(".sidebar") < middle(".thread"), mine: middle(".mine") > middle(".messages"),
            send: middle(".composer [type=submit]") > middle(".composer textarea") };
    }"""

    async def story(stage: Stage) -> None:
        dora = await stage.person("hal0")
        await dora.open("hal1")
        await dora.write("mirror")
        await dora.state_of("mirror", "stored")
        assert set((await dora.page.evaluate(places)).values()) == {True}
        await dora.page.evaluate("document.documentElement.dir = 'rtl'")
        assert set((await dora.page.evaluate(places)).values()) == {False}

    desk.play(site, story)


@pytest.mark.parametrize("sheet", ["style.css", "admin/admin.css"])
def test_styles_name_no_left_and_right(sheet: str) -> None:
    """But start and end, so that a mirrored page needs no styles of its own."""
    text = re.sub(r"/\*.*?\*/", "", (STATIC / sheet).read_text(), flags=re.DOTALL)
    found = re.findall(
        r"(?:margin|padding|border)-(?:left|right)|(?<![\w-])(?:left|right)\s*:|: (?:left|right)\b", text
    )
    assert found == []
