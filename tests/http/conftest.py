"""One daemon with one worker and small limits, for the tests of connections, and one with two for the tests of keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.api import Api, make_keys
from tests.harness.daemon import Daemon, free_port
from tests.http.raw import Raw

BODY_BYTES, HEADER_BYTES, REQUEST_S, IDLE_S = 32 * 1024, 4096, 1.0, 2.5
CONCURRENT, STALL_S = 30, 1.5
WEBSOCKET_PATH = "/websocket"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In one process, which has the daemons."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group("http"))


class House:
    """A daemon with an API, a key for messages, and two accounts, alice and bob. options: of Daemon."""

    def __init__(self, root: Path, workers: int, **options: Any) -> None:
        options.setdefault("listen", {"http": {"websocket_path": WEBSOCKET_PATH}})
        self.daemon = Daemon(root, workers=workers, api=True, **options)
        self.daemon.config["listen"] += self.more()
        self.daemon.write_config()
        keys = make_keys(self.daemon, messages="messages:write", all="admin")
        self.key, self.admin = keys["messages"], keys["all"]
        self.daemon.start()
        with self.connect() as raw:  # it answers
            raw.ask(b"GET /v1/messages HTTP/1.1\r\nHost: chat\r\n\r\n")
        api = Api(self.port, self.admin)
        for name in ("alice", "bob"):
            assert api.put(f"/v1/users/{name}", {"password": f"secret of {name}"}).status == 200
        api.close()

    def more(self) -> list[dict[str, object]]:
        """Further listeners."""
        return []

    @property
    def port(self) -> int:
        return self.daemon.ports["http"]

    @property
    def metrics_port(self) -> int:
        return self.daemon.metrics_port

    def connect(self, source: str = "") -> Raw:
        return Raw(self.port, source)

    def api(self, key: str = "") -> Api:
        return Api(self.port, key or self.key)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    options = {
        "body_bytes": BODY_BYTES,
        "header_bytes": HEADER_BYTES,
        "request_s": REQUEST_S,
        "idle_s": IDLE_S,
        "requests_per_connection": 50,
        "concurrent_requests": CONCURRENT,
        "origins": ["https://app.example"],
    }
    house = House(tmp_path_factory.mktemp("small"), 1, http=options, timeouts={"stall_s": STALL_S})
    yield house
    assert house.daemon.discard() == []


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    metrics = {"address": f"tcp://127.0.0.1:{free_port()}"}
    house = House(tmp_path_factory.mktemp("pair"), 2, metrics=metrics)
    yield house
    assert house.daemon.discard() == []
