"""Comparing the content of all files with what the store says of them.

Owns: Inspector, what it finds, and delete_unused().
Elsewhere: the places of content (files.contract), the rows (store.file_contract), the command (chatctl.maintenance).
Fails: Unavailable, when the store or the place does not answer.

A server may run meanwhile: it adds and deletes files. So what seems to be missing is looked for once more, and content
counts as unused only if it is old; its name has the id of a file that existed before and never comes again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from chatd import wall_clock
from chatd.files.contract import PIECE_BYTES, Blobs, Kept
from chatd.store.contract import Tables
from chatd.store.file_contract import AGAIN_MS, FileRow, FileState, file_of_blob

_AT_ONCE = 500
"""Rows that are read together."""

Watch = Callable[[str, int, int], None]
"""As store.copy.OnProgress."""


class Inspection(NamedTuple):
    """files: that are complete or sent. contents, content_bytes: in the place, each content once, uploads included.
    missing: files without their content. damaged: files whose content is another. unused: contents that no file has,
    and that the server does not delete by itself."""

    files: int
    contents: int
    content_bytes: int
    missing: Sequence[FileRow]
    damaged: Sequence[FileRow]
    unused: Sequence[Kept]

    @property
    def sound(self) -> bool:
        return not (self.missing or self.damaged)

    @property
    def unused_bytes(self) -> int:
        return sum(one.size for one in self.unused)


class Inspector:
    """Looks through one store and one place, once. reads_content: the SHA-256 of every content is compared, too."""

    def __init__(self, tables: Tables, blobs: Blobs, watch: Watch, *, reads_content: bool) -> None:
        self._tables = tables
        self._blobs = blobs
        self._watch = watch
        self._reads_content = reads_content
        self._kept: dict[str, Kept] = {}
        self._sound: set[str] = set()
        """Blobs that were looked at, and are as they should be."""
        self._in_use: set[str] = set()
        """Ids of the files with which contents came that are needed: by an upload, or by a file with the same."""

    def run(self) -> Inspection:
        """Cost: some hundred bytes of memory for each content. Raises: Unavailable."""
        now_ms = wall_clock.now_ms()
        self._kept = {one.name: one for one in self._blobs.kept()}
        missing, damaged, files = list[FileRow](), list[FileRow](), 0
        total = self._tables.files.totals().files
        self._watch("files", 0, total)
        for row in self._rows():
            if row.state is FileState.UPLOADING:
                self._in_use.add(row.id)
                continue
            files += 1
            self._in_use.add(file_of_blob(row.blob))
            if not self._is_sound(row) and self._is_current(row):
                (missing if self._size(row.blob) is None else damaged).append(row)
            self._watch("files", 1, max(total, files))
        unused = self._unused(now_ms - AGAIN_MS)
        content_bytes = sum(one.size for one in self._kept.values())
        return Inspection(files, len(self._kept), content_bytes, missing, damaged, unused)

    def _rows(self) -> Iterator[FileRow]:
        last = ""
        while rows := self._tables.files.following(last, _AT_ONCE):
            yield from rows
            last = rows[-1].id

    def _is_sound(self, row: FileRow) -> bool:
        if row.blob not in self._sound:
            listed = self._kept.get(row.blob)
            size = self._size(row.blob) if listed is None else listed.size
            if size != row.size or (self._reads_content and self._sha256(row.blob) != row.sha256):
                return False
            self._sound.add(row.blob)
        return True

    def _is_current(self, row: FileRow) -> bool:
        """The file may have been removed since it was read."""
        found = self._tables.files.find(row.id)
        return found is not None and found.blob == row.blob

    def _size(self, blob: str) -> int | None:
        """None: it is not there. Cost: what is long is read."""
        try:
            return sum(map(len, self._pieces(blob)))
        except FileNotFoundError:
            return None

    def _sha256(self, blob: str) -> str:
        found = hashlib.sha256()
        try:
            for piece in self._pieces(blob):
                found.update(piece)
        except FileNotFoundError:
            return ""
        return found.hexdigest()

    def _pieces(self, blob: str) -> Iterator[bytes]:
        """Raises: FileNotFoundError, Unavailable."""
        start = 0
        while piece := self._blobs.read(blob, start, PIECE_BYTES):
            yield piece
            start += len(piece)

    def _unused(self, before_ms: int) -> list[Kept]:
        """After all rows were read: content comes before its file is complete."""
        doomed = self._tables.files.all_doomed()

        def is_unused(one: Kept) -> bool:
            file_id = file_of_blob(one.name)
            return file_id not in self._in_use and doomed.isdisjoint({one.name, file_id})

        return sorted(one for one in self._kept.values() if one.modified_s * 1000 < before_ms and is_unused(one))


def delete_unused(blobs: Blobs, unused: Sequence[Kept], watch: Watch) -> None:
    """unused: of an Inspection. Raises: Unavailable; what is left is found by the next inspection."""
    watch("contents", 0, len(unused))
    for one in unused:
        blobs.delete(one.name)
        watch("contents", 1, len(unused))
