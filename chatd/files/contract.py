"""The contract of a place for the content of files.

Owns: Blobs, and why one refuses an append.
Elsewhere: a directory (files.directory), an object store (files.s3), calling them from an event loop (files.content),
which content belongs to which file (store.file_contract).
Fails: OffsetMismatch; Unavailable: the place does not answer, or is full. Repeating any call does no harm.

Content has two names. While it comes it is an upload, by the id of its file (model.FileId). When it is whole it is
kept: as a blob (store.file_contract.blob_name), which never changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from chatd.errors import ChatdError
from chatd.model import FileId

PIECE_BYTES = 256 * 1024
"""Maximum length of what is appended or read by one call."""
_NAME = re.compile(r"[A-Za-z0-9_-]{16,64}(\.[0-9a-f]{64})?", re.ASCII)


class OffsetMismatch(ChatdError):
    """An upload does not continue where an append begins; another writer may have been faster. received: the bytes it
    has."""

    def __init__(self, received: int) -> None:
        super().__init__(f"the upload has {received} bytes")
        self.received = received


class Kept(NamedTuple):
    """A name in the place, and how many bytes it has. modified_s: when it was last written, epoch."""

    name: str
    size: int
    modified_s: float


class Blobs(Protocol):
    """Blocks. Called from several threads at once, and by several hosts that share the place."""

    def check(self) -> None:
        """Whether the place can be used. Changes nothing. Raises: Unavailable, which says why not."""

    def received(self, upload: FileId) -> int:
        """Bytes that it has; 0 for one that never began."""
        ...

    def append(self, upload: FileId, offset: int, data: bytes) -> int:
        """Returns the bytes that it has now. They survive the end of every process, and after a crash of the host
        received() tells what is left. Raises: OffsetMismatch; then nothing was written."""
        ...

    def digest(self, upload: FileId) -> str:
        """SHA-256 of what it has, in hexadecimal digits. Cost: reads all of it."""
        ...

    def keep(self, upload: FileId, sha256: str) -> str:
        """The upload is whole. Returns the name of its blob, which is durable."""
        ...

    def read(self, name: str, start: int, length: int) -> bytes:
        """Of an upload or a blob; shorter only at its end. Raises: FileNotFoundError."""
        ...

    def delete(self, name: str) -> None:
        """A blob; or, for an upload, what has come of it, and its blob. Nothing to delete is no error."""

    def kept(self) -> Iterator[Kept]:
        """All blobs and uploads, in no order."""
        ...

    def close(self) -> None: ...


def checked(name: str) -> str:
    """A name of an upload or a blob, which becomes a part of a path. Raises: ValueError for everything else."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"not the name of a file's content: {name[:80]!r}")
    return name
