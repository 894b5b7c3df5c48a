"""The chat page in a real browser: a server that serves it, and people who use it.

Owns: Site, a daemon with the page; Desk, a browser on a loop of its own; Visitor, one person's page.
Elsewhere: the browser itself (Playwright, with Debian's Chromium).
Fails: TimeoutError of Playwright after LIMIT_MS. Whatever a page reports as an error, and whatever it loads from
elsewhere, fails the test that opened it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from playwright.async_api import Browser, BrowserContext, FilePayload, Page, Playwright, Route, async_playwright

from tests.harness.browser import CHROMIUM, FLAGS
from tests.harness.daemon import Daemon

T = TypeVar("T")
LIMIT_MS = 20_000
"""A browser is slow on a busy machine."""
STORY_S = 60.0
FONTS = Path(__file__).with_name("fonts.conf")
MAX_FILE_BYTES = 4_000_000
FILE_TYPES = ("image/*", "text/html", "text/plain", "application/pdf")
"""More than is safe, so that what they must not do can be tried."""

Bug = tuple[str, str, str]
"""A module of the page, what it says, and what it says instead."""
Sample = FilePayload
"""A file that somebody chooses: {"name", "mimeType", "buffer"}."""


class Site(Daemon):
    """A daemon whose HTTP listener serves the page and the API."""

    def __init__(self, root: Path, **options: Any) -> None:
        listen = {"http": {"serves": ["api", "chat"]}}
        files = {"dir": "files", "max_bytes": MAX_FILE_BYTES, "types": list(FILE_TYPES), "per_message": 3}
        super().__init__(root, **{"workers": 2, "api": True, "listen": listen, "files": files, **options})

    def people(self, *names: str) -> None:
        """Make accounts. The server runs, or will."""
        file = self.root / "people"
        file.write_text("".join(f"{name} {secret_of(name)}\n" for name in names))
        code, _, said = self.ctl_said("user", "add", "--file", str(file), "--force")
        assert code == 0, said

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['http']}/"


def secret_of(name: str) -> str:
    return f"secret of {name}"


class Visitor:
    """One page. errors: what it reported."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page = page
        self.site = site
        self.errors: list[str] = []
        page.set_default_timeout(LIMIT_MS)
        page.on("pageerror", lambda error: self.errors.append(f"error: {error}"))
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("request", lambda request: self._asked(request.url))

    def _said(self, kind: str, text: str) -> None:
        is_expected = "WebSocket connection" in text or "net::ERR_" in text  # the server was away
        if kind in ("error", "warning") and not is_expected:
            self.errors.append(f"{kind}: {text}")

    def _asked(self, url: str) -> None:
        if not url.startswith((self.site.url, self.site.url.replace("http", "ws", 1), "blob:", "data:")):
            self.errors.append(f"loads {url}")

    async def plant(self, bug: Bug) -> None:
        """From the next load on, a module of the page has this bug."""
        module, right, wrong = bug

        async def changed(route: Route) -> None:
            text = await (await route.fetch()).text()
            assert right in text, f"{module} has no {right}"
            await route.fulfill(body=text.replace(right, wrong), content_type="text/javascript")

        await self.page.route(f"**/{module}", changed)

    async def log_in(self, name: str, *, stay: bool = False) -> None:
        await self.page.goto(self.site.url)
        await self.page.fill("input[name=name]", name)
        await self.page.fill("input[name=secret]", secret_of(name))
        if stay:
            await self.page.check("input[name=stay]")
        await self.page.click("button[type=submit]")
        await self.is_live()

    async def is_live(self) -> None:
        await self.page.wait_for_selector(".app[data-state=live]")

    async def loses_the_network(self) -> None:
        """Returns when the page has noticed."""
        await self.page.context.set_offline(True)
        await self.page.locator(".status", has_text="Trying again").wait_for()

    async def open(self, name: str) -> None:
        """The conversation with this person."""
        await self.page.click("#tab-list")
        await self.page.fill(".sidebar input", name)
        await self.page.press(".sidebar input", "Enter")
        await self.page.wait_for_selector(f".thread header h2:has-text({name!r})")

    async def write(self, text: str) -> None:
        await self.page.fill(".composer textarea", text)
        await self.page.press(".composer textarea", "Enter")

    async def attach(self, *files: Sample) -> None:
        """Choose these files for the next message. The page takes them, or says why not."""
        await self.page.locator(".composer input[type=file]").set_input_files(list(files))
        await self.page.locator(".tray li, .told p", has_text=files[0]["name"]).first.wait_for()

    async def send_files(self, *files: Sample, text: str = "") -> None:
        await self.attach(*files)
        await self.write(text)

    async def sees(self, text: str, count: int = 1) -> None:
        """So many messages with exactly this text, in the conversation that is shown."""
        found = self.page.locator(".message .text", has_text=text)
        await found.nth(count - 1).wait_for(state="attached")
        texts = [one for one in await found.all_text_contents() if one == text]
        assert len(texts) == count, texts

    async def texts(self) -> list[str]:
        """Of the messages that are shown, in their order."""
        return await self.page.locator(".message .text").all_text_contents()

    async def shows(self, texts: list[str]) -> None:
        """These messages, in this order, and no others; in a moment."""
        for _ in range(LIMIT_MS // 50):
            if await self.texts() == texts:
                return
            await asyncio.sleep(0.05)
        assert await self.texts() == texts

    async def becomes(self, expression: str) -> None:
        """It gets to be true on the page, which allows no eval to Playwright's own waiting."""
        for _ in range(LIMIT_MS // 50):
            if await self.page.evaluate(expression):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"not so: {expression}")

    async def state_of(self, text: str, state: str) -> None:
        """The message with this text gets to be in this state."""
        message = self.page.locator(".message", has=self.page.get_by_text(text, exact=True))
        await message.locator(f".state:has-text({state!r})").wait_for(state="attached")


class Desk:
    """A browser that runs until close(). Its loop has a thread of its own, so that tests may have loops, too."""

    def __init__(self, program: str = CHROMIUM) -> None:
        self._program = program
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._playwright: Playwright
        self.browser: Browser
        self._do(self._start(), STORY_S)

    def _do(self, work: Coroutine[Any, Any, T], limit_s: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(limit_s)

    async def _start(self) -> None:
        self._playwright = await async_playwright().start()
        self.browser = await self._playwright.chromium.launch(
            executable_path=self._program, args=list(FLAGS), env={**os.environ, "FONTCONFIG_FILE": str(FONTS)}
        )

    async def _stop(self) -> None:
        await self.browser.close()
        await self._playwright.stop()

    def close(self) -> None:
        self._do(self._stop(), STORY_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def play(self, site: Site, story: Callable[[Stage], Awaitable[T]]) -> T:
        """Run it with a stage of its own. Afterwards no page may have reported an error."""

        async def whole() -> T:
            stage = Stage(self.browser, site)
            try:
                result = await asyncio.wait_for(asyncio.ensure_future(story(stage)), STORY_S)
            finally:
                await stage.close()
            assert stage.errors == [], stage.errors
            return result

        return self._do(whole(), STORY_S + 30)


class Stage:
    """Visitors of one test, each with a browser profile of its own."""

    def __init__(self, browser: Browser, site: Site) -> None:
        self._browser = browser
        self.site = site
        self._contexts: list[BrowserContext] = []
        self._visitors: list[Visitor] = []

    @property
    def errors(self) -> list[str]:
        return [error for visitor in self._visitors for error in visitor.errors]

    async def visitor(self, *, context: BrowserContext | None = None, **options: Any) -> Visitor:
        """options: of Browser.new_context, such as locale, viewport. context: of another visitor, to share it."""
        if context is None:
            context = await self._browser.new_context(**{"locale": "en-GB", **options})
            self._contexts.append(context)
        visitor = Visitor(await context.new_page(), self.site)
        self._visitors.append(visitor)
        return visitor

    async def person(self, name: str, **options: Any) -> Visitor:
        """Who is logged in."""
        visitor = await self.visitor(**options)
        await visitor.log_in(name)
        return visitor

    async def pair(self, one: str, other: str, bug: Bug | None = None) -> tuple[Visitor, Visitor]:
        """Two who are logged in, each with the conversation with the other before them. bug: of the other's page."""
        first, second = await self.person(one), await self.visitor()
        if bug is not None:
            await second.plant(bug)
        await second.log_in(other)
        await first.open(other)
        await second.open(one)
        return first, second

    async def close(self) -> None:
        for context in self._contexts:
            await context.close()
