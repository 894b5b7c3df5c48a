"""What `chatctl top` shows, as lines of text.

Owns: the lines, which fit into the size of the terminal, from 80x24 on.
Elsewhere: the figures (chatctl.show.rates), the terminal (chatctl.show.top_screen).
Fails: never.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

from chatd.chatctl.render import duration, size
from chatd.chatctl.show.rates import ServerRates, WorkerRates
from chatd.chatctl.show.server import count

LEAST_COLUMNS, LEAST_LINES = 80, 24
"""A smaller terminal shows the beginning of what fits into this."""
KEYS = "q quit  s/S sort  r reverse  p pause  +/- interval  ? help"
HELP = (
    "Keys:",
    "  q, Ctrl-C   quit",
    "  s, S        sort by the next column, by the one before",
    "  r           reverse the order",
    "  p, space    pause, go on",
    "  +, -        twice as often, half as often",
    "  ?, h        this help; any key ends it",
    "",
    "IN/s, OUT/s   messages accepted from clients, and given to clients",
    "REF/s         connections, logins, commands and messages that were refused",
    "COM/ms        99th percentile of the commits in the last 10 s",
    "LAG/ms        largest delay of the event loop in the last 10 s",
    "QUEUE         bytes waiting for clients; QMSG: messages waiting for the store",
)


class Column(NamedTuple):
    """of: the value that is sorted by. show: its text."""

    heading: str
    width: int
    of: Callable[[WorkerRates], Any]
    show: Callable[[WorkerRates], str]


def _column(heading: str, width: int, name: str, show: Callable[[Any], str] = str) -> Column:
    return Column(heading, width, lambda one: getattr(one, name), lambda one: show(getattr(one, name)))


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


COLUMNS: dict[str, Column] = {
    "slot": _column("SLOT", 4, "slot"),
    "pid": _column("PID", 7, "pid"),
    "state": _column("STATE", 8, "state"),
    "connections": _column("CONNS", 6, "connections", count),
    "sessions": _column("SESS", 5, "sessions", count),
    "in": _column("IN/s", 6, "in_per_s", count),
    "out": _column("OUT/s", 6, "out_per_s", count),
    "refused": _column("REF/s", 5, "refused_per_s", count),
    "commit": _column("COM/ms", 6, "commit_p99_ms", _ms),
    "lag": _column("LAG/ms", 6, "loop_lag_ms", _ms),
    "queue": _column("QUEUE", 6, "queue_bytes", size),
    "cpu": _column("CPU%", 4, "cpu_percent", lambda value: f"{value:.0f}"),
}
"""With a space between them they are LEAST_COLUMNS wide."""


class View(NamedTuple):
    """How it is shown. sort: a key of COLUMNS."""

    sort: str = "slot"
    descending: bool = False
    is_paused: bool = False
    interval_s: float = 1.0
    columns: int = LEAST_COLUMNS
    lines: int = LEAST_LINES


def lines_of(rates: ServerRates, view: View) -> list[str]:
    """At most view.lines lines of at most view.columns columns."""
    head = _head(rates, view)
    shown = sorted(rates.workers, key=lambda one: (COLUMNS[view.sort].of(one), one.slot), reverse=view.descending)
    room = view.lines - len(head) - 3  # headings, the line before the keys, the keys
    rows = [_row(one) for one in shown[: max(1, room)]]
    if len(shown) > len(rows):
        rows[-1] = f"… {len(shown) - len(rows) + 1} more workers: enlarge the terminal, or sort"
    body = [*head, _headings(view), *rows]
    body = body[: view.lines - 1]
    body += [""] * (view.lines - 1 - len(body))
    paused = "PAUSED  " if view.is_paused else ""
    return [line[: view.columns] for line in [*body, paused + KEYS]]


def _head(rates: ServerRates, view: View) -> list[str]:
    up = duration(rates.uptime_s)
    ready = f"{rates.workers_ready} of {rates.workers_wanted} workers ready"
    lines = [
        f"chatd {rates.version}  {rates.state}  up {up}  {ready}  every {view.interval_s:g} s",
        f"sessions {count(rates.sessions)}  connections {count(rates.connections)}  waiting {rates.waiting}  "
        f"logins/s {count(rates.logins_per_s)}  refused/s {count(rates.refused_per_s)}",
        f"messages in/s {count(rates.in_per_s)}  out/s {count(rates.out_per_s)}  errors/s {count(rates.errors_per_s)}",
        f"commit p99 {_ms(rates.commit_p99_ms)} ms  loop lag {_ms(rates.loop_lag_ms)} ms  "
        f"bus {_ms(rates.bus_round_trip_ms)} ms  queue {size(rates.queue_bytes)}, {rates.queue_messages} messages",
    ]
    return [*lines, *_problems(rates, view), ""]


def _problems(rates: ServerRates, view: View) -> list[str]:
    """As many as leave room for at least some workers."""
    most = max(1, view.lines // 4)
    lines: list[str] = []
    for text in rates.problems:
        lines += textwrap.wrap(text, view.columns - 2, initial_indent="! ", subsequent_indent="  ")
    if len(lines) > most:
        lines = [*lines[: most - 1], f"  … {len(rates.problems)} problems: chatctl check"]
    return lines


def _headings(view: View) -> str:
    mark = "▼" if view.descending else "▲"
    words = []
    for name, column in COLUMNS.items():
        heading = column.heading
        if name == view.sort:
            heading = f"{heading[: column.width - 1]}{mark}"
        words.append(heading.rjust(column.width))
    return " ".join(words)


def _row(one: WorkerRates) -> str:
    return " ".join(column.show(one)[: column.width].rjust(column.width) for column in COLUMNS.values())
