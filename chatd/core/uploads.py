"""Files on their way to the server, and reading what has come.

Owns: what a file may be, when an upload is complete, and that it is refused if it is not what was announced.
Elsewhere: the rows (store.file_contract), the content (chatd.files), who may upload or read what, and the addresses
for it (core.requests), sending a file (core.messages), deleting (core.file_upkeep).
Fails: Refused, Unavailable; and OffsetMismatch for an upload that does not continue there. Any step may be repeated
after any failure, by any worker.

The content is durable before the row says that it is complete. What remains of an upload that ended in between is
found again by the id of its file: it is completed, or deleted with the file.
"""

from __future__ import annotations

from functools import partial

from chatd import wall_clock
from chatd.core.services import Services
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.files.content import FileContent, Seen
from chatd.files.contract import OffsetMismatch
from chatd.files.pictures import TYPES, BadPicture
from chatd.model import FileId, UserId
from chatd.store.contract import Content, FileRow, FileState, NewFile, Tables


class Uploads:
    """content: None = this server takes no files."""

    def __init__(self, services: Services, content: FileContent | None) -> None:
        self._store = services.store
        self._config = services.config
        self._log = services.log
        self._row = services.row
        self._content_or_none = content

    @property
    def on(self) -> bool:
        """Whether this server takes files."""
        return self._content_or_none is not None

    @property
    def _content(self) -> FileContent:
        """Raises: Refused NOT_ALLOWED."""
        if self._content_or_none is None:
            raise Refused(ErrorCode.NOT_ALLOWED, "this server takes no files")
        return self._content_or_none

    # ---------------------------------------------------------------- uploading

    def begin(self, tables: Tables, new: NewFile) -> FileRow:
        """Within a transaction. Raises: Refused NOT_ALLOWED, FILE_TOO_LARGE, FILE_TYPE_NOT_ALLOWED, QUOTA_REACHED;
        BAD_FIELD for a size below 1."""
        options = self._config().files
        assert self._content
        if new.size < 1:
            raise Refused(ErrorCode.BAD_FIELD, "a file has at least one byte")
        if new.size > options.max_bytes:
            raise Refused(ErrorCode.FILE_TOO_LARGE, f"a file may have at most {options.max_bytes} bytes")
        if not options.accepts(new.media_type):
            raise Refused(ErrorCode.FILE_TYPE_NOT_ALLOWED)
        return tables.files.begin(new, options.quota_bytes, wall_clock.now_ms())

    async def find(self, file_id: FileId) -> FileRow:
        """Raises: Refused UNKNOWN_FILE."""
        found = await self._store.read(lambda tables: tables.files.find(file_id))
        if found is None:
            raise Refused(ErrorCode.UNKNOWN_FILE)
        return found

    async def received(self, file: FileRow) -> int:
        """Bytes that there are of it."""
        return await self._content.received(file.id) if file.state is FileState.UPLOADING else file.size

    async def append(self, file: FileRow, offset: int, data: bytes) -> int:
        """data: at most files.contract.PIECE_BYTES. Returns the bytes that there are now; when that is the size of the
        file, finish() is due. Raises: OffsetMismatch; Refused FILE_TOO_LARGE."""
        if file.state is not FileState.UPLOADING:
            raise OffsetMismatch(file.size)
        if offset + len(data) > file.size:
            raise Refused(ErrorCode.FILE_TOO_LARGE, f"this file was announced with {file.size} bytes")
        return await self._content.append(file.id, offset, data)

    async def finish(self, file: FileRow) -> FileRow:
        """All bytes are there. The result is complete and durable; a file that was complete before is given as it is.

        Raises: OffsetMismatch: bytes are missing. Refused FILE_TYPE_NOT_ALLOWED, FILE_DAMAGED: it is not what was
        announced, and is forgotten; UNKNOWN_FILE: it was cancelled meanwhile."""
        if file.state is not FileState.UPLOADING:
            return file
        received = await self._content.received(file.id)
        if received != file.size:
            raise OffsetMismatch(received)
        try:
            seen = await self._content.see(file.id, is_picture=file.media_type in TYPES)
            content = self._checked(file, seen)
        except BadPicture as error:
            await self.cancel(file.id)
            raise Refused(ErrorCode.FILE_TYPE_NOT_ALLOWED, str(error)) from None
        except Refused:
            await self.cancel(file.id)
            raise
        blob = await self._content.keep(file.id, seen.sha256)
        try:
            done = await self._store.write(partial(_complete, file.id, content._replace(blob=blob)))
        except Refused:
            await self._content.delete(file.id)
            raise
        self._row.files_uploaded += 1
        self._row.file_bytes_uploaded += file.size
        return done

    def _checked(self, file: FileRow, seen: Seen) -> Content:
        """Raises: Refused."""
        if file.sha256 and file.sha256 != seen.sha256:
            raise Refused(ErrorCode.FILE_DAMAGED)
        if file.media_type not in TYPES:
            return Content("", seen.sha256)
        picture = seen.picture
        if picture is None or picture.media_type != file.media_type:
            raise Refused(ErrorCode.FILE_TYPE_NOT_ALLOWED, f"the content is not {file.media_type}")
        return Content("", seen.sha256, picture.width, picture.height)

    async def cancel(self, file_id: FileId, owner: UserId | None = None) -> bool:
        """Forget a file that was not sent; its content is deleted soon. owner: whose it must be. False: there is no
        such file."""
        return await self._store.write(lambda tables: tables.files.cancel(file_id, owner))

    # ---------------------------------------------------------------- downloading

    async def read(self, file: FileRow, start: int, length: int) -> bytes:
        """Of a complete file, at most files.contract.PIECE_BYTES. Raises: Refused UNKNOWN_FILE: its content is gone,
        because it was removed meanwhile."""
        if file.state is FileState.UPLOADING:
            raise Refused(ErrorCode.UNKNOWN_FILE)
        try:
            return await self._content.read(file.blob, start, length)
        except FileNotFoundError:
            raise Refused(ErrorCode.UNKNOWN_FILE) from None
        except Unavailable as error:
            self._log.warning("the content of a file cannot be read", file=file.id, why=str(error))
            raise


def _complete(file_id: FileId, content: Content, tables: Tables) -> FileRow:
    return tables.files.complete(file_id, content)
