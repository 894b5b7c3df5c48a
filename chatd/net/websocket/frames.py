"""What travels in a WebSocket: frames, cut and made (RFC 6455, section 5).

Owns: Frames, which makes messages and control frames of a client's bytes; the frames a server sends.
Elsewhere: the HTTP request before them (net.websocket.handshake), what they mean to a connection
(net.websocket.connection).
Fails: FrameError with the close code that tells the client why.

An ordinary message, one text frame, is on the hot path: about 1 µs. Everything else is checked by the library
(docs/decisions/0006-websocket-library.md).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode

from chatd.errors import ErrorCode, WireError

try:
    from websockets.speedups import apply_mask
except ImportError:  # the library was installed without its compiled part
    from websockets.utils import apply_mask

MAX_FRAME_BYTES = 65_536
"""Of a client's message, unless the listener says otherwise."""

_WHOLE_TEXT = 0x81
_MASKED = 0x80
_CONTROL_BYTES = 125


class CloseCode(enum.IntEnum):
    """RFC 6455, section 7.4. chatd's own begin at 4000."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    INVALID_DATA = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    KICKED_DUPLICATE = 4001
    KICKED_BY_ADMIN = 4002
    LOGIN_REFUSED = 4003
    NOT_LOGGED_IN = 4004
    SILENT = 4005
    SLOW_CONSUMER = 4006
    LOGIN_TIMEOUT = 4007
    REPLACED = 4008


class FrameError(WireError):
    """A frame that may not be: told to the peer, then the connection is closed with close_code."""

    def __init__(self, close_code: CloseCode, text: str) -> None:
        super().__init__(ErrorCode.TOO_LONG if close_code == CloseCode.TOO_BIG else ErrorCode.INVALID_PACKET, text)
        self.close_code = close_code


class Frames:
    """One client's frames. Holds the bytes of an incomplete message, at most limit, plus one read."""

    __slots__ = ("_fragments", "_limit", "_rest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest: bytes | bytearray = b""
        self._fragments: bytearray | None = None

    def receive(self, data: bytes) -> Iterator[tuple[Opcode, bytes]]:
        """Whole messages (TEXT), PING and CLOSE, in order; PONG is of no interest. Raises FrameError at what may not
        be, after what came before it."""
        if self._rest:
            self._rest += data
            data = bytes(self._rest) if self._is_whole() else b""
        at, end = 0, len(data)
        while end - at >= 2:
            size, head = self._header(data, at, end)
            stop = at + head + size
            if not head or stop > end:
                break
            first = data[at]
            payload = apply_mask(data[at + head : stop], data[at + head - 4 : at + head])
            at = stop
            if first == _WHOLE_TEXT and self._fragments is None:
                yield Opcode.TEXT, payload
                continue
            opcode, payload = self._uncommon(first, payload)
            if opcode is not Opcode.CONT:
                yield opcode, payload
        if at < end:
            self._rest = bytearray(data[at:])
        elif data:
            self._rest = b""

    def _is_whole(self) -> bool:
        """Whether a frame is complete in what is left over, so that a slow one is not copied at each read."""
        size, head = self._header(self._rest, 0, len(self._rest)) if len(self._rest) >= 2 else (0, 0)
        return head > 0 and len(self._rest) >= head + size

    def _header(self, data: bytes | bytearray, at: int, end: int) -> tuple[int, int]:
        """(bytes of payload, bytes of header) of the frame at `at`; header 0 while it is incomplete."""
        second = data[at + 1]
        if second < _MASKED:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a client must mask its frames")
        size, head = second - _MASKED, 6
        if size > _CONTROL_BYTES:
            head = 8 if size == 126 else 14
            if end - at < head:
                return 0, 0
            size = int.from_bytes(data[at + 2 : at + head - 4], "big")
        if size > self._limit:
            raise FrameError(CloseCode.TOO_BIG, "message too long")
        return size, head

    def _uncommon(self, first: int, payload: bytes) -> tuple[Opcode, bytes]:
        """A fragment or a control frame. CONT: nothing is complete."""
        try:
            opcode = Opcode(first & 15)
            reserved = (bool(first & bit) for bit in (0x40, 0x20, 0x10))
            Frame(opcode, payload, first >= 0x80, *reserved).check()
        except (ValueError, ProtocolError) as error:
            raise FrameError(CloseCode.PROTOCOL_ERROR, str(error)) from None
        if opcode is Opcode.PING or opcode is Opcode.CLOSE:
            return opcode, payload
        if opcode is Opcode.PONG:
            return Opcode.CONT, b""
        return self._fragment(opcode, payload, first >= 0x80)

    def _fragment(self, opcode: Opcode, payload: bytes, last: bool) -> tuple[Opcode, bytes]:
        if opcode is Opcode.BINARY:
            raise FrameError(CloseCode.UNSUPPORTED, "text frames only")
        fragments = self._fragments
        if (opcode is Opcode.CONT) is (fragments is None):
            raise FrameError(CloseCode.PROTOCOL_ERROR, "fragments out of order")
        if fragments is None:
            fragments = self._fragments = bytearray()
        fragments += payload
        if len(fragments) > self._limit:
            raise FrameError(CloseCode.TOO_BIG, "message too long")
        if not last:
            return Opcode.CONT, b""
        self._fragments = None
        return Opcode.TEXT, bytes(fragments)


def text(payload: bytes) -> bytes:
    """One text frame."""
    size = len(payload)
    if size < 126:
        return bytes((_WHOLE_TEXT, size)) + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def pong(payload: bytes) -> bytes:
    return bytes((0x80 | Opcode.PONG, len(payload))) + payload


def close(code: int, reason: str) -> bytes:
    """reason: at most 123 bytes."""
    payload = code.to_bytes(2, "big") + reason.encode()
    return bytes((0x80 | Opcode.CLOSE, len(payload))) + payload


def code_of(payload: bytes) -> int:
    """What a client's close frame is answered with: its own code. Raises FrameError for one that may not be sent."""
    try:
        code = Close.parse(payload).code
    except ProtocolError as error:
        raise FrameError(CloseCode.PROTOCOL_ERROR, str(error)) from None
    except UnicodeDecodeError:
        raise FrameError(CloseCode.INVALID_DATA, "not UTF-8") from None
    return int(code) if payload else CloseCode.NORMAL
