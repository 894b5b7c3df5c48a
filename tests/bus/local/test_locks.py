"""Locks of two holders in one process; races and deaths of processes are in the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.bus.local.locks import LocalLocks
from chatd.errors import Unavailable


def test_locks_of_many_keys_are_independent(tmp_path: Path) -> None:
    first, second = LocalLocks(tmp_path), LocalLocks(tmp_path)
    keys = [*range(1000), (1 << 62) + 5]
    assert all(first.take(key) for key in keys[::2])
    assert [second.take(key) for key in keys] == [number % 2 == 1 for number in range(len(keys))]
    first.drop(0)
    assert second.take(0)
    assert not second.take(2)
    first.close()
    assert second.take(2)
    second.close()
    with pytest.raises(Unavailable):
        second.take(1)


def test_opening_and_closing_a_lock_file_elsewhere_releases_nothing(tmp_path: Path) -> None:
    first, second = LocalLocks(tmp_path), LocalLocks(tmp_path)
    assert first.take(3)
    for path in tmp_path.iterdir():
        path.read_bytes()  # opens and closes it in this process
    assert not second.take(3)
    first.close()
    second.close()
