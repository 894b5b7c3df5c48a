"""A rate limiter for answers to addresses that have no session.

Owns: the number of answers to each address in the current second, in bounded memory.
Elsewhere: what is answered (net.udp), the rate limit of a session's commands (net.connections).
Fails: never. Over a limit nothing is answered until the second is over; clients repeat their requests.
"""

from __future__ import annotations

from collections.abc import Hashable

ANSWERS_PER_S = 5
"""Maximum answers to one address per second: to logins, echoes and refusals. A client that has lost its session asks
once or twice a second."""
ADDRESSES_PER_S = 20_000
"""Maximum addresses answered in one second; bounds the memory."""


class AnswerLimiter:
    def __init__(self) -> None:
        self._answers: dict[Hashable, int] = {}

    def __len__(self) -> int:
        """Addresses answered in this second."""
        return len(self._answers)

    def allow(self, address: Hashable) -> bool:
        """Whether this address may be given one more answer now; if so, counts it."""
        before = self._answers.get(address, 0)
        if before >= ANSWERS_PER_S or (not before and len(self._answers) >= ADDRESSES_PER_S):
            return False
        self._answers[address] = before + 1
        return True

    def next_second(self) -> None:
        """To be called once a second."""
        self._answers.clear()
