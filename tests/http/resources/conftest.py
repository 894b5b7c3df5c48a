"""One daemon with two workers for each kind of store, for all tests of the resources; and its OpenAPI document."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from chatd.api_keys import SCOPES
from tests.harness.api import Api, make_keys, path_of
from tests.harness.daemon import Daemon
from tests.harness.mariadb import MariaDB
from tests.harness.phone import Phone

SECRET = "first-secret-1"
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In one process, which has the daemons."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("http resources"))


class Server:
    """daemon: with two workers. api: with a key for everything. keys: by name; one key has each scope alone."""

    def __init__(self, daemon: Daemon, stack: ExitStack) -> None:
        self.daemon = daemon
        self.keys = make_keys(daemon, all=",".join(SCOPES), **{scope.replace(":", "_"): scope for scope in SCOPES})
        daemon.start()
        self.connections = stack
        """Of the present test."""
        self.api = self.another()

    def another(self, key: str = "all") -> Api:
        """Over a connection of its own, which may be with the other worker."""
        return self.connections.enter_context(closing(Api(self.daemon.ports["http"], self.keys[key])))

    def user(self, like: str = "user") -> str:
        """A new user with the password SECRET, whose name begins so; the name."""
        name = f"{like}{next(_numbers)}"
        assert self.api.put(path_of("users", name), {"password": SECRET}).status == 200
        return name

    def phone(self, name: str, secret: str = SECRET) -> Phone:
        """A client, which may be with either worker."""
        return self.connections.enter_context(closing(Phone(self.daemon.ports["mobileimsdk"], name, secret)))

    def on_both_workers(self) -> dict[int, tuple[str, Phone]]:
        """By worker, a user who is logged in there."""
        found: dict[int, tuple[str, Phone]] = {}
        while len(found) < 2:
            name = self.user("placed")
            phone = self.phone(name)
            (session,) = self.api.get(path_of("users", name, "sessions")).body["sessions"]
            found.setdefault(session["worker"], (name, phone))
        return found

    def trail(self, event: str) -> list[dict[str, object]]:
        return [one for one in self.daemon.records() if one.get("security") == event]


S = TypeVar("S", bound=Server)


def make_server(
    root: Path,
    stack: ExitStack,
    arrays: dict[str, list[dict[str, Any]]] | None = None,
    kind: type[S] = Server,  # type: ignore[assignment]
    **options: dict[str, object],
) -> S:
    """arrays: sections of the configuration that may be written more than once."""
    daemon = Daemon(root, workers=2, api=True, **options)
    daemon.config.update(arrays or {})
    daemon.write_config()
    stack.callback(lambda: _check(daemon))
    return kind(daemon, stack)


def _check(daemon: Daemon) -> None:
    complaints = daemon.discard()
    assert not complaints, complaints


@contextmanager
def _serving(root: Path, **store: dict[str, object]) -> Iterator[Server]:
    options = {"accounts": {"number_names": True}, "http": {"mobileimsdk_demo": True}, **store}
    with ExitStack() as stack:
        yield make_server(root, stack, **options)


@pytest.fixture(scope="session")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For what does not depend on the store, and keeps no connection."""
    with _serving(tmp_path_factory.mktemp("api")) as made:
        yield made


@pytest.fixture(scope="session")
def on_mysql(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB) -> Iterator[Server]:
    """It ends before its database does."""
    with _serving(tmp_path_factory.mktemp("api"), store={"url": mariadb.url()}) as made:
        yield made


@pytest.fixture(params=["sqlite", "mysql"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    found: Server = request.getfixturevalue(f"on_{request.param}")
    with ExitStack() as found.connections:
        yield found


@pytest.fixture
def on_one(on_sqlite: Server) -> Iterator[Server]:
    """For what does not depend on the store."""
    with ExitStack() as on_sqlite.connections:
        yield on_sqlite


@pytest.fixture(scope="session")
def document(on_sqlite: Server) -> Any:
    """/openapi.json, not to be changed."""
    return on_sqlite.api.get("/openapi.json").body
