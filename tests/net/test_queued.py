"""What is queued is replaced where it stands, and it is known by how much everything behind it has moved."""

from __future__ import annotations

from collections import deque

from chatd.net.queued import replace_queued


def test_the_entry_that_ends_there_is_replaced_and_its_copies_too() -> None:
    first, second = [b"one", b"secret"], deque([b"two", b"secret", b"three"])
    moved = replace_queued((first, second), 100, 109, b"gone")
    assert (first, list(second)) == ([b"one", b"gone"], [b"two", b"gone", b"three"])
    assert moved == [(109, -2), (118, -2)]


def test_where_no_entry_ends_nothing_is_replaced() -> None:
    for end in (100, 101, 104, 110):
        queue = [b"one", b"three"]
        assert replace_queued((queue,), 100, end, b"x") == []
        assert queue == [b"one", b"three"]


def test_nothing_is_queued() -> None:
    assert replace_queued((), 100, 100, b"x") == []
