"""Files that people send on the page: chosen, pasted and dropped; shown, downloaded, and not executed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
from playwright.async_api import Error, Route

from tests.web.desk import MAX_FILE_BYTES, Bug, Desk, Sample, Site, Stage, Visitor
from tests.web.samples import bomb, large, picture, png, text

SHIFTS = """
    window.shifts = 0;
    new PerformanceObserver((list) => {
      for (const one of list.getEntries()) window.shifts += one.value;
    }).observe({ type: "layout-shift", buffered: true });
"""
TRANSFER = """
    const transfer = new DataTransfer();
    for (const [name, type, content] of FILES) transfer.items.add(new File([content], name, { type }));
"""


async def downloaded(visitor: Visitor, name: str) -> tuple[bytes, str]:
    """What the browser saves as this file, and its address."""
    async with visitor.page.expect_download() as saved:
        await visitor.page.get_by_role("button", name=f"Download {name}").click()
    download = await saved.value
    content = await asyncio.to_thread(Path(await download.path()).read_bytes)
    return content, download.url


async def moved(stage: Stage, names: tuple[str, str], bug: Bug | None = None) -> None:
    """A picture comes late, and nothing may move for it."""
    alice, bob = await stage.pair(*names, bug)
    held = asyncio.Event()

    async def hold(route: Route) -> None:
        await held.wait()
        await route.continue_()

    await bob.page.route("**/files/**", hold)
    await bob.page.evaluate(SHIFTS)
    await alice.send_files(picture(width=800, height=600), text="look")
    await alice.state_of("look", "read")
    box = bob.page.locator(".message .picture")
    await box.locator("img").wait_for(state="attached")
    before = await box.bounding_box()
    assert before is not None
    assert (round(before["width"]), round(before["height"])) == (320, 240)
    assert await bob.page.evaluate("document.querySelector('.picture img').naturalWidth") == 0
    await bob.page.evaluate("window.shifts = 0")
    held.set()
    await bob.becomes("document.querySelector('.picture img').naturalWidth === 800")
    assert await box.bounding_box() == before
    assert await bob.page.evaluate("window.shifts") == 0
    assert await box.locator("img").get_attribute("alt") == "lake.png"


async def unfolded(stage: Stage, names: tuple[str, str], bug: Bug | None = None) -> None:
    """A picture comes that would fill the memory."""
    alice, bob = await stage.pair(*names, bug)
    await alice.send_files(bomb(), picture())
    await bob.page.locator(".message .picture").first.wait_for()
    assert await bob.page.locator(".message .card .file").all_text_contents() == ["bomb.png"]


async def replaced(stage: Stage, names: tuple[str, str], bug: Bug | None = None) -> None:
    """A file is dropped where nothing takes files: the browser would show it in place of the page."""
    _, bob = await stage.pair(*names, bug)
    drop = TRANSFER.replace("FILES", '[["dropped.txt", "text/plain", "from a folder"]]')
    kept = await bob.page.evaluate(
        f"{drop} !document.querySelector('.sidebar')"
        ".dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }))"
    )
    assert kept is True


Attack = Callable[[Stage, tuple[str, str], Bug | None], Awaitable[None]]
ATTACKS: list[tuple[Attack, str, Bug, str]] = [
    (moved, "0", ("attachments.js", "style=${boxOf(file, longest)}", ""), r"== \(320, 240\)"),
    (unfolded, "6", ("files.js", "50e6", "Infinity"), r"== \['bomb.png'\]"),
    (replaced, "3", ("app.js", "keepPage();", ""), "False is True"),
]


def test_a_picture_is_shown_and_nothing_moves_when_it_comes(desk: Desk, site: Site) -> None:
    """Its box has the size before the first byte of it is there."""
    desk.play(site, lambda stage: moved(stage, ("dora0", "emil0")))


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "number", "bug", "told"), ATTACKS, ids=[one[0].__name__ for one in ATTACKS])
def test_guards_of_the_page_are_needed(
    desk: Desk, site: Site, attack: Attack, number: str, bug: Bug, told: str
) -> None:
    """With each of them, the attack fails; without it, it does not."""
    desk.play(site, lambda stage: attack(stage, (f"dora{number}", f"carol{number}"), None))
    with pytest.raises(AssertionError, match=told):
        desk.play(site, lambda stage: attack(stage, (f"dora{number}", f"alice{number}"), bug))


def test_pictures_are_looked_at_large(desk: Desk, site: Site) -> None:
    """With the keyboard: the arrows lead to the others, Escape leads back to where one was."""

    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("dora1", "emil1")
        await alice.send_files(picture("one.png"), picture("two.png", 300, 900))
        await bob.page.get_by_role("button", name="Show one.png large").focus()
        await bob.page.keyboard.press("Enter")
        dialog = bob.page.get_by_role("dialog")
        await dialog.get_by_role("img", name="one.png").wait_for()
        await bob.page.keyboard.press("ArrowRight")
        await dialog.get_by_role("heading", name="two.png").wait_for()
        await bob.page.keyboard.press("Escape")
        await dialog.wait_for(state="detached")
        assert await bob.page.evaluate("document.activeElement.className") == "picture"

    desk.play(site, story)


def test_files_are_pasted_and_dropped(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("dora2", "emil2")
        paste = TRANSFER.replace("FILES", '[["pasted.txt", "text/plain", "from the clipboard"]]')
        event = 'new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })'
        await alice.page.evaluate(f"{paste} document.querySelector('.composer textarea').dispatchEvent({event})")
        await alice.page.locator(".tray", has_text="pasted.txt").wait_for()
        drop = TRANSFER.replace("FILES", '[["dropped.txt", "text/plain", "from a folder"]]')
        await alice.page.evaluate(
            f"{drop} for (const kind of ['dragover', 'drop']) document.querySelector('.messages')"
            ".dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }))"
        )
        await alice.page.locator(".tray", has_text="dropped.txt").wait_for()
        await alice.write("both")
        await bob.sees("both")
        assert (await downloaded(bob, "pasted.txt"))[0] == b"from the clipboard"
        assert (await downloaded(bob, "dropped.txt"))[0] == b"from a folder"

    desk.play(site, story)


@pytest.mark.slow
def test_text_is_pasted_as_text_although_there_is_a_picture_of_it(desk: Desk, site: Site) -> None:
    """As office programs copy it."""

    async def story(stage: Stage) -> None:
        alice = await stage.person("dora3")
        await alice.open("emil3")
        taken = await alice.page.evaluate(
            """
            const transfer = new DataTransfer();
            transfer.items.add("a cell", "text/plain");
            transfer.items.add(new File(["x"], "image.png", { type: "image/png" }));
            const paste = new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true });
            !document.querySelector(".composer textarea").dispatchEvent(paste);
            """
        )
        assert taken is False
        assert await alice.page.locator(".tray").count() == 0

    desk.play(site, story)


NAMES = (
    "<img src=x onerror=\"document.title='owned'\">.txt",
    "\"><svg onload=document.title='owned'>.txt",
    "${document.title='owned'} &lt;b&gt;.txt",
)


def test_names_of_files_are_text(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("dora4", "emil4")
        await alice.send_files(*(text(name) for name in NAMES))
        await bob.page.locator(".message .card").nth(2).wait_for()
        assert await bob.page.locator(".message .file").all_text_contents() == list(NAMES)
        assert await bob.page.locator(".message img, .message svg").count() == 0
        await alice.send_files(picture(NAMES[0].replace("txt", "png")))
        shown = bob.page.locator(".message .picture")
        await shown.click()
        await bob.page.get_by_role("dialog").get_by_role("img").wait_for()
        row = bob.page.locator(".row .preview", has_text="onerror")
        await row.wait_for()
        for visitor in (alice, bob):
            assert "owned" not in await visitor.page.title()

    desk.play(site, story)


def test_a_file_with_a_script_is_saved_and_not_executed(desk: Desk, site: Site) -> None:
    """Not even by whoever opens its address."""
    script = "<script>document.title = 'owned'; fetch('/chat/pass', { method: 'POST' })</script>"
    contents = {"page.html": script, "drawing.svg": f"<svg xmlns='http://www.w3.org/2000/svg'>{script}</svg>"}
    kinds = {"page.html": "text/html", "drawing.svg": "image/svg+xml"}

    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("dora5", "emil5")
        files = [{"name": name, "mimeType": kinds[name], "buffer": contents[name].encode()} for name in kinds]
        await alice.send_files(*cast(list[Sample], files))
        await bob.page.locator(".message .card").nth(1).wait_for()
        assert await bob.page.locator(".message img").count() == 0
        other = await stage.visitor(context=bob.page.context)
        for name, content in contents.items():
            saved, url = await downloaded(bob, name)
            assert saved == content.encode()
            with pytest.raises(Error, match="Download is starting"):
                await other.page.goto(url)
            answer = await bob.page.request.get(url)
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"].startswith("attachment")
            assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert await bob.page.title() == "chatd"

    desk.play(site, story)


@pytest.mark.slow
def test_a_page_that_is_called_a_picture_is_refused(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("dora6", "emil6")
        await alice.send_files({"name": "a.png", "mimeType": "image/png", "buffer": b"<script>alert(1)</script>"})
        await alice.page.locator(".message.failed", has_text="not sent").wait_for()
        await alice.page.get_by_role("button", name="Discard").click()
        await alice.write("sorry")
        await bob.sees("sorry")
        assert await bob.page.locator(".message").count() == 1
        alice.errors.clear()  # 415, which the browser calls an error

    desk.play(site, story)


def test_what_would_be_refused_is_told_before_it_is_uploaded(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice = await stage.person("dora7")
        await alice.open("emil7")
        asked: list[str] = []
        alice.page.on("request", lambda request: asked.append(request.url))
        wrong = {
            "too large: at most 4 MB": text("big.txt", "x" * (MAX_FILE_BYTES + 1)),
            "files of this type cannot be sent": {**text("a.mp4"), "mimeType": "video/mp4"},
            "empty.txt is empty": text("empty.txt", ""),
        }
        for told, file in wrong.items():
            await alice.attach(file)
            await alice.page.get_by_role("alert").filter(has_text=told).wait_for()
        await alice.attach(*(text(f"{number}.txt") for number in range(4)))
        await alice.page.get_by_role("alert").filter(has_text="At most 3 files").wait_for()
        assert await alice.page.locator(".tray li").count() == 3
        await alice.page.get_by_role("button", name="Do not send 1.txt").click()
        await alice.page.locator(".tray li", has_text="1.txt").wait_for(state="detached")
        assert await alice.page.locator(".tray .file").all_text_contents() == ["0.txt", "2.txt"]
        assert asked == []

    desk.play(site, story)


@pytest.mark.slow
def test_it_is_told_in_chinese(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice = await stage.person("dora8", locale="zh-CN")
        await alice.open("emil8")
        await alice.page.get_by_role("button", name="添加附件").wait_for()
        await alice.attach(text("空.txt", ""))
        await alice.page.get_by_role("alert").filter(has_text="空.txt 是空文件。").wait_for()
        await alice.send_files(picture("湖.png"))
        await alice.page.get_by_role("button", name="查看大图 湖.png").wait_for()

    desk.play(site, story)


def test_whoever_has_left_the_group_cannot_open_its_files(desk: Desk, site: Site) -> None:
    """Also on a page that shows them still."""

    async def story(stage: Stage) -> None:
        alice, bob = await stage.person("dora9"), await stage.person("emil9")
        await alice.page.click("#tab-groups")
        await alice.page.get_by_placeholder("Name of a new group").fill("Rowing")
        await alice.page.get_by_role("button", name="Create").click()
        await alice.page.get_by_role("button", name="Members and rules").click()
        dialog = alice.page.get_by_role("dialog")
        await dialog.get_by_placeholder("Name of the person").fill("emil9")
        await dialog.get_by_role("button", name="Invite").click()
        await bob.page.click("#tab-groups")
        await bob.page.locator(".person", has_text="from dora9").get_by_role("button", name="Join").click()
        member = dialog.locator(".person", has_text="emil9")
        await member.wait_for()
        await alice.page.keyboard.press("Escape")
        await bob.page.locator(".open", has_text="Rowing").click()
        await alice.send_files(text("plan.txt"), text="the plan")
        await bob.sees("the plan")
        await alice.page.get_by_role("button", name="Members and rules").click()
        await member.get_by_role("button", name="Remove").click()
        await member.get_by_role("button", name="Remove").click()
        await member.get_by_role("button", name="Unban").wait_for()
        await bob.page.get_by_role("button", name="Download plan.txt").click()
        await bob.page.get_by_role("alert").filter(has_text="no longer available").wait_for()

    desk.play(site, story)


def test_a_recalled_message_takes_its_files_along(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("dora10", "emil10")
        await alice.send_files(picture(), text("notes.txt"), text="look")
        await bob.sees("look")
        _, url = await downloaded(bob, "notes.txt")
        await bob.page.locator(".picture").click()
        await bob.page.get_by_role("dialog").wait_for()
        mine = alice.page.locator(".message.mine")
        await mine.get_by_role("button", name="Actions").click()
        await mine.get_by_role("button", name="Recall").click()
        await bob.page.locator(".message em", has_text="recalled").wait_for()
        await bob.page.get_by_role("dialog").wait_for(state="detached")
        for visitor in (alice, bob):
            assert await visitor.page.locator(".picture, .card").count() == 0
        assert (await bob.page.request.get(url)).status == 404

    desk.play(site, story)


@pytest.mark.slow
def test_a_conversation_that_is_opened_later_has_its_files(desk: Desk, site: Site) -> None:
    """From the history, with text and a file of the same message, found by the name of the file."""

    async def story(stage: Stage) -> None:
        alice = await stage.person("dora11")
        await alice.open("emil11")
        await alice.send_files(text("minutes.txt", "of the meeting"), text="here they are")
        await alice.state_of("here they are", "stored")
        await alice.send_files(picture())
        await alice.page.locator(".message[data-seq='2'] .picture").wait_for()
        bob = await stage.person("emil11")
        await bob.page.locator(".row", has_text="[lake.png]").click()
        assert (await downloaded(bob, "minutes.txt"))[0] == b"of the meeting"
        await bob.becomes("document.querySelector('.picture img')?.naturalWidth === 800")
        await bob.page.get_by_label("Find in this conversation").fill("MINUTES")
        await bob.page.get_by_text("1 found").wait_for()

    desk.play(site, story)


def test_samples_are_what_they_say() -> None:
    assert png(2, 3)[16:24] == b"\0\0\0\2\0\0\0\3"
    assert len(large()["buffer"]) == 1_500_000


@pytest.mark.slow
def test_a_message_waits_for_the_files_that_are_being_read(desk: Desk, site: Site) -> None:
    """Whoever presses Enter at once after pasting sends what was pasted."""

    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("dora8", "bob8")
        files = TRANSFER.replace("FILES", '[["quick.txt", "text/plain", "quick"]]')
        event = 'new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })'
        key = 'new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true })'
        await alice.page.evaluate(
            "const read = File.prototype.arrayBuffer; File.prototype.arrayBuffer = async function () {"
            " await new Promise((resolve) => setTimeout(resolve, 500)); return read.call(this); };"
            f"{files} const field = document.querySelector('.composer textarea'); field.dispatchEvent({event});"
            f"setTimeout(() => field.dispatchEvent({key}), 100);"
        )
        await bob.page.locator(".message .card", has_text="quick.txt").wait_for()
        assert (await downloaded(bob, "quick.txt"))[0] == b"quick"

    desk.play(site, story)
