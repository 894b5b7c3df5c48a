"""A daemon that notifies, a push service, and people with browsers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from chatd.web_push.vapid import VapidKey, new_pem
from chatd_client import Client
from tests.chatd_client.people import People
from tests.harness.daemon import Daemon
from tests.harness.deadline import until
from tests.push.receiver import Browser, PushService

LEASE_S = 2


def options_of(folder: Path, **more: Any) -> tuple[str, dict[str, Any]]:
    """A new key in a file of this folder: its public half, and [push] with it."""
    folder.mkdir(parents=True, exist_ok=True)
    pem = new_pem()
    file = folder / "push.pem"
    file.touch(0o600)
    file.write_text(pem)
    return VapidKey(pem).public, {
        "subject": "mailto:admin@example.org",
        "key": f"file:{file}",
        "services": ["127.0.0.1"],
        "allow_private": ["127.0.0.1"],
        "content": "text",
        "delay_s": 0,
        "pause_s": 0,
        "timeout_s": 0.5,
        **more,
    }


class House(People):
    """service: where its notifications go."""

    service: PushService

    @asynccontextmanager
    async def away(self, name: str, *browsers: Browser) -> AsyncIterator[str]:
        """A new user with these browsers, who has left. Afterwards none is subscribed any more."""
        user = await self.user(name)
        async with self.client(user) as client:
            await subscribe(client, *browsers)
        try:
            yield user
        finally:
            async with self.client(user) as client:
                await client.push.unsubscribe_all()

    def restarts_clean(self) -> None:
        self.service.status, self.service.delay_s, self.service.headers = 201, 0.0, {}
        self.service.forget()


async def subscribe(client: Client, *browsers: Browser) -> None:
    for one in browsers:
        await client.push.subscribe(one.endpoint, **one.keys)


async def noted(browser: Browser, count: int = 1, limit_s: float = 10.0) -> list[dict[str, Any]]:
    """What it was notified of, once there is so much."""
    found = await until(limit_s, f"{count} notifications for {browser.path}", lambda: _enough(browser, count), 0.02)
    assert found is not None
    return found


def _enough(browser: Browser, count: int) -> list[dict[str, Any]] | None:
    notes = browser.notes()
    return notes if len(notes) >= count else None


def made_house(root: Path, *, push: dict[str, Any] | None = None, **options: Any) -> House:
    """Not started. push: options of [push]. options: of Daemon."""
    public, table = options_of(root, **(push or {}))
    house = House(Daemon(root / "daemon", push=table, bus={"lease_s": LEASE_S}, **options))
    house.service = PushService(public)
    return house
