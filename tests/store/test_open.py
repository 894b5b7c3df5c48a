"""Opening a store: what an address means, what is created, and what a missing or broken mysqlclient is told as."""

from __future__ import annotations

import contextlib
import importlib.abc
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

import chatd.store
from chatd.errors import BootError, Exit
from chatd.store.open import StoreLocation, locate, open_dump, open_readers, open_tables, same_store
from tests.harness.mariadb import MariaDB

LIMIT_S = 5.0
NOWHERE = "mysql://u:secret@127.0.0.1:1/d"


@pytest.fixture(params=["no file", "an empty file", "an empty database"])
def missing(request: pytest.FixtureRequest, tmp_path: Path, mariadb: MariaDB) -> StoreLocation:
    if request.param == "an empty database":
        return locate(mariadb.url(), "/")
    if request.param == "an empty file":
        (tmp_path / "chatd.db").touch()
    return locate("sqlite:chatd.db", str(tmp_path))


def test_a_missing_store_is_not_created_unless_that_is_wanted(missing: StoreLocation) -> None:
    for opening in (
        lambda: open_tables(missing, LIMIT_S, create=False),
        lambda: open_dump(missing, create=False),
    ):
        with pytest.raises(BootError, match="does not exist") as caught:
            opening()
        assert caught.value.exit_code is Exit.UNAVAILABLE
        assert str(missing) in str(caught.value)
    open_tables(missing, LIMIT_S, create=True).close()
    with contextlib.closing(open_tables(missing, LIMIT_S, create=False)) as tables:
        assert tables.accounts.all() == []


def test_looking_for_a_missing_file_creates_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with pytest.raises(BootError, match="does not exist"):
        open_tables(locate("sqlite:chatd.db", str(folder)), LIMIT_S, create=False)
    assert not folder.exists()
    folder.mkdir()
    with pytest.raises(BootError, match="does not exist"):
        open_dump(locate("sqlite:chatd.db", str(folder)), create=False)
    assert list(folder.iterdir()) == []
    (folder / "chatd.db").touch()
    with pytest.raises(BootError, match="the file is empty"):
        open_tables(locate("sqlite:chatd.db", str(folder)), LIMIT_S, create=False)
    assert [(one.name, one.stat().st_size) for one in folder.iterdir()] == [("chatd.db", 0)]


def test_an_address_is_a_file_or_a_database() -> None:
    assert str(locate("sqlite:chatd.db", "/var/lib/chatd")) == "sqlite:/var/lib/chatd/chatd.db"
    assert str(locate("sqlite:/elsewhere/x.db", "/var/lib/chatd")) == "sqlite:/elsewhere/x.db"
    assert "secret" not in f"{locate(NOWHERE, '/')}"
    for url, text in (
        ("sqlite:", "needs a file name"),
        ("redis://x", "unknown kind of store"),
        ("mysql://", "mysql://"),
    ):
        with pytest.raises(BootError, match=text) as caught:
            locate(url, "/")
        assert caught.value.exit_code is Exit.CONFIG


def test_the_same_store_under_two_addresses(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("chatd.db")
    here = str(tmp_path)
    assert same_store(locate("sqlite:chatd.db", here), locate("sqlite:link.db", here))
    assert not same_store(locate("sqlite:chatd.db", here), locate("sqlite:other.db", here))
    assert same_store(locate(NOWHERE, here), locate(NOWHERE.replace("u:secret", "v"), here))
    assert not same_store(locate(NOWHERE, here), locate("sqlite:chatd.db", here))


# ---------------------------------------------------------------- mysqlclient


class _Finder(importlib.abc.MetaPathFinder):
    """Finds `name` to be broken: importing it raises `error`."""

    def __init__(self, name: str, error: ImportError) -> None:
        self._name, self._error = name, error

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == self._name:
            raise self._error
        return None


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, ImportError], None]:
    def break_module(name: str, error: ImportError) -> None:
        for loaded in [one for one in sys.modules if one.startswith(("MySQLdb", "chatd.store.mysql"))]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.delattr(chatd.store, "mysql", raising=False)
        monkeypatch.setattr(sys, "meta_path", [_Finder(name, error), *sys.meta_path])

    return break_module


OPENING = [
    lambda: open_tables(locate(NOWHERE, "/"), LIMIT_S, create=True),
    lambda: open_readers(locate(NOWHERE, "/"), LIMIT_S, 1),
    lambda: open_dump(locate(NOWHERE, "/"), create=True),
]


@pytest.mark.parametrize("opening", OPENING)
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ModuleNotFoundError("No module named 'MySQLdb'", name="MySQLdb"), r"pip install 'chatd\[mysql\]'"),
        (ImportError("libmysqlclient.so.21: no such file", name="MySQLdb._mysql"), "cannot be loaded: libmysqlclient"),
    ],
)
def test_mysqlclient_missing_or_broken_is_told_in_one_line(
    broken: Callable[[str, ImportError], None], opening: Callable[[], object], error: ImportError, text: str
) -> None:
    broken("MySQLdb", error)
    with pytest.raises(BootError, match=text) as caught:
        opening()
    assert caught.value.exit_code is Exit.CONFIG


@pytest.mark.parametrize("opening", OPENING)
def test_an_import_error_of_our_own_is_not_taken_for_a_missing_mysqlclient(
    broken: Callable[[str, ImportError], None], opening: Callable[[], object]
) -> None:
    broken("chatd.store.mysql.schema", ImportError("cannot import name 'MIGRATIONS'", name="chatd.store.mysql.schema"))
    with pytest.raises(ImportError, match="MIGRATIONS"):
        opening()
