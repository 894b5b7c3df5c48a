"""A bus is opened once and closed for good."""

from __future__ import annotations

import pytest

from chatd.bus.lifecycle import BusState, Lifecycle


def test_a_bus_is_open_between_joining_and_closing() -> None:
    lifecycle = Lifecycle()
    seen = []
    for state in (BusState.JOINING, BusState.OPEN, BusState.CLOSED, BusState.CLOSED):
        lifecycle.become(state)
        seen.append((lifecycle.is_open, lifecycle.is_closed))
    assert seen == [(False, False), (True, False), (False, True), (False, True)]


@pytest.mark.parametrize("state", [BusState.NEW, BusState.JOINING, BusState.OPEN])
def test_a_closed_bus_is_never_opened_again(state: BusState) -> None:
    lifecycle = Lifecycle()
    lifecycle.become(BusState.CLOSED)
    with pytest.raises(AssertionError, match=f"CLOSED -> {state.name}"):
        lifecycle.become(state)
    assert lifecycle.is_closed
