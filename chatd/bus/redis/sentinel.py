"""Asking Redis Sentinels which server is the master.

Owns: the order in which sentinels are asked.
Elsewhere: connecting to the master (bus.redis.node).
Fails: Unavailable with the last reason if none of them knows a master.
"""

from __future__ import annotations

from chatd.bus.redis.connect import CONNECT_ERRORS, ask_once, why_of
from chatd.bus.redis.settings import RedisLimits, RedisServerAddress, RedisSettings
from chatd.errors import Unavailable


class Sentinels:
    def __init__(self, settings: RedisSettings, limits: RedisLimits) -> None:
        self._settings = settings
        self._limits = limits
        self._addresses = list(settings.addresses)
        """The one that answered last comes first."""

    async def find_master(self) -> RedisServerAddress:
        """Ask one sentinel after the other. Takes up to connect_s and answer_s for each that does not answer.

        Raises:
            Unavailable: none of them names a master.
        """
        why = "no sentinel answers"
        for sentinel in tuple(self._addresses):
            try:
                command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._settings.service)
                found = await ask_once(self._settings, self._limits, sentinel, self._settings.sentinel_login, *command)
            except CONNECT_ERRORS as error:
                why = f"sentinel {sentinel}: {why_of(error)}"
                continue
            if found is None:
                why = f"sentinel {sentinel} knows no {self._settings.service}"
                continue
            self._addresses.remove(sentinel)
            self._addresses.insert(0, sentinel)
            return RedisServerAddress(found[0].decode(), int(found[1]))
        raise Unavailable(why)
