"""The states, and the way from one to another."""

from __future__ import annotations

import itertools

import pytest

from chatd_client.state import TRANSITIONS, State, StateMachine

WAY_TO = {
    State.CONNECTING: (),
    State.LIVE: (State.LIVE,),
    State.WAITING: (State.WAITING,),
    State.CLOSED: (State.CLOSED,),
}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(State, State)))
def test_only_the_transitions_of_the_table_happen_and_each_is_told_once(old: State, new: State) -> None:
    told: list[tuple[State, str]] = []
    machine = StateMachine(lambda state, why: told.append((state, why)))
    for state in WAY_TO[old]:
        machine.enter(state)
    told.clear()
    if new in TRANSITIONS[old]:
        machine.enter(new, "why")
        assert told == [(new, "why")]
    elif new is old or old is State.CLOSED:
        machine.enter(new)
        assert told == []
    else:
        with pytest.raises(AssertionError):
            machine.enter(new)
