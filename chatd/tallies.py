"""Numbers of the scoreboard that belong together: counters by code, numbers by wire, and histograms of durations.

Owns: their declaration, and the names of their cells.
Elsewhere: the cells (scoreboard), counting (core.figures, core.refusals, net), showing (master.metrics).
Fails: ValueError for a value that is not declared.

Every cell is an ordinary number of the scoreboard, and so keeps its place over an upgrade. The name of a histogram's
cell has its bound, so that other bounds are other cells.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from chatd.errors import ErrorCode

PLUG_IN = "plug_in"
"""Instead of a code: a plug-in refused with a code of its own."""
WIRES = ("chatserver", "mobileimsdk", "echo", "http")


class Tally(NamedTuple):
    """One number for each of some values.

    name: of all together. meaning: of one. label: what the values are. counts: they only grow, while a worker lives.
    """

    name: str
    meaning: str
    label: str
    values: tuple[str, ...]
    counts: bool = True

    def cell(self, value: str) -> str:
        """The name of the number. Raises ValueError."""
        if value not in self.values:
            raise ValueError(f"{self.name} has no {self.label} {value}")
        return f"{self.name}_{value}"


class Histogram(NamedTuple):
    """Durations, counted in buckets. bounds_us: the largest duration of each bucket but the last, ascending."""

    name: str
    meaning: str
    bounds_us: tuple[int, ...]

    @property
    def buckets(self) -> tuple[str, ...]:
        """The names of the numbers, each of one bucket alone; the last is of all that took longer."""
        return (*(f"{self.name}_to_{bound}_us" for bound in self.bounds_us), f"{self.name}_longer")

    @property
    def sum(self) -> str:
        """The name of the number that adds up all durations, in microseconds."""
        return f"{self.name}_sum_us"

    def sorted(self, durations_us: Iterable[float]) -> dict[str, int]:
        """What each number grows by."""
        buckets = self.buckets
        grown: dict[str, int] = {}
        total = 0.0
        for duration_us in durations_us:
            name = buckets[bisect_left(self.bounds_us, duration_us)]
            grown[name] = grown.get(name, 0) + 1
            total += duration_us
        if grown:
            grown[self.sum] = round(total)
        return grown


CONNECTIONS = Tally("connections_by_wire", "open connections, UDP peers included", "wire", WIRES, counts=False)
SESSIONS = Tally("sessions_by_wire", "users logged in", "wire", WIRES, counts=False)
REFUSALS = Tally(
    "refusals",
    "commands and messages of clients that were refused",
    "code",
    (*(code.name.lower() for code in ErrorCode), PLUG_IN),
)
HTTP_STATUSES = (
    *("200", "201", "204", "400", "401", "403", "404", "405", "408", "409", "413", "415", "422", "429", "431"),
    *("500", "501", "503"),
)
"""Those that the API answers with, each counted alone."""
OTHER_STATUS = "other"
HTTP_REQUESTS = Tally(
    "http_requests_by_status",
    "requests to the HTTP API answered, by the status of the answer; pages, and what a page of another origin may ask "
    "for, are not counted",
    "code",
    (*HTTP_STATUSES, OTHER_STATUS),
)
COMMIT = Histogram(
    "commit",
    "duration of a commit of the store, of many operations at once",
    (500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000),
)
DELIVERY_DELAY = Histogram(
    "delivery_delay",
    "from the time stamp of a message, made as its commit begins, until it is written to a recipient who is online; "
    "a sample of the messages",
    (1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000),
)

TALLIES = (CONNECTIONS, SESSIONS, REFUSALS, HTTP_REQUESTS)
HISTOGRAMS = (COMMIT, DELIVERY_DELAY)
