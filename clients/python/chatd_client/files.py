"""Files of messages: uploading them, and getting them again.

Owns: one method per operation; carrying an upload through over lost connections; where the server's files are.
Elsewhere: asking (requests), one call over HTTP (transfer), naming files in a message (client).
Fails: each method raises Refused, NoAnswer, Overloaded and SessionEnded, as Requests.ask; Unreachable where the files
of the server are not reached; OSError for a file on this host.

A file is uploaded, and then named by one message. Nobody else can have it before.
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
import ssl
import urllib.parse
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import IO, TypedDict, TypeVar, Unpack

import msgspec

from chatd_client import results, transfer
from chatd_client.errors import ChatError, Code, NotFound, Refused, SessionEnded, Unreachable
from chatd_client.model import Attachment
from chatd_client.requests import Requests
from chatd_client.timing import Backoff

T = TypeVar("T")
PIECE_BYTES = 1024 * 1024
"""Sent by one call, and read by one."""
STALLED = 20
"""Pieces that may fail in a row, although the server is there, before the transfer does; a minute and a half."""
AGAIN = (Code.NOT_ALLOWED, Code.OFFSET_MISMATCH)
"""Refusals of a piece after which the server is asked for a new address, and for how much it has."""


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """Where files are. url: chosen by the program, "" = what the server says, or else `origin`, that of its WebSocket;
    "" = it has none. context: None = the default, for `authorities`."""

    url: str = ""
    origin: str = ""
    context: ssl.SSLContext | None = None
    authorities: str = ""

    def place(self, said: str, path: str) -> transfer.Place:
        """Raises Unreachable, OSError."""
        base = self.url or said or self.origin
        if not base:
            raise Unreachable("the server does not say where its files are: set Options.http")
        url = urllib.parse.urljoin(base, path)
        context = self.context
        if url.startswith("https:") and context is None:
            context = ssl.create_default_context(cafile=self.authorities or None)
        return transfer.Place(url, context)


class UploadFields(TypedDict, total=False):
    """How a file is uploaded.

    name: as others see it; default: that of the path. type: its media type; default: by the name. file: its id, to go
    on with an upload that was begun, if the server has it still. on_begin: is told the id, which is worth keeping to go
    on later. on_progress: is told how many bytes the server has, and how many there are.
    """

    name: str
    type: str
    file: str
    on_begin: Callable[[str], object]
    on_progress: Callable[[int, int], object]


class Files:
    def __init__(self, requests: Requests, home: Home) -> None:
        self._ask = requests.ask
        self._home = home

    async def limits(self) -> results.FileLimits:
        """What may be uploaded; max_bytes 0 = nothing."""
        return await self._ask("files.limits", results.FileLimits)

    async def cancel(self, file: str) -> None:
        """Forget an upload, or an uploaded file that was not sent."""
        await self._ask("files.cancel", results.Nothing, file=file)

    # ------------------------------------------------------------ uploading

    async def upload(self, content: Path | str | bytes, **fields: Unpack[UploadFields]) -> Attachment:
        """Upload a file, over as many connections as that takes. It is durable then, and send() can name its id.
        content: a path, or bytes, which need a name. Cancelling the call leaves what the server has; it removes it in
        time. Raises OSError, ValueError for bytes without a name, and as all methods."""
        if isinstance(content, bytes):
            if not fields.get("name"):
                raise ValueError("give bytes a name")
            return await self._carry(_Bytes(content), fields)
        fields.setdefault("name", Path(content).name)
        file = await asyncio.to_thread(open, content, "rb")
        with file:
            return await self._carry(_OnDisk(file), fields)

    async def _carry(self, content: _Bytes | _OnDisk, fields: UploadFields) -> Attachment:
        at = await self._begin(content.size, fields)
        fields.get("on_begin", _nothing)(at.file)
        pause, failures = Backoff(0.3, 5.0), 0
        while True:
            fields.get("on_progress", _nothing)(at.offset, content.size)
            try:
                piece = await asyncio.to_thread(content.read, at.offset)
                place = self._home.place(at.base, at.url)
                sent = await asyncio.to_thread(transfer.append, place, at.offset, piece)
            except (ChatError, transfer.Broken) as error:
                failures += 1
                if _is_final(error, failures):
                    raise _told(error) from None
                await asyncio.sleep(pause.next_s())
                at = await self._insist("files.resume", results.Upload, file=at.file)
                continue
            if sent.file is not None:
                return sent.file
            at = msgspec.structs.replace(at, offset=sent.offset)
            pause, failures = Backoff(0.3, 5.0), 0

    async def _begin(self, size: int, fields: UploadFields) -> results.Upload:
        if fields.get("file"):
            try:
                return await self._insist("files.resume", results.Upload, file=fields["file"])
            except NotFound:
                pass
        name = fields["name"]
        kind = fields.get("type") or mimetypes.guess_type(name)[0] or "application/octet-stream"
        return await self._insist("files.upload", results.Upload, name=name, size=size, type=kind)

    async def _insist(self, op: str, shape: type[T], **arguments: object) -> T:
        """Until the server is there and has time. What was begun and is not known here is removed by the server."""
        while True:
            try:
                return await self._ask(op, shape, **arguments)
            except SessionEnded:
                raise
            except ChatError as error:
                if not error.temporary:
                    raise
                await asyncio.sleep(1)

    # ------------------------------------------------------------ downloading

    async def links(self, conversation: str, seq: int, file: str | None = None) -> results.FileLinks:
        """Paths of the files of a message, or of one, for whoever may read it. Whoever has one may use it until it
        expires. Raises NotFound for a message that the user may not read, or whose files are gone."""
        return await self._ask("files.link", results.FileLinks, with_=conversation, seq=seq, file=file)

    async def url(self, conversation: str, seq: int, file: str) -> str:
        """The address of one file. Raises NotFound as links()."""
        return (await self._place(conversation, seq, file)).url

    async def _place(self, conversation: str, seq: int, file: str) -> transfer.Place:
        found = await self.links(conversation, seq, file)
        return self._home.place(found.base, found.links[0].url)

    async def download(self, conversation: str, seq: int, file: Attachment, to: Path | str) -> Path:
        """Get a file of a message. to: where it is written; a directory: there, under its name, which is never a path;
        a file that is there already is not overwritten (FileExistsError). After a failure nothing is left there.
        Returns where it is. Raises NotFound as links(), OSError."""
        target, out = await asyncio.to_thread(_create, Path(to), file.name)
        with out:
            try:
                await self._fetch(partial(self._place, conversation, seq, file.id), file.size, out)
            except BaseException:
                os.unlink(target)
                raise
        return target

    async def _fetch(self, where: Callable[[], Awaitable[transfer.Place]], size: int, out: IO[bytes]) -> None:
        pause, failures = Backoff(0.3, 5.0), 0
        place = await where()
        while out.tell() < size:
            last = min(out.tell() + PIECE_BYTES, size) - 1
            try:
                out.write(await asyncio.to_thread(transfer.fetch, place, out.tell(), last))
                failures = 0
            except (Refused, transfer.Broken) as error:
                failures += 1
                if _is_final(error, failures):
                    raise _told(error) from None
                await asyncio.sleep(pause.next_s())
                place = await where()


class _Bytes:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read(self, offset: int) -> bytes:
        return self._content[offset : offset + PIECE_BYTES]


class _OnDisk:
    """size: when it was opened; what grows later is not sent."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def read(self, offset: int) -> bytes:
        """Raises ChatError if the file has become shorter."""
        piece = os.pread(self._file.fileno(), min(PIECE_BYTES, self.size - offset), offset)
        if not piece and offset < self.size:
            raise ChatError("the file has become shorter while it was sent")
        return piece


def _create(path: Path, name: str) -> tuple[Path, IO[bytes]]:
    """Raises OSError."""
    target = path / safe_name(name) if path.is_dir() else path
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return target, os.fdopen(os.open(target, flags, 0o600), "wb")


def safe_name(name: str) -> str:
    """A name for a file in a directory: no path, no hidden file."""
    last = name.replace("/", "_").replace("\\", "_").replace("\0", "_").lstrip(".")
    return last or "file"


def _nothing(*told: object) -> None:
    """Nobody wants to know."""


def _is_final(error: Exception, failures: int) -> bool:
    if failures > STALLED or isinstance(error, SessionEnded):
        return True
    return isinstance(error, ChatError) and not error.temporary and getattr(error, "code", 0) not in AGAIN


def _told(error: Exception) -> Exception:
    return Unreachable(f"the server's files are not reached: {error}") if isinstance(error, transfer.Broken) else error
