"""Writing: texts that are too long, input methods, emoji and other scripts."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from tests.web.desk import Desk, Site, Stage, secret_of

FIELD = ".composer textarea"
PASTE = """([selector, text]) => {
    const field = document.querySelector(selector);
    field.focus();
    document.execCommand("insertText", false, text); // as the browser itself does it for a paste
}"""
DIRECTION = "one => [getComputedStyle(one).direction, getComputedStyle(one).textAlign]"


async def paste(page: Page, text: str, selector: str = FIELD) -> None:
    await page.evaluate(PASTE, [selector, text])


def test_a_text_that_is_too_long_is_told_and_kept(desk: Desk, site: Site) -> None:
    """The limit counts bytes. Nothing is sent before the text is short enough, and nothing of it is lost."""
    most = 6144
    for_sure = "线" * (most // 3)

    async def story(stage: Stage) -> None:
        dora, emil = await stage.pair("ina0", "jon0")
        page = dora.page
        await paste(page, for_sure + "!?")
        told = page.get_by_role("alert").filter(has_text=f"{most + 2} of at most {most} bytes")
        await told.wait_for()
        await page.press(FIELD, "Enter")
        assert await page.get_by_role("button", name="Send").is_disabled()
        assert await page.input_value(FIELD) == for_sure + "!?"
        await page.press(FIELD, "Backspace")
        await page.press(FIELD, "Backspace")
        await told.wait_for(state="detached")
        await page.press(FIELD, "Enter")
        await emil.sees(for_sure)
        await paste(page, "x" * 1_000_000)
        await page.get_by_role("alert").filter(has_text="too long").wait_for()
        await dora.shows([for_sure])

    desk.play(site, story)


def test_an_edit_that_is_refused_is_kept(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        dora, emil = await stage.pair("ina1", "jon1")
        await dora.write("short")
        await emil.sees("short")
        mine = dora.page.locator(".message.mine")
        await mine.get_by_role("button", name="Actions").click()
        await mine.get_by_role("button", name="Edit").click()
        await dora.page.fill(".editor", "long " * 2000)
        await dora.page.press(".editor", "Enter")
        await mine.get_by_role("alert").filter(has_text="too long").wait_for()
        assert await dora.page.input_value(".editor") == "long " * 2000
        await dora.page.fill(".editor", "shorter")
        await dora.page.press(".editor", "Enter")
        await emil.sees("shorter")

    desk.play(site, story)


def test_enter_belongs_to_the_input_method_while_it_composes(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        dora, emil = await stage.pair("ina2", "jon2")
        browser = await dora.page.context.new_cdp_session(dora.page)
        await dora.page.focus(FIELD)
        await browser.send("Input.imeSetComposition", {"text": "nihao", "selectionStart": 5, "selectionEnd": 5})
        key = {"type": "rawKeyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
        await browser.send("Input.dispatchKeyEvent", key)  # as the system tells of it while the method has the key
        assert await dora.page.input_value(FIELD) == "nihao"
        await browser.send("Input.imeSetComposition", {"text": "你好", "selectionStart": 2, "selectionEnd": 2})
        await browser.send("Input.dispatchKeyEvent", {**key, "windowsVirtualKeyCode": 13})  # as some browsers do
        assert await dora.page.input_value(FIELD) == "你好"
        await browser.send("Input.insertText", {"text": "你好"})
        assert await dora.texts() == []
        await dora.page.press(FIELD, "Enter")
        await emil.shows(["你好"])
        await dora.shows(["你好"])

    desk.play(site, story)


def test_emoji_stay_whole(desk: Desk, site: Site) -> None:
    """In a message, in the list, where its beginning is shown, and in an answer."""
    family = "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ☺️"
    cut = "a" * 99 + "😀" * 40

    async def story(stage: Stage) -> None:
        dora, emil = await stage.pair("ina3", "jon3")
        for text in (family, cut):
            await dora.page.focus(FIELD)
            await dora.page.keyboard.insert_text(text)
            await dora.page.press(FIELD, "Enter")
            await emil.sees(text)
        await emil.page.locator(".message").last.get_by_role("button", name="Actions").click()
        await emil.page.get_by_role("button", name="Reply").click()
        await emil.write("yes")
        await dora.page.locator("blockquote").wait_for()
        for where in (dora, emil):
            shown = await where.page.locator(".row, blockquote").all_text_contents()
            assert len(shown) >= 2
            whole = "texts => texts.every((one) => one.isWellFormed() && !one.includes('\\ufffd'))"
            assert await where.page.evaluate(whole, shown)

    desk.play(site, story)


@pytest.mark.slow
def test_texts_run_in_their_own_direction(desk: Desk, site: Site) -> None:
    """Arabic and Hebrew from right to left, also mixed; English from left to right, also in a mirrored page."""
    directions = {"مرحبا بالعالم": "rtl", "שלום, this is mixed": "rtl", "hello שלום": "ltr"}

    async def story(stage: Stage) -> None:
        dora, emil = await stage.pair("ina4", "jon4")
        for text in directions:
            await dora.write(text)
            await emil.sees(text)
        for page_direction in ("ltr", "rtl"):
            await emil.page.evaluate("dir => { document.documentElement.dir = dir; }", page_direction)
            for text, direction in directions.items():
                shown = emil.page.locator(".message .text", has_text=text)
                assert await shown.evaluate(DIRECTION) == [direction, "start"], (text, page_direction)
        await dora.page.fill(FIELD, "שלום")
        assert (await dora.page.locator(FIELD).evaluate(DIRECTION))[0] == "rtl"

    desk.play(site, story)


def test_refusals_are_told_in_the_language_of_the_page(desk: Desk, site: Site) -> None:
    """Of an HTTP call, of a request, and of a message."""

    async def story(stage: Stage) -> None:
        visitor = await stage.visitor(locale="zh-CN")
        page = visitor.page
        await page.goto(site.url)
        await page.get_by_role("button", name="还没有账号").click()
        for field, text in (("name", "ina7"), ("secret", "a long password"), ("again", "a long password")):
            await page.fill(f"input[name={field}]", text)
        await page.get_by_role("button", name="注册", exact=True).click()
        await page.get_by_role("alert").filter(has_text="该用户名已被占用。").wait_for()
        visitor.errors.clear()  # the browser tells of the refusal itself

        ina = await stage.person("ina7", locale="zh-CN")
        await ina.page.click("#tab-people")
        await ina.page.get_by_label("对方的用户名").first.fill("nobody-of-this-name")
        await ina.page.get_by_role("button", name="加为好友").click()
        await ina.page.get_by_role("alert").filter(has_text="没有此用户。").wait_for()
        await ina.page.get_by_label("对方的用户名").last.fill("jon7")
        await ina.page.get_by_role("button", name="屏蔽").click()
        await ina.page.get_by_role("button", name="取消屏蔽").wait_for()
        await ina.open("jon7")
        await ina.write("hello")
        await ina.page.locator(".message .state", has_text="您已屏蔽此用户。").wait_for()
        await ina.page.get_by_role("button", name="设置").click()
        await ina.page.get_by_label("当前密码").fill(secret_of("ina7"))
        await ina.page.get_by_label("新密码").fill("x" * 2000)
        await ina.page.get_by_role("button", name="修改密码").click()
        told = ina.page.get_by_role("alert").filter(has_text="缺少字段或字段类型错误。")
        assert "length <= 1024" in await told.inner_text(), "what is exact about it is lost"

    desk.play(site, story)
