"""The files of one person, in the archive of everything about them.

Owns: the list of files and the folder of their contents in the archive.
Elsewhere: the rest of the archive (core.person_archive), the content (chatd.files).
Fails: Unavailable from the store. Content that cannot be read now is left out, and the list says so.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import msgspec

from chatd.errors import Unavailable
from chatd.files.contract import PIECE_BYTES, Blobs
from chatd.model import FileId, UserId
from chatd.store.contract import FileRow, FileState, Tables

T = TypeVar("T")

_PAGE = 200
"""Files read at once."""


class OwnFile(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the list. content: its name in the archive; "" = it is not there, because it could not be read, or
    never came completely."""

    id: FileId
    name: str
    size: int
    type: str
    sha256: str
    state: str
    uploaded_at_ms: int
    conversation: str
    """As in the names of the files in conversations/: "group-7", or "" for a file that was not sent to a group."""

    seq: int
    """Of its message; 0 = it was not sent."""

    content: str


def write(
    read: Callable[[Callable[[Tables], list[FileRow]]], list[FileRow]],
    owner: UserId,
    archive: zipfile.ZipFile,
    blobs: Blobs | None,
) -> None:
    """blobs: None = the contents are left out. Raises: what `read` raises."""
    listed = [_written(archive, blobs, row) for row in _rows(read, owner)]
    archive.writestr("files.json", msgspec.json.format(msgspec.json.encode(listed), indent=2))


def _rows(read: Callable[[Callable[[Tables], list[FileRow]]], list[FileRow]], owner: UserId) -> Iterator[FileRow]:
    after = ""
    while page := read(partial(_page, owner, after)):
        yield from page
        after = page[-1].id


def _page(owner: UserId, after: FileId, tables: Tables) -> list[FileRow]:
    return tables.files.owned(owner, after, _PAGE)


def _written(archive: zipfile.ZipFile, blobs: Blobs | None, row: FileRow) -> OwnFile:
    place = f"files/{row.id}/{_safe(row.name)}"
    is_there = blobs is not None and row.state is not FileState.UPLOADING and _copy(archive, blobs, row, place)
    return OwnFile(
        id=row.id,
        name=row.name,
        size=row.size,
        type=row.media_type,
        sha256=row.sha256,
        state=row.state.name.lower(),
        uploaded_at_ms=row.created_at_ms,
        conversation=f"group-{-row.conversation}" if row.conversation < 0 else "",
        seq=row.seq,
        content=place if is_there else "",
    )


def _copy(archive: zipfile.ZipFile, blobs: Blobs, row: FileRow, place: str) -> bool:
    """The first piece is read before there is an entry, so that what cannot be read leaves none. What breaks off later
    is shorter in the archive than in the list."""
    try:
        piece = blobs.read(row.blob, 0, PIECE_BYTES)
    except (FileNotFoundError, Unavailable):
        return False
    at = 0
    with archive.open(place, "w", force_zip64=True) as copy:
        while piece:
            copy.write(piece)
            at += len(piece)
            try:
                piece = blobs.read(row.blob, at, PIECE_BYTES)
            except (FileNotFoundError, Unavailable):
                return False
    return at == row.size


def _safe(name: str) -> str:
    """Whatever unpacks it, it stays in its folder."""
    plain = "".join("_" if one in '/\\:*?"<>|' or one < " " else one for one in name).strip(". ")
    return plain or "file"
