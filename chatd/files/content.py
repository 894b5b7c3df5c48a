"""The content of files, for an event loop.

Owns: the threads in which a place of content is used.
Elsewhere: the places (files.directory, files.s3), the contract (files.contract).
Fails: as files.contract says, and Unavailable while too many calls wait.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

from chatd.errors import Unavailable
from chatd.files import pictures
from chatd.files.contract import PIECE_BYTES, Blobs
from chatd.files.pictures import Picture, Read
from chatd.model import FileId

T = TypeVar("T")

THREADS = 4
MAX_WAITING = 256
"""Calls that wait for a thread, each with at most contract.PIECE_BYTES."""


class Seen(NamedTuple):
    """What there is of an upload that has all its bytes. picture: None if it is none that is known, or
    was not looked at as one."""

    sha256: str
    picture: Picture | None


class FileContent:
    """For one loop. The methods are those of files.contract.Blobs."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="files")
        self._calls = 0

    async def received(self, upload: FileId) -> int:
        return await self._run(partial(self._blobs.received, upload))

    async def append(self, upload: FileId, offset: int, data: bytes) -> int:
        return await self._run(partial(self._blobs.append, upload, offset, data))

    async def see(self, upload: FileId, *, is_picture: bool) -> Seen:
        """is_picture: whether it is looked at as a picture. Raises: pictures.BadPicture."""
        return await self._run(partial(_see, self._blobs, upload, is_picture))

    async def keep(self, upload: FileId, sha256: str) -> str:
        return await self._run(partial(self._blobs.keep, upload, sha256))

    async def read(self, name: str, start: int, length: int) -> bytes:
        return await self._run(partial(self._blobs.read, name, start, length))

    async def delete(self, name: str) -> None:
        await self._run(partial(self._blobs.delete, name))

    def close(self) -> None:
        """Calls that have begun end by themselves; what they have done is complete or repeated."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._blobs.close()

    async def _run(self, work: Callable[[], T]) -> T:
        if self._calls >= THREADS + MAX_WAITING:
            raise Unavailable("files: too many calls wait")
        self._calls += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._calls -= 1


def _in_blocks(blobs: Blobs, upload: FileId) -> Read:
    """The head of a picture is read in many small parts, each of which may be a request to an object store."""

    @functools.lru_cache(maxsize=2)
    def block(number: int) -> bytes:
        return blobs.read(upload, number * PIECE_BYTES, PIECE_BYTES)

    def read(start: int, length: int) -> bytes:
        number, at = divmod(start, PIECE_BYTES)
        found = block(number)[at : at + length]
        if len(found) < length and at + length > PIECE_BYTES:
            found += block(number + 1)[: length - len(found)]
        return found

    return read


def _see(blobs: Blobs, upload: FileId, is_picture: bool) -> Seen:
    try:
        picture = pictures.recognized(_in_blocks(blobs, upload)) if is_picture else None
    except FileNotFoundError:
        raise Unavailable("files: the upload is gone") from None
    return Seen(blobs.digest(upload), picture)
