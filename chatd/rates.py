"""A rate: how much may be done at once, and how fast that comes back.

Owns: Rate, the one kind of rate limit for what clients ask for: a budget that is used up and earned back.
Elsewhere: whose budget it is (core.allowances for users, net.connection for the echo wire), and refusing.
Fails: never.

What is left is a number that its owner keeps, so that a check costs one subtraction. Once a second it is topped up.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Rate(NamedTuple):
    """budget: what may be used at once. per_s: what comes back in a second, up to the budget."""

    budget: float
    per_s: float

    def topped_up(self, left: float) -> float:
        """What is left a second later. Also brings down what is left from a larger budget."""
        return min(self.budget, left + self.per_s)

    def earned_back(self, spent: int) -> int:
        """The same for an owner that keeps what is spent."""
        return int(max(0, min(spent, self.budget) - self.per_s))

    def wait_s(self, left: float, cost: float) -> int:
        """Seconds until `cost` can be paid, at least 1."""
        return max(1, math.ceil((min(cost, self.budget) - left) / self.per_s))


UNLIMITED = Rate(1 << 60, 1 << 60)


def averaged(amount: float, unit_s: float, over_s: float) -> Rate:
    """`amount` per `unit_s` seconds, averaged over `over_s` seconds: as much as belongs to that time may be used at
    once. amount 0: unlimited."""
    return Rate(amount * over_s / unit_s, amount / unit_s) if amount else UNLIMITED
