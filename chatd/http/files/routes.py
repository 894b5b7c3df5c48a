"""What is asked at the address of a file: how much of it has come, more of it, the file itself.

Owns: the routes below /files/, their headers.
Elsewhere: whether the address counts (http.files.requests), the content (core.uploads), the wire of it all
(docs/internals/files.md).
Fails: Refused, Unavailable.

Content is never executed. What a browser may show is a raster image whose content was found to be one; anything else
comes as an attachment of no type.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from http import HTTPStatus

import msgspec

from chatd.errors import ErrorCode, Refused
from chatd.files.contract import PIECE_BYTES, OffsetMismatch
from chatd.files.pictures import TYPES as PICTURES
from chatd.http.dispatch import Gone, media_type
from chatd.http.files.ranges import Unsatisfiable, disposition, is_known, part_of
from chatd.http.files.requests import HEADERS, NO_STORE, FileRequest, file_route
from chatd.http.problems import Answer, HttpRefused
from chatd.http.route import Streamed
from chatd.store.contract import FileRow, FileState, Tables

SENT_BYTES = 64 * 1024
"""Read and sent at once: what a download holds in memory while its client does not read."""
NO_TYPE = b"application/octet-stream"
UPLOAD_TYPE = b"application/offset+octet-stream"
_encode = msgspec.json.Encoder().encode


async def _to_upload(request: FileRequest) -> FileRow:
    """The file, if its owner may still act. Raises Refused UNKNOWN_FILE; Unavailable."""
    file_id = request.file_id

    def read(tables: Tables) -> FileRow | None:
        file = tables.files.find(file_id)
        owner = None if file is None else tables.accounts.find("", file.owner)
        return None if owner is None or owner.locked_at_ms else file

    file = await request.core.store.read(read)
    if file is None:
        raise Refused(ErrorCode.UNKNOWN_FILE)
    return file


# ---------------------------------------------------------------- uploading


async def status(request: FileRequest, _: None, __: None) -> Answer:
    """How much of it has come. Raises Refused, Unavailable."""
    file = await _to_upload(request)
    offset = await request.uploads.received(file)
    headers = [_offset(offset), (b"upload-length", b"%d" % file.size), (b"content-length", b"0"), NO_STORE, *HEADERS]
    return Answer(HTTPStatus.OK, headers, b"")


async def append(request: FileRequest, _: None, __: None) -> Answer:
    """More of it. Raises Refused, Unavailable, Gone: what has come before is kept."""
    if media_type(request.headers.get(b"content-type", b"")) != UPLOAD_TYPE:
        raise HttpRefused(ErrorCode.UNKNOWN_CONTENT_TYPE, f"the body must be {UPLOAD_TYPE.decode()}")
    given = request.headers.get(b"upload-offset", b"")
    if not given.isdigit() or len(given) > 18:
        raise HttpRefused(ErrorCode.BAD_FIELD, "Upload-Offset is missing, or is no number", field="Upload-Offset")
    file, offset = await _to_upload(request), int(given)
    with request.transfers.upload_of(file.owner):
        try:
            received = await request.uploads.received(file)
            if offset != received:
                raise OffsetMismatch(received)
            received = await _take(request, file, offset)
        except OffsetMismatch as mismatch:
            text = f"{mismatch.received} bytes have come, the body begins at {offset}"
            raise HttpRefused(ErrorCode.OFFSET_MISMATCH, text, headers=(_offset(mismatch.received),)) from None
        if received < file.size:
            return Answer(HTTPStatus.NO_CONTENT, [_offset(received), NO_STORE, *HEADERS], b"")
        file = await request.uploads.finish(file)
    body = _encode(file.attachment)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return Answer(HTTPStatus.OK, [*headers, _offset(received), NO_STORE, *HEADERS], body)


async def _take(request: FileRequest, file: FileRow, offset: int) -> int:
    """Append the body as it comes; returns the bytes that there are now. Raises OffsetMismatch, Refused FILE_TOO_LARGE,
    Unavailable, Gone."""
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Gone
        data, more = bytes(message["body"]), message["more_body"]
        for at in range(0, len(data), PIECE_BYTES):
            offset = await request.uploads.append(file, offset, data[at : at + PIECE_BYTES])
    return offset


def _offset(received: int) -> tuple[bytes, bytes]:
    return b"upload-offset", b"%d" % received


# ---------------------------------------------------------------- downloading


def is_shown(file: FileRow) -> bool:
    """Whether a browser may show it by itself: it was found to be a picture when it was complete."""
    return file.media_type in PICTURES


async def download(request: FileRequest, _: None, __: None) -> Answer | Streamed:
    """The file, or a part of it. Raises Refused, Unavailable."""
    file = await request.uploads.find(request.file_id)
    if file.state is FileState.UPLOADING:
        raise Refused(ErrorCode.UNKNOWN_FILE)
    tag = b'"%b"' % file.sha256.encode()
    lifetime_s = max(0, request.expires_at - int(time.time()))
    headers = [
        (b"etag", tag),
        (b"cache-control", b"private, max-age=%d" % lifetime_s),
        (b"accept-ranges", b"bytes"),
        *HEADERS,
    ]
    if is_known(request.headers, tag):
        return Answer(HTTPStatus.NOT_MODIFIED, headers, b"")
    try:
        start, end, is_whole = part_of(request.headers, file.size, tag)
    except Unsatisfiable:
        outside = [(b"content-range", b"bytes */%d" % file.size), (b"content-length", b"0"), *headers]
        return Answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, outside, b"")
    shown = is_shown(file)
    headers += [
        (b"content-type", file.media_type.encode() if shown else NO_TYPE),
        (b"content-length", b"%d" % (end - start)),
        (b"content-disposition", disposition("inline" if shown else "attachment", file.name)),
    ]
    if not is_whole:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, file.size)))
    status = HTTPStatus.OK if is_whole else HTTPStatus.PARTIAL_CONTENT
    if request.method == "HEAD":
        return Answer(status, headers, b"")
    first = await request.uploads.read(file, start, min(SENT_BYTES, end - start))
    return Streamed(status, headers, _parts(request, file, first, (start, end)))


async def _parts(request: FileRequest, file: FileRow, part: bytes, range_: tuple[int, int]) -> AsyncIterator[bytes]:
    """part: the first one, which has been read before the answer begins. Ends early when the client has gone."""
    at, end = range_
    while True:
        yield part
        at += len(part)
        if at >= end or not part or request.connection.closed:
            return
        part = await request.uploads.read(file, at, min(SENT_BYTES, end - at))


_UPLOAD, _DOWNLOAD = "/files/{id}", "/files/{id}/{name}"
ROUTES = (
    file_route("GET", _UPLOAD, status, "How much of a file has come (HEAD)."),
    file_route("PATCH", _UPLOAD, append, "More of a file."),
    file_route("GET", _DOWNLOAD, download, "A file."),
)
"""Served where files are. They are no part of the API: addresses are made by it, and by operations."""
