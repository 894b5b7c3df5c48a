"""Where the JavaScript client runs: a process of Node.js, or a page of a real Chromium, driven by a test in Python.

Owns: Place: run a piece of JavaScript there and get its value. Node and Browser with its tabs; the small HTTP server
from which a page gets the module, under a strict Content-Security-Policy.
Elsewhere: what the pieces may use besides the module (stories.js); the server (People).
Fails: JavaScriptError with what was thrown.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from websockets.asyncio.client import ClientConnection, connect

from tests.harness.browser import CHROMIUM, FLAGS, START_S
from tests.harness.certificates import Certificate
from tests.harness.daemon import TOP
from tests.harness.deadline import until, within

HOME = TOP / "clients" / "js"
TOOLS = TOP / ".venv" / "js" / "node_modules"
STORIES = Path(__file__).with_name("stories.js")
HOST = Path(__file__).with_name("host.mjs")
CALL_S = 30.0
"""The longest wait for a piece of JavaScript."""
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src ws://127.0.0.1:* wss://127.0.0.1:*; "
    "require-trusted-types-for 'script'; base-uri 'none'"
)


class JavaScriptError(AssertionError):
    pass


class Place(Protocol):
    name: str

    async def run(self, source: str, **names: Any) -> Any:
        """The value of the body of an asynchronous function there, as JSON. names: constants that it may use."""
        ...


def body(source: str, names: dict[str, Any]) -> str:
    constants = "".join(f"const {name} = {json.dumps(value)};" for name, value in names.items())
    return f"{constants}{source}"


class Node:
    """A process that ends with the test."""

    name = "node"

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer = json.loads(line)
            future = self._waiting.pop(answer["number"])
            if "error" in answer:
                future.set_exception(JavaScriptError(answer["error"]))
            else:
                future.set_result(answer.get("value"))
        for future in self._waiting.values():
            future.set_exception(JavaScriptError("node has ended"))

    async def run(self, source: str, **names: Any) -> Any:
        number = next(self._numbers)
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"number": number, "source": body(source, names)}).encode() + b"\n")
        return await within(CALL_S, source[:200], future)

    def kill(self) -> None:
        self._process.kill()

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        await self._process.wait()
        await asyncio.wait([self._reading])


@asynccontextmanager
async def node(module: Path = HOME / "chatd.js", trusted: Certificate | None = None) -> AsyncIterator[Node]:
    """module: of the client, or of one with a bug."""
    trust = {"NODE_EXTRA_CA_CERTS": str(trusted.pem)} if trusted else {}
    process = await asyncio.create_subprocess_exec(
        *("node", "--no-warnings", "--experimental-websocket", str(HOST), str(module), str(STORIES), str(TOOLS)),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**24, env={**os.environ, **trust},
    )  # fmt: skip
    place = Node(process)
    try:
        yield place
    finally:
        await place.end()


# ---------------------------------------------------------------- Chromium


class Browser:
    """A Chromium without a window, for the tests of a session. Its address of the DevTools protocol, and the module."""

    def __init__(self, trusted: Certificate | None = None) -> None:
        """trusted: the only certificate that it accepts although nobody vouches for it."""
        self.home = tempfile.mkdtemp(prefix="chromium-")
        trust = [f"--ignore-certificate-errors-spki-list={_key_of(trusted)}"] if trusted else []
        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, *trust, f"--user-data-dir={self.home}", "--remote-debugging-port=0", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self.home}, start_new_session=True,
        )  # fmt: skip
        self.modules: dict[str, bytes] = {}

    async def address(self) -> str:
        found = Path(self.home) / "DevToolsActivePort"
        lines = await until(START_S, "Chromium's port", lambda: found.exists() and found.read_text().splitlines(), 0.05)
        assert isinstance(lines, list)
        return f"ws://127.0.0.1:{lines[0]}{lines[1]}"

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def _key_of(certificate: Certificate) -> str:
    key = x509.load_pem_x509_certificate(certificate.pem.read_bytes()).public_key()
    data = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


class Profile:
    """A user of the browser: tabs that share their storage, and begin with none."""

    def __init__(self, socket: ClientConnection, origin: str) -> None:
        self.origin = origin
        self.context = ""
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for text in self._socket:
            answer = json.loads(text)
            future = self._waiting.pop(answer.get("id", 0), None)
            if future is None or future.done():
                continue
            if "error" in answer:
                future.set_exception(JavaScriptError(str(answer["error"])))
            else:
                future.set_result(answer["result"])

    async def call(self, method: str, session: str = "", **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        number = next(self._numbers)
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        of_tab = {"sessionId": session} if session else {}
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters, **of_tab}))
        return await within(CALL_S, method, future)

    async def tab(self) -> Tab:
        made = await self.call("Target.createTarget", url=f"{self.origin}/", browserContextId=self.context)
        attached = await self.call("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        tab = Tab(self, made["targetId"], attached["sessionId"])
        await tab.load()
        return tab

    async def end(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])


class Tab:
    name = "chromium"

    def __init__(self, profile: Profile, target: str, session: str) -> None:
        self.profile = profile
        self._target = target
        self._session = session

    async def call(self, method: str, **parameters: Any) -> Any:
        return await self.profile.call(method, self._session, **parameters)

    async def load(self) -> None:
        """Wait for the module."""
        ready = (
            "new Promise((done) => { const look = () => globalThis.ready ? done(true) : setTimeout(look, 5); look(); })"
        )
        async with asyncio.timeout(CALL_S):
            while True:
                try:
                    await self._evaluate(ready)
                    return
                except JavaScriptError:  # the page before this one was about to go
                    await asyncio.sleep(0.02)

    async def run(self, source: str, **names: Any) -> Any:
        return await self._evaluate(f"(async () => {{ {body(source, names)} }})()")

    async def _evaluate(self, expression: str) -> Any:
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise JavaScriptError(details.get("exception", {}).get("description") or str(details))
        return answer["result"].get("value")

    async def close(self) -> None:
        """As a user closes it."""
        await self.profile.call("Target.closeTarget", targetId=self._target)


PAGE = b"""<!DOCTYPE html><meta charset="utf-8"><title>chat</title><script type="module" src="/page.js"></script>"""
PAGE_SCRIPT = b"""
import * as chatd from "/chatd.js";
import * as stories from "/stories.js";
globalThis.violations = [];
document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
  violations.push(`${violatedDirective} ${blockedURI}`));
Object.assign(globalThis, chatd, stories, { chatd, ready: true });
"""


class _Files:
    """The HTTP server of the page."""

    def __init__(self, module: bytes) -> None:
        self._files = {
            "/": ("text/html; charset=utf-8", PAGE),
            "/page.js": ("text/javascript", PAGE_SCRIPT),
            "/chatd.js": ("text/javascript", module),
            "/stories.js": ("text/javascript", STORIES.read_bytes()),
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            kind, content = self._files.get(path, ("text/plain", b""))
            head = (
                f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
                f"Content-Security-Policy: {POLICY}\r\nCache-Control: no-store\r\n\r\n"
            )
            writer.write(head.encode() + content)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # a connection that the browser opened in advance
        finally:
            writer.close()


@asynccontextmanager
async def profile(browser: Browser, module: bytes = b"") -> AsyncIterator[Profile]:
    """module: of a client with a bug."""
    files = _Files(module or (HOME / "chatd.js").read_bytes())
    server = await asyncio.start_server(files.serve, "127.0.0.1", 0)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with connect(await browser.address(), max_size=None, compression=None, proxy=None) as socket:
        made = Profile(socket, origin)
        try:
            made.context = (await made.call("Target.createBrowserContext"))["browserContextId"]
            yield made
            await made.call("Target.disposeBrowserContext", browserContextId=made.context)
        finally:
            await made.end()
            server.close()
