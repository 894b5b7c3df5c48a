"""What the master knows of its workers, as one program hands it to the next: nothing is left out."""

from __future__ import annotations

import dataclasses
import fcntl
import os
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from chatd.config.schema import Config, LogOptions, PluginOptions
from chatd.errors import BootError
from chatd.master.upgrade import state as upgrade_state
from chatd.master.upgrade.execute import VARIABLE, take_over
from chatd.master.upgrade.state import MasterState, NotUnderstood
from chatd.master.upgrade.workers import SlotState, WorkerState
from chatd.master.worker_slot import Slot, WorkerProcess

NOT_HANDED_OVER = {
    "child": "its descriptors are",
    "born": "the configuration in force is; the worker is about to be replaced",
    "replaces": "an upgrade waits until no worker is being replaced",
    "successor": "an upgrade waits until no worker is being replaced",
    "adopted": "true of all",
}


def names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_all_that_is_known_of_a_worker_is_handed_over() -> None:
    handed_over = {field.name for field in msgspec.structs.fields(WorkerState)}
    assert handed_over - {"pid", "pidfd", "orders", "stacks"} == names(WorkerProcess) - NOT_HANDED_OVER.keys()


def test_all_that_is_known_of_a_slot_is_handed_over() -> None:
    assert {field.name for field in msgspec.structs.fields(SlotState)} == names(Slot) - {"row"}


def memory_file(data: bytes, seals: int) -> int:
    descriptor = os.memfd_create("upgrade", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, data)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


ALL = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@pytest.mark.parametrize(
    ("data", "seals", "why"),
    [
        (b'{"format": 1}', fcntl.F_SEAL_SHRINK, "not sealed"),
        (b'{"format": 2, "version": "9.9"}', ALL, "version 9.9 hands over in format 2"),
        (b'{"format": 1, "version": "9.9"}', ALL, "version 9.9 hands over something that this one does not know"),
        (b"nonsense", ALL, "does not know"),
    ],
)
def test_a_state_that_is_not_understood_is_refused(data: bytes, seals: int, why: str) -> None:
    descriptor = memory_file(data, seals)
    try:
        with pytest.raises(NotUnderstood, match=why):
            upgrade_state.read(descriptor)
    finally:
        os.close(descriptor)


def test_a_start_does_not_take_over_from_anybody() -> None:
    assert take_over({}) is None
    environment = {VARIABLE: "not a number"}
    assert take_over(environment) is None
    assert environment == {}
    descriptor = memory_file(b"nonsense", ALL)
    with pytest.raises(BootError, match="cannot take over"):
        take_over({VARIABLE: str(descriptor)})
    os.close(descriptor)


def test_options_come_and_go_between_versions() -> None:
    """Those of the earlier version that this one does not have are left out; new ones get their defaults."""
    running = Config(log=LogOptions(level="ERROR"), hook=(PluginOptions(name="echo"),))
    tree = msgspec.to_builtins(running)
    tree["log"]["gone"] = 1
    tree["hook"][0]["gone"] = True
    tree["gone"] = {"all": "of it"}
    del tree["limits"], tree["log"]["format"]
    assert config_in(tree) == running


def test_a_value_that_this_version_does_not_allow_is_refused() -> None:
    tree = msgspec.to_builtins(Config())
    tree["log"]["level"] = "LOUD"
    with pytest.raises(NotUnderstood, match="LOUD"):
        config_in(tree)


def config_in(tree: dict[str, Any]) -> Config:
    """What is made of the configuration in a state."""
    state = cast(MasterState, SimpleNamespace(config=msgspec.Raw(msgspec.json.encode(tree))))
    return upgrade_state.config_of(state)
