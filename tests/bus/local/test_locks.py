"""Marks of two holders in one process; races and deaths of processes are in the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.bus.local.locks import LocalLocks
from chatd.errors import Unavailable


def test_many_marks_each_its_own(tmp_path: Path) -> None:
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


def test_another_opening_of_the_same_file_frees_nothing(tmp_path: Path) -> None:
    first, second = LocalLocks(tmp_path), LocalLocks(tmp_path)
    assert first.take(3)
    for path in tmp_path.iterdir():
        path.read_bytes()  # opens and closes it in this process
    assert not second.take(3)
    first.close()
    second.close()
