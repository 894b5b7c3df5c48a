"""A real browser on a page of ours: Chromium without a window, and the small HTTP server the page comes from.

Owns: starting and ending it, and the events the page's script posts back, one JSON object each.
Fails: TimeoutError with what the page said so far.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

CHROMIUM = shutil.which("chromium-headless-shell") or "chromium-headless-shell"
"""Chromium without what a window needs: half of the CPU time."""
WHOLE_CHROMIUM = shutil.which("chromium") or "chromium"
"""It has notifications and a push service, too."""
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip
START_S = 60.0
"""A browser takes long to start on a busy machine."""


class Page:
    """origin: where the page comes from. events: what its script has posted."""

    def __init__(self, html: bytes) -> None:
        self.html = html
        self.origin = ""
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if head.startswith("POST"):
                length = next(line for line in head.split("\r\n") if line.lower().startswith("content-length:"))
                self.events.append(json.loads(await reader.readexactly(int(length.partition(":")[2]))))
                self._news.set()
            body = b"" if head.startswith("POST") else self.html
            writer.write(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html; charset=utf-8\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # a connection the browser opened in advance
        finally:
            writer.close()

    async def event(self, what: str, limit_s: float = 20.0) -> dict[str, Any]:
        """The next event with this "what"; those before it are dropped."""
        try:
            async with asyncio.timeout(limit_s):
                skipped = []
                while True:
                    while self.events:
                        event = self.events.pop(0)
                        if event["what"] == what:
                            return event
                        skipped.append(event)
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"the page did not say {what!r} within {limit_s} s, but {skipped}") from None


@asynccontextmanager
async def browse(html: bytes) -> AsyncIterator[Page]:
    """A page that is served and can be opened with `visit`."""
    page = Page(html)
    server = await asyncio.start_server(page.serve, "127.0.0.1", 0)
    page.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield page
    finally:
        server.close()


@asynccontextmanager
async def visit(page: Page, **parameters: str) -> AsyncIterator[None]:
    """A browser that shows the page, from its first event to the end of the block."""
    home = tempfile.mkdtemp(prefix="chromium-")
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *FLAGS, f"--user-data-dir={home}", f"{page.origin}/?{urlencode(parameters)}",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": home}, start_new_session=True,
    )  # fmt: skip
    try:
        await page.event("loaded", START_S)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        shutil.rmtree(home, ignore_errors=True)
