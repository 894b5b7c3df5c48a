"""Requests to the server on the chatserver wire: REQUEST, ANSWER and NOTICE, for clients whose LOGIN asked for them.

Owns: the fields of these frames, and what a request looks like to core: the same JSON text as on the mobileimsdk wire.
Elsewhere: the operations (core.requests), which client may send and is sent these frames (wire.chatserver.codec).
Fails: never. A frame for the client is a whole frame with its NUL, of at most `limit` bytes.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from chatd.errors import ErrorCode, meaning
from chatd.protocol import Draining, Failed, Malformed, Ref, ServerMessage, ServerRequest
from chatd.texts.sizes import over
from chatd.wire.chatserver import encode
from chatd.wire.json_stream import decode_fields, fit

TEXT_ROOM_BYTES = 24
"""What a frame has besides the text of a ServerMessage, at most: the msgid, the NUL, and a margin."""
_NOT_OF_THE_REQUEST = ("msgid", "fp")
"""Fields of the frame; the rest are those of the request."""

_encode = msgspec.json.Encoder().encode


class RequestFrame(Struct, gc=False, tag_field="msgid", tag=encode.REQUEST):
    """What must be right for core to be asked at all. The other fields are read by the operation."""

    op: str
    fp: str | None = None

    def command(self, body_bytes: int, fp_bytes: int) -> Malformed:
        """To a client that has not asked for requests, this number is unknown."""
        return Malformed(ErrorCode.UNKNOWN_REQUEST, "unknown msgid", encode.REQUEST)

    def request(self, frame: bytes, body_bytes: int, fp_bytes: int) -> ServerRequest | Malformed:
        """frame: the JSON that this was decoded from."""
        fp = self.fp or ""
        if over(fp, fp_bytes):
            return Malformed(ErrorCode.TOO_LONG, "fp too long", encode.REQUEST, fp)
        fields = decode_fields(frame)
        for name in _NOT_OF_THE_REQUEST:
            fields.pop(name, None)
        body = _encode(fields).decode()
        if over(body, body_bytes):
            return Malformed(ErrorCode.TOO_LONG, f"too long, the limit is {body_bytes} bytes", encode.REQUEST, fp)
        return ServerRequest(body, fp, qos=bool(fp))


def server_message(event: ServerMessage, limit: int) -> bytes:
    """ANSWER or NOTICE. A text that is not a JSON object, which only a plug-in sends, becomes the field `text`."""
    msgid = encode.ANSWER if event.is_answer else encode.NOTICE
    try:
        fields = decode_fields(event.body)
    except (ValueError, RecursionError):
        return fit(lambda text: encode.frame(_wrapped(event, msgid, text)), event.body, limit)
    fields.pop("msgid", None)
    if event.is_answer:
        fields.setdefault("ref", Raw(_encode(event.ref)))
    return encode.frame({"msgid": msgid, **fields})


def _wrapped(event: ServerMessage, msgid: int, text: str) -> dict[str, object]:
    if event.is_answer:
        return {"msgid": msgid, "ref": event.ref, "ok": True, "result": {"text": text}}
    return {"msgid": msgid, "event": "text", "text": text}


def refused(command: ServerRequest, event: Failed, limit: int) -> bytes:
    """ANSWER to a request that never reached its operation."""
    code = int(event.code)

    def content(text: str) -> dict[str, object]:
        error = {"code": code, "text": text, "temporary": meaning(code).temporary}
        return {"msgid": encode.ANSWER, "ref": _ref_of(command), "ok": False, "error": error}

    return fit(lambda text: encode.frame(content(text)), event.text, limit)


def draining(event: Draining) -> bytes:
    when = {"resume_before": event.resume_before_ms, "retry_after_ms": event.retry_after_ms}
    return encode.frame({"msgid": encode.NOTICE, "event": "draining", **when})


class _HasRef(Struct, gc=False):
    """A longer ref is refused by every operation, so it is not repeated here either."""

    ref: Annotated[str, Meta(max_length=64)] | int | None = None


_decode_ref = msgspec.json.Decoder(_HasRef).decode


def _ref_of(command: ServerRequest) -> Ref:
    try:
        return _decode_ref(command.body).ref
    except (ValueError, RecursionError):
        return None
