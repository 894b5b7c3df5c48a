"""How often an address that is nobody's session is answered.

Owns: one second's count of answers by address, in bounded memory.
Fails: never. Over the limits nobody is answered until the second is over; clients ask again by themselves.
"""

from __future__ import annotations

from collections.abc import Hashable

ANSWERS_PER_S = 5
"""To one address: logins, echoes and refusals. A client that has lost its session asks once or twice a second."""
ADDRESSES_PER_S = 20_000


class Strangers:
    def __init__(self) -> None:
        self._answers: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def allow(self, address: Hashable) -> bool:
        """Whether this address may be answered once more now; counts that answer."""
        before = self._answers.get(address, 0)
        if before >= ANSWERS_PER_S or (not before and len(self._answers) >= ADDRESSES_PER_S):
            return False
        self._answers[address] = before + 1
        return True

    def next_second(self) -> None:
        self._answers.clear()
