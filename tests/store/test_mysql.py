"""The store of a cluster on a real MariaDB: the contract, and what only a server has: addresses, limits, schema."""

from __future__ import annotations

import pytest

from chatd.address import parse_mysql
from chatd.store import mysql
from chatd.store.answers import SendKeys
from chatd.store.base import Tables
from tests.harness.mariadb import MariaDB
from tests.store.contract import StoreContract

LIMIT_S = 20.0
"""Generous: what is tested here is not how busy the machine is."""


class MysqlTwin:
    def __init__(self, server: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = server.url()
        self._monkeypatch = monkeypatch

    def open(self) -> Tables:
        return mysql.open_tables(parse_mysql(self.url), LIMIT_S)

    def collide(self) -> None:
        self._monkeypatch.setattr(SendKeys, "first", lambda self, sender, fp: sender << 32 | 0xFFFFFFFE)


class TestContract(StoreContract):
    @pytest.fixture
    def twin(self, mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> MysqlTwin:
        return MysqlTwin(mariadb, monkeypatch)
