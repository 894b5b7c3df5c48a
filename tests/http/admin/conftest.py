"""A daemon for each module of tests, with two workers in which each guard can be switched off, and two administrators
who are logged in there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.http.admin.operator import AdminHouse, Operator


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminHouse]:
    house = AdminHouse(tmp_path_factory.mktemp("admin"))
    yield house
    assert house.daemon.discard() == []


@pytest.fixture(scope="module")
def admin(house: AdminHouse) -> Operator:
    return house.operator()


@pytest.fixture(scope="module")
def reader(house: AdminHouse) -> Operator:
    return house.operator("read")
