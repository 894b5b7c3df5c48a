"""Lists of numbers, as they are written in a statement.

Owns: their syntax. Elsewhere: the statements (all other modules of store.mysql). Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterable


def number_list(numbers: Iterable[int]) -> bytes:
    """1,2,3"""
    return b",".join(b"%d" % number for number in numbers)


def pair_list(pairs: Iterable[tuple[int, int]]) -> bytes:
    """(1,2),(3,4)"""
    return b",".join(b"(%d,%d)" % pair for pair in pairs)
