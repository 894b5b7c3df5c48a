"""Everything of one person as an archive, made by a running worker.

Owns: the thread that makes an archive, its reads of the store on the worker's loop, the temporary file, and that a
worker makes one archive at a time.
Elsewhere: what is in the archive (core.person_archive), sending it (http), the same by chatctl
(chatctl.export).
Fails: Refused BUSY while another archive is made; Unavailable from the store, or if the file cannot be written. The
file has no name, so nothing of it is left, whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, NamedTuple, TypeVar

from chatd.core.person_archive import Exported, write
from chatd.core.services import Services
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.files.open import open_blobs
from chatd.model import User
from chatd.store.contract import Tables

T = TypeVar("T")

_REST = 2.0
"""A pause after each read is as many times as long as the read: messages are stored in between."""


class Archive(NamedTuple):
    """file: complete, to be read from its beginning; closed by Exports."""

    file: IO[bytes]
    size: int
    exported: Exported


class _GivenUp(Exception):
    """Nobody waits for the archive any more. Raised and caught in the thread."""


class Exports:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._pool: ThreadPoolExecutor | None = None
        """Made for the first archive."""
        self._is_busy = False

    @contextlib.asynccontextmanager
    async def archive_of(self, user: User) -> AsyncIterator[Archive]:
        """Takes as long as it takes to read all of the user's conversations, and every message of groups."""
        if self._is_busy:
            raise Refused(ErrorCode.BUSY, "this worker is exporting another account: try again in a while")
        self._is_busy = True
        try:
            with tempfile.TemporaryFile(dir=self._services.config().server.state_dir) as file:
                exported = await self._make(user, file)
                size = file.tell()
                file.seek(0)
                yield Archive(file, size, exported)
        except OSError as error:
            raise Unavailable(f"the archive cannot be written: {error.strerror}") from None
        finally:
            self._is_busy = False

    async def _make(self, user: User, file: IO[bytes]) -> Exported:
        """Returns, whatever happens, when the thread has finished with the file."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="export")
        loop, is_over = asyncio.get_running_loop(), False

        def read(work: Callable[[Tables], T]) -> T:
            if is_over:
                raise _GivenUp
            begun = time.monotonic()
            found = asyncio.run_coroutine_threadsafe(self._services.store.read(work), loop).result()
            time.sleep(_REST * (time.monotonic() - begun))
            return found

        def make() -> Exported:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                blobs = open_blobs(self._services.config().files)
                return write(read, user, archive, lambda label, more, total: None, blobs)

        making = asyncio.ensure_future(loop.run_in_executor(self._pool, make))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            is_over = True
            with contextlib.suppress(_GivenUp, Refused, Unavailable, OSError):
                await asyncio.shield(making)
            raise
