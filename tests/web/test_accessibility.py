"""The page for people who use a screen reader or other colours: axe-core finds nothing serious, anywhere on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.web.desk import Desk, Site, Stage
from tests.web.samples import picture, text

AXE = Path(sys.prefix) / "page" / "node_modules" / "axe-core" / "axe.min.js"
"""Installed by `make tools`."""
SERIOUS = ("serious", "critical")
RUN = "axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations)"


async def findings(page: Page, where: str) -> list[str]:
    await page.evaluate(AXE.read_text())
    found = await page.evaluate(RUN)
    return [
        f"{where}: {one['id']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_found(desk: Desk, site: Site, scheme: str) -> None:
    name, other = f"carol{2 if scheme == 'light' else 3}", "bob2"

    async def story(stage: Stage) -> list[str]:
        carol = await stage.visitor(color_scheme=scheme)
        page = carol.page
        await page.goto(site.url)
        await page.wait_for_selector("form")
        found = await findings(page, "login")
        await carol.log_in(name)
        await carol.open(other)
        await carol.write("hello https://example.org/")
        await page.locator(".state", has_text="stored").wait_for()
        await page.get_by_role("button", name="Actions").click()
        found += await findings(page, "conversation")
        await carol.send_files(picture(), text("notes.txt"))
        await page.locator(".message[data-seq='2'] .picture img").wait_for()
        await carol.attach(text("empty.txt", ""))
        await carol.attach(picture("next.png"))
        await carol.attach(text("none.txt", ""))
        found += await findings(page, "files")
        await page.get_by_role("button", name="Show lake.png large").click()
        await page.get_by_role("dialog").get_by_role("img").wait_for()
        found += await findings(page, "picture")
        await page.keyboard.press("Escape")
        for tab in ("people", "groups"):
            await page.click(f"#tab-{tab}")
            found += await findings(page, tab)
        await page.get_by_placeholder("Name of a new group").fill("Rowing")
        await page.get_by_role("button", name="Create").click()
        await page.get_by_role("button", name="Members and rules").click()
        await page.locator("dialog .person").wait_for()
        found += await findings(page, "group")
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Settings").click()
        await page.get_by_label("Who may write to you").wait_for()
        return found + await findings(page, "settings")

    assert desk.play(site, story) == []
