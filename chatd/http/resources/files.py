"""/v1/files: announcing a file in a user's name, and finding one.

Owns: the inputs and outputs of these routes.
Elsewhere: the rules (core.requests.files), uploading and downloading at the addresses (http.files), sending a file
(http.messages).
Fails: Refused, Unavailable.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta

from chatd.core.requests.files import Id, check_on
from chatd.errors import ErrorCode, Refused
from chatd.http.call import Call
from chatd.http.messages import UserRef
from chatd.http.route import NoInput, Route
from chatd.store.contract import FileRow, FileState, Tables

_Path = Annotated[str, Meta(description="a path on a listener that serves files, with everything that is needed there")]
_Base = Annotated[
    str | None, Meta(description="what is to be put before the path, as files.url says; null: that is not configured")
]
_Expires = Annotated[int, Meta(description="until when the address counts, seconds since the epoch")]


class NewFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that will be uploaded."""

    owner: Annotated[UserRef, Meta(description="the user in whose name it will be sent")]
    name: Annotated[str, Meta(min_length=1, max_length=4096, description="directories in it are left out")]
    size: Annotated[int, Meta(ge=1, lt=1 << 53, description="in bytes, at most files.max_bytes")]
    type: Annotated[str, Meta(max_length=255, description="a media type that files.types admits")] = ""
    sha256: Annotated[
        str, Meta(pattern=r"^([0-9a-fA-F]{64})?$", description="of the content, which is refused if it has another one")
    ] = ""


class AnnouncedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file whose content is expected: by PATCH at `url`, from `offset` on."""

    id: Annotated[str, Meta(description="by which a message names it")]
    url: _Path
    base: _Base = None
    offset: Annotated[int, Meta(description="bytes that have come")]
    expires: _Expires


class OneFile(msgspec.Struct, frozen=True):
    """The path of a file."""

    id: Id


class KnownFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file. width, height: of a picture as it is shown, in pixels; 0: not known."""

    id: str
    owner: Annotated[int, Meta(description="the id of its user")]
    name: str
    size: int
    type: str
    width: int
    height: int
    complete: Annotated[bool, Meta(description="all of it has come; otherwise it has no url")]
    conversation: Annotated[int | None, Meta(description="of the message that sent it; null: it was not sent")]
    seq: Annotated[int | None, Meta(description="of that message")]
    url: _Path | None
    base: _Base
    expires: _Expires | None


class _Announced(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of the operation."""

    file: str
    url: str
    base: str | None = None
    offset: int
    expires: int


async def announce(call: Call, _: NoInput, new: NewFile) -> AnnouncedFile:
    caller = await call.caller(new.owner, "$.owner")
    arguments = {"name": new.name, "size": new.size, "type": new.type, "sha256": new.sha256}
    made = await call.calls.operate(caller, "files.upload", arguments, _Announced, call.fp)
    return AnnouncedFile(id=made.file, url=made.url, base=made.base, offset=made.offset, expires=made.expires)


async def find(call: Call, at: OneFile, _: NoInput) -> KnownFile:
    check_on(call.config.files)

    def read(tables: Tables) -> FileRow | None:
        return tables.files.find(at.id)

    file = await call.core.store.read(read)
    if file is None:
        raise Refused(ErrorCode.UNKNOWN_FILE)
    addresses, is_sent, is_complete = call.core.file_addresses, bool(file.seq), file.state is not FileState.UPLOADING
    address = addresses.download(file.attachment) if is_complete else None
    return KnownFile(
        id=file.id,
        owner=file.owner,
        name=file.name,
        size=file.size,
        type=file.media_type,
        width=file.width,
        height=file.height,
        complete=is_complete,
        conversation=file.conversation if is_sent else None,
        seq=file.seq if is_sent else None,
        url=None if address is None else address.path,
        base=addresses.base or None,
        expires=None if address is None else address.expires_at,
    )


ROUTES = (
    Route(
        method="POST",
        path="/v1/files",
        scope="messages:write",
        handler=announce,
        text="Announce a file of a user; its content is then sent to the address in the answer.",
        input=NewFile,
        output=AnnouncedFile,
        status=HTTPStatus.CREATED,
        refusals=(
            ErrorCode.UNKNOWN_RECIPIENT,
            ErrorCode.ACCOUNT_LOCKED,
            ErrorCode.NOT_ALLOWED,
            ErrorCode.FILE_TYPE_NOT_ALLOWED,
            ErrorCode.FILE_TOO_LARGE,
            ErrorCode.QUOTA_REACHED,
            ErrorCode.FP_REUSED,
        ),
        idempotent=True,
    ),
    Route(
        method="GET",
        path="/v1/files/{id}",
        scope="messages:read",
        handler=find,
        text="A file, and an address at which it is downloaded.",
        parameters=OneFile,
        output=KnownFile,
        refusals=(ErrorCode.UNKNOWN_FILE, ErrorCode.NOT_ALLOWED),
    ),
)
