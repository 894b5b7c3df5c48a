"""What the master knows of its workers, as one program hands it to the next: nothing is left out."""

from __future__ import annotations

import dataclasses

import msgspec

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
