"""Figures read out of the journals of an ordeal: how long an answer took, how soon was caught up, who was told what.

Every figure comes with the N it was found in. Times are CLOCK_MONOTONIC nanoseconds, as in the journals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from tests.harness.journal import Line


class Longest(NamedTuple):
    """The longest of `count` times."""

    seconds: float
    count: int

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, N = {self.count}"


def longest_answer(lines: Iterable[Line], since: int = 0, before: int = 1 << 62) -> Longest:
    """From a send (since <= its time < before) to the first answer to it, acknowledgement or refusal, on the same
    connection. A send whose connection was lost has no answer and does not count."""
    asked: dict[tuple[str, int, str], list[int]] = defaultdict(list)
    longest, count = 0, 0
    for line in lines:
        key = line.user, line.conn, line.id
        if line.event == "send":
            if since <= line.at < before:
                asked[key].append(line.at)
        elif line.event in ("ok", "refused") and (times := asked.pop(key, None)):
            count += len(times)
            longest = max(longest, line.at - times[0])
    return Longest(longest / 1e9, count)


def unanswered_for(lines: Iterable[Line], limit_s: float) -> list[str]:
    """Sends without any answer for so long although their connection was there all the time. Of those wires that
    acknowledge: who was never told anything does not count."""
    lines = list(lines)
    told = {line.user for line in lines if line.event == "ok"}
    sent: dict[tuple[str, int, str], int] = {}
    found = []

    def check(key: tuple[str, int, str], now: int) -> None:
        if now - sent[key] > limit_s * 1e9:
            found.append(f"{key[0]} {key[2]}: {(now - sent[key]) / 1e9:.2f} s")

    for line in lines:
        key = line.user, line.conn, line.id
        if line.event == "send" and line.user in told:
            sent.setdefault(key, line.at)
        elif line.event in ("ok", "refused") and key in sent:
            check(key, line.at)
            del sent[key]
        elif line.event == "close":
            for key in [key for key in sent if key[1] == line.conn]:
                check(key, line.at)
                del sent[key]
    return found


def caught_up(lines: Iterable[Line], since: int, back_at: int) -> Longest:
    """Of what was acknowledged from `since` until `back_at` and arrived after it: how long after it, at most, to a
    recipient whose connection was there before and did not change. Old clients do not count: they are given one frame
    after the other at their pace."""
    acknowledged: set[str] = set()
    paced: set[int] = set()
    there: dict[int, str] = {}
    arrived: set[tuple[str, str]] = set()
    longest, count = 0, 0
    for line in lines:
        if line.event == "ok" and since <= line.at < back_at:
            acknowledged.add(line.id)
        elif line.event == "connect" and not line.dedupe:
            paced.add(line.conn)
        elif line.event == "login" and line.at < back_at and line.conn not in paced:
            there[line.conn] = line.user
        elif line.event == "close":
            there.pop(line.conn, None)
        elif line.event == "receive" and (line.user, line.id) not in arrived:
            arrived.add((line.user, line.id))
            if line.at >= back_at and line.id in acknowledged and line.conn in there:
                count += 1
                longest = max(longest, line.at - back_at)
    return Longest(longest / 1e9, count)


def present(lines: Iterable[Line]) -> dict[str, list[tuple[int, int]]]:
    """Per user, from when to when they were logged in (0: still are)."""
    of_connection: dict[int, tuple[str, int]] = {}
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for line in lines:
        if line.event == "login":
            of_connection[line.conn] = line.user, line.at
        elif line.event == "close" and line.conn in of_connection:
            user, login_at = of_connection.pop(line.conn)
            found[user].append((login_at, line.at))
    for user, login_at in of_connection.values():
        found[user].append((login_at, 0))
    return found
