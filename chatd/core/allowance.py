"""What one user may still do, and what things cost.

Owns: Allowance and Cost.
Elsewhere: making allowances, topping them up, refusing (core.allowances); the costs of commands (core.core) and of
operations (core.requests).
Fails: never.
"""

from __future__ import annotations

from typing import NamedTuple


class Cost(NamedTuple):
    """commands: of limits.commands_per_s; a message costs 1, a request for which the server does as much as for several
    messages costs several. changes: of limits.changes_per_hour."""

    commands: int = 1
    changes: int = 0


_NEVER = float("-inf")


class Allowance:
    """commands, recipients, changes: what the user has left of each rate. Only core.allowances tops them up.
    recorded_at: when a refusal was last recorded, on the loop's clock."""

    __slots__ = ("changes", "commands", "recipients", "recorded_at")

    def __init__(self, commands: float, recipients: float, changes: float) -> None:
        self.commands = commands
        self.recipients = recipients
        self.changes = changes
        self.recorded_at = _NEVER


FREE = Cost(0)
MESSAGE = Cost(1)
LIST = Cost(4)
"""Reading a page of history, of members or of friends."""
SYNC = Cost(8)
"""Reading many conversations."""
LOGIN_AGAIN = Cost(4)
WRITE = Cost(2)
"""Changing something that only the user sees."""
CHANGE = Cost(2, 1)
INVITE = Cost(2, 1)
JOIN = Cost(2, 3)
ASK_FRIEND = Cost(2, 6)
CREATE_GROUP = Cost(2, 10)
UNLIMITED_ALLOWANCE = Allowance(float("inf"), float("inf"), float("inf"))
"""Of a session that core.sessions.login has not given its user's. Infinity stays, whatever is taken from it."""
