"""The keys of login tokens on one worker: those of the configuration, and those of key sets.

Owns: CurrentKeys, core.tokens.contract.Tokens: the keys in force, looking for a key that is not known yet, a changed
configuration.
Elsewhere: keys (tokens.keys), key sets (core.tokens.key_sets), checking (tokens.verifier), signing (tokens.minting).
Fails: as core.tokens.contract says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from chatd.background import BackgroundTasks
from chatd.config.schema import Config
from chatd.core.fetching import Fetch
from chatd.core.tokens.contract import KeysUnavailable
from chatd.core.tokens.key_sets import KeySet
from chatd.tokens import minting
from chatd.tokens.contract import Claims, TokenProblem, TokenRefused, read_header
from chatd.tokens.keys import BadKey, Key, KeyRing, configured_keys
from chatd.tokens.verifier import Verifier

_Known = tuple[tuple[Key, ...], ...]


class CurrentKeys:
    """_ring: all keys, made anew when those of a set have changed; _ring_of: the keys of the sets that it was made
    of."""

    def __init__(self, config: Config, fetch: Fetch, now: Callable[[], float] = time.monotonic) -> None:
        """now: the clock, in seconds, by which key sets are read again. Raises ValueError for a key that cannot be
        used."""
        self._fetch = fetch
        self._now = now
        self._sets: tuple[KeySet, ...] = ()
        self._background: BackgroundTasks | None = None
        self._use(config)

    def _use(self, config: Config) -> None:
        try:
            keys = tuple(configured_keys(config.token_key))
        except BadKey as error:
            raise ValueError(str(error)) from None
        before = {(one.where, one.algorithm): one for one in self._sets}
        wanted = dict.fromkeys((one.jwks, one.algorithm) for one in config.token_key if one.jwks)
        self._config = config
        self._keys = keys
        self._sets = tuple(before.get(one) or KeySet(*one, self._fetch, self._now) for one in wanted)
        self._verifier = Verifier(config.tokens)
        self._ring_of: _Known | None = None
        self._ring = KeyRing(())

    def replace(self, config: Config) -> None:
        if (config.tokens, config.token_key) != (self._config.tokens, self._config.token_key):
            self._use(config)
            self.round()

    async def open(self, background: BackgroundTasks) -> None:
        self._background = background
        await asyncio.gather(*(one.refresh() for one in self._sets))

    def round(self) -> None:
        if self._background is not None:
            for one in self._sets:
                one.drop_stale(self._config.tokens.jwks_keep_s)
                if one.is_due(self._config.tokens.jwks_refresh_s):
                    self._background.start(one.refresh())

    def mint(self, name: str, ttl_s: float) -> str:
        return minting.mint(name, ttl_s, self._keys, self._config.tokens)

    async def verify(self, token: str) -> Claims:
        try:
            return self._verifier.verify(token, self._current())
        except TokenRefused as refused:
            if not self._sets or not self._may_be_new(token, refused):
                raise
        unknown = await self._look_for_new_keys()
        try:
            return self._verifier.verify(token, self._current())
        except TokenRefused as refused:
            if unknown and self._may_be_new(token, refused):
                raise KeysUnavailable(unknown) from None
            raise

    def _current(self) -> KeyRing:
        known = tuple(one.keys for one in self._sets)
        if known != self._ring_of:
            self._ring, self._ring_of = KeyRing((*self._keys, *(key for keys in known for key in keys))), known
        return self._ring

    def _may_be_new(self, token: str, refused: TokenRefused) -> bool:
        """Whether the token may be good by a key that is in a set by now."""
        if refused.problem not in (TokenProblem.UNKNOWN_KEY, TokenProblem.BAD_SIGNATURE):
            return False
        header = read_header(token)
        if header.algorithm not in ("RS256", "ES256", "EdDSA"):
            return False
        return not any(one.kid and one.kid == header.kid for one in self._current())

    async def _look_for_new_keys(self) -> str:
        """Read the sets that may be read again. Why a key may exist nevertheless that is not known; "" = it cannot."""
        due = [one for one in self._sets if one.may_look_again()]
        await asyncio.gather(*(one.refresh() for one in due))
        if any(one.trouble for one in self._sets):
            return "a key set cannot be read"
        return "" if len(due) == len(self._sets) else "a key set was read a moment ago"
