"""The contract of a store: files that people upload and send. A part of store.contract.

Owns: FileTables and the structs it takes and gives.
Elsewhere: the SQL (store.sql.files, and store.sql.extras for files of messages), the content (chatd.files), when an
upload is complete and what is deleted (core.uploads, core.file_upkeep).
Fails: as store.contract says.

A file is in the store from the moment its upload is announced: UPLOADING, then COMPLETE, then SENT with one message.
Its row goes with the message, in the same transaction, whatever removes that.

Files with the same content share one blob. A blob that no file has any more is doomed: upkeep deletes it, and it is
never used again, because its name has the id of the file that it came with (blob_name). So deleting it twice, or late,
harms nobody.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from chatd.model import Attachment, ConversationId, FileId, Seq, UserId

CHARGED_BYTES = 4096
"""What a file takes of its owner's quota at least. It bounds the number of files."""
AGAIN_MS = 3600 * 1000
"""The content of an upload that was given up is deleted once more after this: a request that was appending to it at
that moment may have brought it back."""


def blob_name(file_id: FileId, sha256: str) -> str:
    """The name of the content that came with this file."""
    return f"{file_id}.{sha256}"


def file_of_blob(name: str) -> FileId:
    """The file with which this content came; for the name of an upload, the same."""
    return name.partition(".")[0]


class FileState(enum.IntEnum):
    """Of a file."""

    UPLOADING = 0
    COMPLETE = 1
    """All of it is there. It waits for the message that sends it."""

    SENT = 2


class NewFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that somebody announces. id: at random (FileId). size: at least 1. sha256: what the content must have, in
    hexadecimal digits; "" = not said."""

    id: FileId
    owner: UserId
    name: str
    size: int
    media_type: str
    sha256: str = ""


class FileRow(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the store. sha256: of the content; before it is complete, as announced. blob: the name of its content
    in chatd.files; "" before it is complete. conversation, seq: the message that sent it; 0 = none yet. width, height:
    of a picture as it is shown, in pixels; 0 = not known."""

    id: FileId
    owner: UserId
    name: str
    size: int
    media_type: str
    sha256: str
    blob: str
    width: int
    height: int
    state: FileState
    created_at_ms: int
    conversation: ConversationId
    seq: Seq

    @property
    def attachment(self) -> Attachment:
        """As what recipients are told of it."""
        return Attachment(
            id=self.id,
            name=self.name,
            size=self.size,
            media_type=self.media_type,
            width=self.width,
            height=self.height,
        )


class Content(NamedTuple):
    """What was found when an upload was complete. blob: the name of the content."""

    blob: str
    sha256: str
    width: int = 0
    height: int = 0


class FileTotals(NamedTuple):
    """files: that are complete or sent. file_bytes: what they have together. blobs, blob_bytes: what is kept of them,
    each content once. uploading: files that are not complete. doomed: contents to be deleted."""

    files: int
    file_bytes: int
    blobs: int
    blob_bytes: int
    uploading: int
    doomed: int


class FileTables(Protocol):
    """Ids of files that do not exist are no error where None or nothing can be the answer."""

    def begin(self, new: NewFile, quota_bytes: int, now_ms: int) -> FileRow:
        """Announce an upload. quota_bytes: for all files of the owner together; 0 = no limit. The same `new` again,
        with the same id, changes nothing. Raises: Refused QUOTA_REACHED."""
        ...

    def find(self, file_id: FileId) -> FileRow | None: ...

    def complete(self, file_id: FileId, content: Content) -> FileRow:
        """All of it is there, durable. The result's blob is that of an earlier file with the same content, if there is
        one; then content.blob is doomed. A file that is complete already is given as it is.

        Raises: Refused UNKNOWN_FILE: it was cancelled or has expired; then content.blob is not doomed by this."""
        ...

    def cancel(self, file_id: FileId, owner: UserId | None = None) -> bool:
        """Forget a file that was not sent, and doom its content. owner: whose it must be. False: nothing to forget."""
        ...

    def used(self, owner: UserId) -> int:
        """Bytes of the owner's quota that are taken, uploads as announced."""
        ...

    def owned(self, owner: UserId, after: FileId, limit: int) -> list[FileRow]:
        """The owner's files by id, those above `after`."""
        ...

    def expire(self, before_ms: int, limit: int) -> int:
        """Forget at most `limit` files that were announced before and not sent, and doom their contents. Returns how
        many."""
        ...

    def has_upkeep(self, before_ms: int, now_ms: int) -> bool:
        """Whether expire() or doomed() has something to do. Cost: a few rows."""
        ...

    def doomed(self, now_ms: int, limit: int) -> list[str]:
        """Names of blobs, or ids of uploads, whose content is to be deleted now. In a transaction: blobs that a file
        still has are taken off the list."""
        ...

    def deleted(self, names: Sequence[str], now_ms: int) -> None:
        """The content of these is gone. Uploads come a second time, after AGAIN_MS."""

    def following(self, after: FileId, limit: int) -> list[FileRow]:
        """Files of everybody by id, those above `after`."""
        ...

    def all_doomed(self) -> set[str]:
        """All names that doomed() will give now or later."""
        ...

    def totals(self) -> FileTotals:
        """Cost: reads the index of all files."""
        ...
