"""The local bus: the contract, and what only it has (links, queues, sockets in a directory)."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.bus.local import LocalBus
from chatd.bus.peer import Limits
from tests.bus.contract import BusContract

QUICK = Limits(ping_s=0.2, silent_s=0.8)


class LocalPlace:
    def __init__(self, directory: Path, limits: Limits = QUICK) -> None:
        self.directory = directory
        self.limits = limits
        self.arguments = ["local", str(directory), str(limits.ping_s), str(limits.silent_s), str(limits.queue_bytes)]

    def bus(self, slot: int) -> LocalBus:
        return LocalBus(self.directory / "bus", self.directory / "claims", slot, self.limits)


@pytest.fixture
def place(tmp_path: Path) -> LocalPlace:
    return LocalPlace(tmp_path)


class TestContract(BusContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> LocalPlace:
        return LocalPlace(tmp_path)
