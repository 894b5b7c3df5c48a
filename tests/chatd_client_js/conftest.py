"""One daemon with every transport and one browser, for all tests of the JavaScript client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chatd_client.people import People
from tests.chatd_client_js import places
from tests.chatd_client_js.places import Browser, Place
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.deadline import run

Enter = Callable[[], AbstractAsyncContextManager[Place]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In one process, which has the daemon and the browser."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group("chatd_client_js"))


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """limits: as small as the faults need them."""
    root = tmp_path_factory.mktemp("server")
    daemon = Daemon(root, workers=2, certificate=Certificate(root / "certificate"), timeouts={"resend_s": 0.3})
    daemon.expect_error("worker died")
    try:
        yield People(daemon.start())
    finally:
        complaints = daemon.discard()
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])


@pytest.fixture(scope="session")
def browser(people: People) -> Iterator[Browser]:
    browser = Browser(people.daemon.certificate)
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture(params=["node", "chromium"])
def tell(request: pytest.FixtureRequest, people: People) -> Callable[..., Any]:
    """Runs a story of the client in Node.js and in Chromium: `await story(place, server)`."""

    @asynccontextmanager
    async def enter() -> AsyncIterator[Place]:
        if request.param == "node":
            async with places.node() as one:
                yield one
        else:
            async with places.profile(request.getfixturevalue("browser")) as made:
                yield await made.tab()

    def told(story: Callable[[Place, dict[str, str]], Awaitable[Any]], limit_s: float = 60.0) -> Any:
        async def whole() -> Any:
            async with enter() as place:
                return await story(place, server(people))

        return run(whole(), limit_s)

    return told


def server(people: People, scheme: str = "ws", port: int = 0) -> dict[str, str]:
    """As stories.js takes it. port: of a proxy before the listener."""
    return {"url": people.url(scheme, port), "secret": people.town.secret}
