"""What the store must know of the configuration to accept a message.

Owns: CurrentRules, which makes them from the configuration in force.
Elsewhere: what they mean (store.contract.SendingRules).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Callable

from chatd.config.schema import Config
from chatd.core.consent import default_of
from chatd.store.contract import ANYTHING, Purpose, SendingRules


class CurrentRules:
    """Called in the store thread alone, for every batch: they are made anew only for a new configuration."""

    __slots__ = ("_config", "_known", "_made_for")

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config
        self._made_for: Config | None = None
        self._known = ANYTHING

    def __call__(self) -> SendingRules:
        config = self._config()
        if self._made_for is not config:
            self._known = SendingRules(
                may_write=default_of(config, Purpose.WRITE),
                waiting_from_one=config.limits.waiting_from_one,
                waiting=config.limits.waiting,
            )
            self._made_for = config
        return self._known
