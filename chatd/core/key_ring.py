"""The keys of the HTTP API in one worker: knowing those of the store, and noticing when they change.

Owns: KeyRing: reading them before the first request, again when their version has changed, and writing down when they
were used.
Elsewhere: the form of a key (api_keys), the rows (store.api_key_contract), asking for a key and its scopes (http),
making and revoking keys (chatctl.keys).
Fails: read_first() raises Unavailable. Later, while the store does not answer, the keys stay as they were.

Every worker of every host looks at one row of the store each CHECK_S. So a key that is revoked stops working everywhere
within that time, also where the message bus does not reach.
"""

from __future__ import annotations

from hashlib import sha256

from chatd import wall_clock
from chatd.core.services import Services
from chatd.core.store_watch import StoreWatch
from chatd.errors import Unavailable
from chatd.store.contract import ApiKey, Tables

CHECK_S = 0.5
"""How often the store is asked whether the keys have changed: one row."""
USED_S = 60.0
"""How often the times of the last use are written."""


class KeyRing:
    """Does nothing until open() is called: a server without an HTTP listener needs no keys."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store
        self._keys: dict[str, ApiKey] = {}
        """By secret_hash; those that are revoked are left out."""
        self._version = -1
        """Of the keys that are known; -1 = they have not been read."""
        self._is_open = False
        self._watch = StoreWatch(services, CHECK_S, self._check)
        self._write_at = 0.0
        """By the loop's clock."""
        self._used: dict[int, int] = {}
        """Time of use (epoch, ms) by id, not written yet."""

    def open(self) -> None:
        """There is a listener for the API: from now on keys are read."""
        self._is_open = True

    async def read_first(self) -> None:
        """Before the first request, if there is a listener. Raises Unavailable."""
        if self._is_open:
            await self._read()

    def find(self, secret: bytes) -> ApiKey | None:
        """The valid key with this text. Costs about a microsecond."""
        key = self._keys.get(sha256(secret).hexdigest())
        now_ms = wall_clock.now_ms()
        if key is None or not key.valid(now_ms):
            return None
        self._used[key.id] = now_ms
        return key

    @property
    def is_known(self) -> bool:
        """Whether the keys have been read; before, nobody can be told that a key is wrong."""
        return self._version >= 0

    # ---------------------------------------------------------------- the clock

    def tick(self) -> None:
        """About twenty times a second."""
        if not self._is_open:
            return
        self._watch.tick()
        now = self._services.loop.time()
        if now >= self._write_at:
            self._write_at = now + USED_S
            self._services.background.start(self.write_used())

    async def write_used(self) -> None:
        """Store when the keys were used."""
        if not self._used:
            return
        used, self._used = tuple(self._used.items()), {}
        try:
            await self._store.write(lambda tables: tables.api_keys.mark_used(used))
        except Unavailable as error:
            self._services.log.debug("the use of a key is not stored", why=str(error))

    async def _check(self) -> None:
        version = await self._store.read(lambda tables: tables.api_keys.version())
        if version != self._version:
            await self._read()

    async def _read(self) -> None:
        def read(tables: Tables) -> tuple[int, list[ApiKey]]:
            return tables.api_keys.version(), tables.api_keys.all()

        self._version, keys = await self._store.read(read)
        self._keys = {one.secret_hash: one for one in keys if not one.revoked_at_ms}
