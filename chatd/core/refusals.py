"""Counting what clients are refused, by the code.

Owns: which number of the scoreboard a code belongs to.
Elsewhere: refusing (core.dispatcher, core.messages, net), the codes (errors), the number (tallies.REFUSALS).
Fails: never.
"""

from __future__ import annotations

from chatd.errors import ErrorCode
from chatd.scoreboard import Row
from chatd.tallies import PLUG_IN, REFUSALS

_CELLS: dict[int, str] = {int(code): REFUSALS.cell(code.name.lower()) for code in ErrorCode}
_OF_A_PLUGIN = REFUSALS.cell(PLUG_IN)


def count(row: Row, code: int) -> None:
    """A client is told this code: an ErrorCode, or a plug-in's own."""
    row.add(_CELLS.get(code, _OF_A_PLUGIN))
