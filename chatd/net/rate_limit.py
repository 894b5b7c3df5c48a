"""A rate limiter for answers to addresses that have no session.

Owns: the numbers of answers to each address, and of its datagrams, in the current second, in bounded memory.
Elsewhere: what is answered (net.udp), the rate limit of a session's commands (net.connections).
Fails: never. Over a limit nothing is answered until the second is over; clients repeat their requests.
"""

from __future__ import annotations

from collections.abc import Hashable

ANSWERS_PER_S = 5
"""Maximum answers to one address per second: to logins, echoes and refusals. A client that has lost its session asks
once or twice a second."""
REFUSALS_PER_S = 2
"""Of these, answers that say that the address has no session: the rest is left for the logins that follow. A client
with many messages under way would otherwise use up the answers with them, and could not log in."""
DATAGRAMS_PER_S = 32
"""Maximum datagrams of one address that are looked at per second."""
ADDRESSES_PER_S = 20_000
"""Maximum addresses answered in one second; bounds the memory."""


class AnswerLimiter:
    def __init__(self) -> None:
        self._answers: dict[Hashable, int] = {}
        self._datagrams: dict[Hashable, int] = {}

    def __len__(self) -> int:
        """Addresses answered in this second."""
        return len(self._answers)

    def look(self, address: Hashable) -> bool:
        """Whether one more datagram of this address may be looked at now; if so, counts it."""
        before = self._datagrams.get(address, 0)
        if before >= DATAGRAMS_PER_S or (not before and len(self._datagrams) >= ADDRESSES_PER_S):
            return False
        self._datagrams[address] = before + 1
        return True

    def allow(self, address: Hashable, most: int = ANSWERS_PER_S) -> bool:
        """Whether this address may be given one more answer now, if it has had fewer than `most`; if so, counts it."""
        before = self._answers.get(address, 0)
        if before >= most or (not before and len(self._answers) >= ADDRESSES_PER_S):
            return False
        self._answers[address] = before + 1
        return True

    def next_second(self) -> None:
        """To be called once a second."""
        self._answers.clear()
        self._datagrams.clear()
