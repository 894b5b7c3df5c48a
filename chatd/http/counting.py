"""Counting what the HTTP API answers, by the status.

Owns: which numbers of the scoreboard an answer belongs to.
Elsewhere: answering (http.dispatch, http.application, http.parser), the numbers (counters, tallies.HTTP_REQUESTS).
Fails: never.
"""

from __future__ import annotations

from chatd.scoreboard import Row
from chatd.tallies import HTTP_REQUESTS, HTTP_STATUSES, OTHER_STATUS

_CELLS: dict[int, str] = {int(status): HTTP_REQUESTS.cell(status) for status in HTTP_STATUSES}
_OTHER = HTTP_REQUESTS.cell(OTHER_STATUS)


def count(row: Row, status: int) -> None:
    """A request is answered with this status. Costs less than a microsecond."""
    row.add(_CELLS.get(status, _OTHER))
    row.http_requests += 1
    if status >= 500:
        row.http_server_errors += 1
    elif status >= 400:
        row.http_client_errors += 1
