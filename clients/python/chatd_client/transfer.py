"""One call over HTTP for the content of a file: a piece to the server, or a piece from it.

Owns: Place, append(), fetch(). They block, for at most LIMIT_S without a byte: they are run in a thread.
Elsewhere: which piece, and what happens after a failure (files).
Fails: Broken where there is no answer that is understood; Refused with the server's code.
"""

from __future__ import annotations

import http.client
import ssl
import urllib.parse
from collections.abc import Mapping
from email.message import Message

import msgspec

from chatd_client.errors import Code, refusal
from chatd_client.model import Attachment

LIMIT_S = 120.0
ANSWER_BYTES = 64 * 1024
"""Of an answer that is no content, so much is read."""


class Broken(Exception):
    """Whether the server has got the piece is not known."""


class Place(msgspec.Struct, frozen=True):
    """An address of a file. context: with which https is spoken."""

    url: str
    context: ssl.SSLContext | None = None


class Appended(msgspec.Struct, frozen=True):
    """file: it is complete, and this is what recipients are told of it."""

    offset: int
    file: Attachment | None = None


class _Problem(msgspec.Struct):
    code: int = int(Code.UNAVAILABLE)
    detail: str = ""
    title: str = ""


def append(place: Place, offset: int, piece: bytes) -> Appended:
    """Raises Broken, Refused."""
    headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
    status, said, body = _call(place, "PATCH", headers, piece, ANSWER_BYTES)
    try:
        if status == 200:
            return Appended(offset + len(piece), msgspec.json.decode(body, type=Attachment))
        return Appended(int(said["Upload-Offset"]))
    except (KeyError, ValueError, msgspec.DecodeError) as error:
        raise Broken(f"an answer that is not understood: {error}") from None


def fetch(place: Place, first: int, last: int) -> bytes:
    """These bytes, the last one included. Raises Broken, Refused."""
    wanted = last - first + 1
    status, _, body = _call(place, "GET", {"Range": f"bytes={first}-{last}"}, None, wanted)
    if len(body) != wanted or (status == 200 and first > 0):
        raise Broken("an answer with another part of the file")
    return body


def _call(
    place: Place, method: str, headers: Mapping[str, str], body: bytes | None, most: int
) -> tuple[int, Message, bytes]:
    """The status, the headers, and at most so many bytes."""
    url = urllib.parse.urlsplit(place.url)
    host, port = url.hostname or "", url.port
    if url.scheme == "https":
        link: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=LIMIT_S, context=place.context
        )
    else:
        link = http.client.HTTPConnection(host, port, timeout=LIMIT_S)
    try:
        link.request(method, f"{url.path}?{url.query}", body, dict(headers))
        answer = link.getresponse()
        if answer.status >= 300:
            problem = _problem(answer.read(ANSWER_BYTES))
            raise refusal(problem.code, problem.detail or problem.title or answer.reason)
        return answer.status, answer.headers, answer.read(most)
    except (OSError, http.client.HTTPException) as error:
        raise Broken(str(error) or type(error).__name__) from None
    finally:
        link.close()


def _problem(body: bytes) -> _Problem:
    try:
        return msgspec.json.decode(body, type=_Problem)
    except msgspec.DecodeError:
        return _Problem()  # of a proxy
