"""A receiver of webhooks, as an application has one: a process of its own that verifies each request with the public
library, and writes it down before it answers.

Owns: the process (`python -m tests.webhooks.receiver PORT FOLDER SECRET`), and Receiver, the test's side of it.
Elsewhere: judging what came (tests.webhooks.judge).
Fails: the process answers 401 to what it cannot verify, and notes it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from tests.harness.daemon import TOP, free_port
from tests.harness.deadline import wait_until


class Receiver:
    """behaviour: what the process does from now on (Behaving)."""

    def __init__(self, folder: Path, secret: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.secret = secret or new_secret()
        self.process: subprocess.Popen[bytes] | None = None
        self._read = 0
        self._requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events"

    def options(self, **more: Any) -> dict[str, Any]:
        """Of a [[webhook]] that tells this receiver."""
        return {
            "name": "crm",
            "url": self.url,
            "secrets": [self.secret],
            "allow_private": ["127.0.0.1"],
            "timeout_s": 5,
            **more,
        }

    def behave(self, **behaviour: Any) -> None:
        """status, delay_s, body_bytes, retry_after, location: of every answer from now on. secrets: those of which one
        must have signed, instead of its own; which of them did is noted as "signed"."""
        new = self.folder / "behaviour.new"
        new.write_text(json.dumps(behaviour))
        new.rename(self.folder / "behaviour")

    def start(self) -> Receiver:
        arguments = [str(self.port), str(self.folder), self.secret]
        self.process = subprocess.Popen([sys.executable, "-m", "tests.webhooks.receiver", *arguments], cwd=TOP)
        wait_until(20, "the receiver listens", lambda: (self.folder / "ready").exists())
        return self

    def kill(self) -> None:
        if self.process is not None:
            (self.folder / "ready").unlink(missing_ok=True)
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def requests(self) -> list[dict[str, Any]]:
        """Those that were answered with success: id, events, at; with "bad": those that were not verified."""
        journal = self.folder / "journal"
        if journal.exists():
            with journal.open("rb") as file:
                file.seek(self._read)
                whole = file.read().rpartition(b"\n")[0]
                self._read += len(whole) + 1 if whole else 0
            self._requests += [note for line in whole.splitlines() if (note := _note(line)) is not None]
        return self._requests

    @property
    def begun(self) -> int:
        """How many requests have come, whether they were answered or not."""
        path = self.folder / "begun"
        return path.stat().st_size if path.exists() else 0

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """In the order in which they came, repetitions included."""
        found = [event for request in self.requests() for event in request["events"]]
        return [event for event in found if not kind or event["type"] == kind]


def new_secret() -> str:
    return f"whsec_{base64.b64encode(os.urandom(32)).decode()}"


# -------------------------------------------------------------------- the process


class _Process:
    def __init__(self, folder: Path, secret: str) -> None:
        self._folder = folder
        self._secret = secret
        self._journal, self._begun = (
            os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for name in ("journal", "begun")
        )

    def _behaviour(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._folder / "behaviour").read_text())
        except OSError:
            return {}
        return found

    def _signed(self, secrets: list[str], body: bytes, headers: dict[str, str]) -> list[bool]:
        """Which of the secrets have signed. Raises: WebhookVerificationError: none."""
        found, given = [], {name.lower(): value for name, value in headers.items()}
        for secret in secrets:
            try:
                Webhook(secret).verify(body, given)
                found.append(True)
            except WebhookVerificationError:
                found.append(False)
        if not any(found):
            raise WebhookVerificationError("none of the secrets has signed")
        return found

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        os.write(self._begun, b".")
        behaviour = self._behaviour()
        if (delay_s := behaviour.get("delay_s", 0)) > 0:
            await asyncio.sleep(delay_s)
        status = behaviour.get("status", 200)
        headers = {name: request.headers[name] for name in request.headers if name.lower().startswith("webhook-")}
        note: dict[str, Any] = {"id": headers.get("webhook-id", ""), "at": time.time(), "status": status}
        try:
            note["signed"] = self._signed(behaviour.get("secrets", [self._secret]), body, headers)
            events = json.loads(body)["events"]
            note["seen"] = [event["id"] for event in events]
            note["events"] = events if status == 200 else []
        except WebhookVerificationError as error:
            note |= {"bad": str(error), "events": []}
            status = 401
        os.write(self._journal, b"\n" + json.dumps(note).encode() + b"\n")  # one before it may have been cut off
        extra = {"Retry-After": str(behaviour["retry_after"])} if "retry_after" in behaviour else {}
        if behaviour.get("location"):
            extra["Location"] = behaviour["location"]
        return web.Response(status=status, body=b"x" * behaviour.get("body_bytes", 0), headers=extra)


def _note(line: bytes) -> dict[str, Any] | None:
    """None: the line is empty, or the receiver was killed while it wrote it, before it answered."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return found


def main(port: int, folder: Path, secret: str) -> None:
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/events", _Process(folder, secret).serve)

    async def ready(_app: web.Application) -> None:
        asyncio.get_running_loop().call_later(0.05, (folder / "ready").touch)

    app.on_startup.append(ready)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
