"""Looking in the store at intervals for changes that nobody has told this worker about.

Owns: when it is looked at; one look is under way at a time.
Elsewhere: what is looked for, and what follows from a change (the users of StoreWatch).
Fails: never. A look that the store does not answer is made again at the next interval.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chatd.core.services import Services
from chatd.errors import Unavailable

Look = Callable[[], Awaitable[None]]
"""Raises Unavailable when the store does not answer."""


class StoreWatch:
    def __init__(self, services: Services, every_s: float, look: Look) -> None:
        self._loop = services.loop
        self._background = services.background
        self._every_s = every_s
        self._look = look
        self._looking = False
        self._look_at = 0.0
        """By the loop's clock."""

    def tick(self) -> None:
        """About twenty times a second."""
        now = self._loop.time()
        if not self._looking and now >= self._look_at:
            self._look_at = now + self._every_s
            self._looking = True
            self._background.start(self._run())

    def again(self) -> None:
        """Look at the next tick: there is more."""
        self._look_at = 0.0

    async def _run(self) -> None:
        try:
            await self._look()
        except Unavailable:
            return
        finally:
            self._looking = False
