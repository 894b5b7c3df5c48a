"""Requests about files: announcing one that is to be uploaded, going on with it, and addresses of those that were sent.

Owns: the arguments and answers of these operations; which names and types a file may have; who is given an address.
Elsewhere: addresses (core.file_addresses), what is served there (http.files), the content (core.uploads), quotas and
rows (store.file_contract), sending a file with a message (store.sql.extras).
Fails: Refused, Unavailable; core.requests.dispatch answers with them.

Source: docs/internals/files.md.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated

import msgspec
from msgspec import Meta, field

from chatd.config.files_options import FilesOptions
from chatd.core.allowance import WRITE
from chatd.core.change import Change
from chatd.core.file_addresses import Address, FileAddresses
from chatd.core.plugins.contract import NotAsked
from chatd.core.recent_changes import RecentChanges
from chatd.core.requests.arguments import NoArguments
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.requests.history import Place, find_conversation
from chatd.core.requests.own_history import Page, own_messages
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.core.uploads import Uploads
from chatd.errors import ErrorCode, Refused
from chatd.model import FileId, Message
from chatd.store.contract import FileRow, FileState, NewFile, Tables
from chatd.texts import fields

_NAME_CHARS = 120
_NAME_BYTES = 255
_DIRECTORIES = re.compile(r".*[/\\]", re.DOTALL)
_TOKEN = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}"
_TYPE = re.compile(f"{_TOKEN}/{_TOKEN}", re.ASCII)
UNKNOWN_TYPE = "application/octet-stream"
"""Of a file whose owner does not say which type it has."""
_OWN = NotAsked("plug-ins are asked about the message that sends the file")
_READS = NotAsked("whoever may read the message may read its files; plug-ins are asked about reading history")

Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22}\Z")]


class Upload(msgspec.Struct, frozen=True):
    """size: in bytes. type: a media type. sha256: of the content, hexadecimal; "" = not known yet."""

    name: Annotated[str, Meta(min_length=1, max_length=4096)]
    size: Annotated[int, Meta(ge=1, lt=1 << 53)]
    type: Annotated[str, Meta(max_length=255)] = ""
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-fA-F]{64})?\Z")] = ""


class OneFile(msgspec.Struct, frozen=True):
    file: Id


class FilesOfMessage(msgspec.Struct, frozen=True):
    """file: None = all of them."""

    place: Place = field(name="with")
    seq: Annotated[int, Meta(gt=0, lt=1 << 62)]
    file: Id | None = None


def check_on(options: FilesOptions) -> None:
    """Raises Refused NOT_ALLOWED if this server takes no files."""
    if not options.on:
        raise Refused(ErrorCode.NOT_ALLOWED, "this server takes no files")


def checked_name(name: str) -> str:
    """A file's name without directories. Raises Refused BAD_FIELD."""
    found = fields.name("name", _DIRECTORIES.sub("", name), _NAME_CHARS)
    if found.strip(".") == "" or len(found.encode()) > _NAME_BYTES:
        raise Refused(ErrorCode.BAD_FIELD, f"name: must have at most {_NAME_BYTES} bytes, and not only dots")
    return found


def checked_type(media_type: str) -> str:
    """In lower case, without parameters. Raises Refused BAD_FIELD."""
    found = media_type.partition(";")[0].strip().lower() or UNKNOWN_TYPE
    if _TYPE.fullmatch(found) is None:
        raise Refused(ErrorCode.BAD_FIELD, "type: is no media type")
    return found


class FileOperations:
    def __init__(self, services: Services, addresses: FileAddresses, uploads: Uploads, recent: RecentChanges) -> None:
        self._services = services
        self._addresses = addresses
        self._uploads = uploads
        self._recent = recent

    def table(self) -> OperationTable:
        announced = '{"file":str,"url":path,"base":str?,"offset":int,"expires":s}'
        return {
            "files.limits": Operation(
                NoArguments,
                "which files this server takes; max_bytes 0 = none",
                '{"max_bytes":int,"types":[str],"quota_bytes":int,"used_bytes":int,"per_message":int,"base":str?}',
                asks=_OWN,
                read=self._limits,
            ),
            "files.upload": Operation(
                Upload,
                "announce a file; its content is then sent to the `url`",
                announced,
                asks=_OWN,
                write=self._upload,
                shown=self._announced,
                cost=WRITE,
            ),
            "files.resume": Operation(
                OneFile,
                "how much of a file the server has, and where to send the rest",
                f'{announced} with "complete":true?',
                asks=_OWN,
                read=self._resume,
                cost=WRITE,
            ),
            "files.cancel": Operation(
                OneFile,
                "forget a file that was not sent",
                "{}",
                asks=_OWN,
                write=self._cancel,
                cost=WRITE,
            ),
            "files.link": Operation(
                FilesOfMessage,
                "addresses at which the files of a message are downloaded",
                '{"links":[{"file":str,"url":path}],"base":str?,"expires":s}',
                asks=_READS,
                read=self._link,
            ),
        }

    @property
    def _options(self) -> FilesOptions:
        return self._services.config().files

    async def _limits(self, session: Session, _: NoArguments) -> object:
        options, me = self._options, session.user.id
        if not options.on:
            return {"max_bytes": 0, "types": [], "quota_bytes": 0, "used_bytes": 0, "per_message": 0}
        used = await self._services.store.read(lambda tables: tables.files.used(me))
        limits = {
            "max_bytes": options.max_bytes,
            "types": list(options.types),
            "quota_bytes": options.quota_bytes,
            "used_bytes": used,
            "per_message": options.per_message,
        }
        return {**limits, **self._base()}

    # ---------------------------------------------------------------- uploads

    async def _upload(self, session: Session, arguments: Upload) -> Change[FileRow]:
        check_on(self._options)
        new = NewFile(
            id=secrets.token_urlsafe(16),
            owner=session.user.id,
            name=checked_name(arguments.name),
            size=arguments.size,
            media_type=checked_type(arguments.type),
            sha256=arguments.sha256.lower(),
        )
        return Change(lambda tables: self._uploads.begin(tables, new))

    def _announced(self, file: FileRow, offset: int = 0) -> dict[str, object]:
        path, expires_at = self._addresses.upload(file.id)
        return {"file": file.id, "url": path, **self._base(), "offset": offset, "expires": expires_at}

    async def _resume(self, session: Session, arguments: OneFile) -> object:
        check_on(self._options)
        file = await self._services.store.read(lambda tables: _own(tables, session, arguments.file))
        if file.state is not FileState.UPLOADING:
            return {**self._announced(file, file.size), "complete": True}
        return self._announced(file, await self._uploads.received(file))

    async def _cancel(self, session: Session, arguments: OneFile) -> Change[None]:
        check_on(self._options)
        file_id, me = arguments.file, session.user.id

        def write(tables: Tables) -> None:
            if not tables.files.cancel(file_id, me):
                raise Refused(ErrorCode.UNKNOWN_FILE)

        return Change(write)

    # ---------------------------------------------------------------- downloads

    async def _link(self, session: Session, arguments: FilesOfMessage) -> object:
        check_on(self._options)
        user, seq = session.user, arguments.seq

        def read(tables: Tables) -> Message | None:
            _, conversation = find_conversation(tables, user, arguments.place)
            page = own_messages(tables, user.id, conversation, Page(seq - 1, 0, 1)) if conversation else []
            return next((one for one in page if one.seq == seq), None)

        message = await self._services.store.read(read)
        found = self._recent.latest(message).attachments if message is not None else ()
        wanted = [one for one in found if arguments.file in (None, one.id)]
        if not wanted:
            raise Refused(ErrorCode.UNKNOWN_FILE)
        links: dict[FileId, Address] = {one.id: self._addresses.download(one) for one in wanted}
        shown = [{"file": file_id, "url": address.path} for file_id, address in links.items()]
        expires_at = min(address.expires_at for address in links.values())
        return {"links": shown, **self._base(), "expires": expires_at}

    def _base(self) -> dict[str, object]:
        base = self._addresses.base
        return {"base": base} if base else {}


def _own(tables: Tables, session: Session, file_id: FileId) -> FileRow:
    """Raises Refused UNKNOWN_FILE."""
    file = tables.files.find(file_id)
    if file is None or file.owner != session.user.id:
        raise Refused(ErrorCode.UNKNOWN_FILE)
    return file
