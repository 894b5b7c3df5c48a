"""A key set (JWKS) that is read again while the server runs.

Owns: KeySet: the keys read last, when it is read again, and how often a token of an unknown key may cause that.
Elsewhere: which keys of a set are used (tokens.keys), fetching (core.fetching), all keys together
(core.tokens.current_keys).
Fails: never. A set that cannot be read is logged once as a WARNING, and is tried again. It keeps its keys for as
long as the option `jwks_keep_s` says; then they are dropped, which is an ERROR.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from chatd import log
from chatd.config import urls
from chatd.core.fetching import Exchange, Fetch, FetchFailed
from chatd.tokens.contract import MAX_KEY_SET_BYTES
from chatd.tokens.keys import BadKey, Key, keys_of_set

LIMIT_S = 5.0
"""For one fetch, as long as a login with a new key may have to wait."""
UNKNOWN_S = 10.0
"""At least this long between two fetches that tokens of unknown keys cause."""
RETRY_S = 15.0
"""A set that could not be read is tried again after this."""
FILE_S = 2.0
"""How often it is looked whether a file has changed."""

_Stamp = tuple[int, int, int] | None


class KeySet:
    """One set. keys: of the last good version. trouble: why it could not be read the last time; "" = it could, and None
    = it was not read yet."""

    def __init__(self, where: str, algorithm: str, fetch: Fetch, now: Callable[[], float] = time.monotonic) -> None:
        """where: an http or https URL, or a file. algorithm: see tokens.keys.keys_of_set. now: the clock, seconds."""
        self.where, self.algorithm = where, algorithm
        self.keys: tuple[Key, ...] = ()
        self.trouble: str | None = None
        self._fetch = fetch
        self._now = now
        self._is_file = not urls.is_http(where)
        self._read_at = float("-inf")
        self._failing_since = 0.0
        """While there is trouble: since when."""
        self._stamp: _Stamp = None
        self._reading: asyncio.Task[None] | None = None

    def is_due(self, refresh_s: float) -> bool:
        """refresh_s: tokens.jwks_refresh_s."""
        if self._reading is not None:
            return False
        wait_s = FILE_S if self._is_file else refresh_s
        return self._now() - self._read_at >= (min(wait_s, RETRY_S) if self.trouble else wait_s)

    def drop_stale(self, keep_s: float) -> None:
        """Forget the keys if the set could not be read for so long. keep_s: tokens.jwks_keep_s; 0 = never."""
        if keep_s and self.keys and self.trouble and self._now() - self._failing_since >= keep_s:
            log.get().error(
                "a key set of tokens cannot be read for too long, its keys are dropped",
                set=self.where, why=self.trouble, keys=len(self.keys),
            )  # fmt: skip
            self.keys = ()

    def may_look_again(self) -> bool:
        """Whether a token of an unknown key may cause a fetch now, or joins one that is under way."""
        return self._reading is not None or self._now() - self._read_at >= (FILE_S if self._is_file else UNKNOWN_S)

    async def refresh(self) -> None:
        """Read it. Whoever comes while it is being read waits for the same answer."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._refresh())
        await asyncio.shield(self._reading)

    async def _refresh(self) -> None:
        try:
            self._read_at = self._now()
            if self._is_file and (stamp := _stamp_of(self.where)) is not None:
                if stamp == self._stamp:
                    return
                self._stamp = stamp
            self.keys = tuple(keys_of_set(await self._data(), self.algorithm))
        except (FetchFailed, BadKey, OSError) as error:
            self._stamp = None  # what was wrong may be put right without a change of the file: chmod
            self._failed(str(error.strerror if isinstance(error, OSError) else error))
        else:
            self._succeeded()
        finally:
            self._reading = None

    async def _data(self) -> bytes:
        """Raises FetchFailed, OSError."""
        if self._is_file:
            return _head_of(self.where)
        answer = await self._fetch(Exchange(url=self.where, limit_s=LIMIT_S))
        if answer.status != 200:
            raise FetchFailed(f"answers with status {answer.status}")
        return answer.body

    def _failed(self, why: str) -> None:
        if not self.trouble:
            self._failing_since = self._now()
        if why != self.trouble:
            kept = len(self.keys)
            log.get().warning(
                "a key set of tokens cannot be read, the keys known last stay", set=self.where, why=why, keys=kept
            )
        self.trouble = why

    def _succeeded(self) -> None:
        if self.trouble != "":
            log.get().info("key set of tokens read", set=self.where, keys=len(self.keys))
        self.trouble = ""


def _stamp_of(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _head_of(path: str) -> bytes:
    """A small file on a disk of this host is read on the loop: one page or two. Raises OSError."""
    with Path(path).open("rb") as file:
        return file.read(MAX_KEY_SET_BYTES + 1)
