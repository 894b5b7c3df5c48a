"""WebSocket frames: reading and making them (RFC 6455, section 5).

Owns: FrameReader, which turns a client's bytes into messages and control frames; the frames a server sends.
Elsewhere: the HTTP request before them (net.websocket.handshake), acting on them (net.websocket.connection), messages
over the limit (wire.skipped).
Fails: FrameError with the close code that tells the client why.

An ordinary message, one text frame, is on the hot path: about 1 µs. Everything else is checked by the library
(docs/decisions/0006-websocket-library.md).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec
from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode

from chatd.errors import ErrorCode, WireError
from chatd.protocol import Malformed
from chatd.wire.codec_state import SkipperState
from chatd.wire.skipped import FrameSkipper

try:
    from websockets.speedups import apply_mask
except ImportError:  # the library was installed without its compiled part
    from websockets.utils import apply_mask

MAX_FRAME_BYTES = 65_536
"""The limit of a client's message, unless listen.max_frame_bytes says otherwise."""

_WHOLE_TEXT = 0x81
_LAST = 0x80
"""Bit of the first byte: the message ends with this frame."""
_ANY_BUT_LAST = 0x7F
_MASKED = 0x80
"""Bit of the second byte."""
_NO_MASK = bytes(4)
_CONTROL_BYTES = 125

FoundFrame = tuple[Opcode, bytes] | Malformed
"""(TEXT, a whole message), (PING or CLOSE, its payload), or a message over the limit, which was skipped."""


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
    CREDENTIALS_CHANGED = 4009
    TOO_MANY_ATTEMPTS = 4010
    TOKEN_EXPIRED = 4011


class FrameError(WireError):
    """A frame that is not allowed: told to the peer, then the connection is closed with close_code."""

    def __init__(self, close_code: CloseCode, text: str) -> None:
        super().__init__(ErrorCode.TOO_LONG if close_code == CloseCode.TOO_BIG else ErrorCode.INVALID_PACKET, text)
        self.close_code = close_code


class _LongMessage:
    """A message over the limit, which is skipped frame by frame. left: bytes of the current frame still to come.
    ended: its last frame has ended."""

    __slots__ = ("_is_last", "_mask", "_skipper", "left")

    def __init__(self, skipper: FrameSkipper) -> None:
        self.left = 0
        self._skipper = skipper
        self._mask = b""
        self._is_last = False

    @property
    def ended(self) -> bool:
        return self._is_last and not self.left

    def begin_frame(self, size: int, mask: bytes, *, is_last: bool) -> None:
        """Raises FrameError if too much would be skipped."""
        if not self._skipper.allow(size):
            raise FrameError(CloseCode.TOO_BIG, "message too long")
        self.left, self._mask, self._is_last = size, mask, is_last

    def state(self) -> LongMessageState:
        return LongMessageState(left=self.left, mask=bytes(self._mask), is_last=self._is_last)

    def resume(self, state: LongMessageState) -> None:
        """Go on in the middle of a frame that the skipper has counted already."""
        self.left, self._mask, self._is_last = state.left, state.mask, state.is_last

    def take(self, data: bytes, at: int) -> int:
        """Skip the part of the frame that begins at `at`. Returns where it ends."""
        piece = data[at : at + self.left]
        self._skipper.skip(apply_mask(piece, self._mask))
        self.left -= len(piece)
        turn = len(piece) % len(self._mask)
        self._mask = self._mask[turn:] + self._mask[:turn]
        return at + len(piece)


class LongMessageState(msgspec.Struct, frozen=True, kw_only=True):
    """Of a message over the limit that is being skipped: see _LongMessage."""

    left: int
    mask: bytes
    is_last: bool


class FrameReaderState(msgspec.Struct, frozen=True, kw_only=True):
    """What another reader needs to go on with a client: see FrameReader. fragments: None between messages."""

    rest: bytes = b""
    fragments: bytes | None = None
    long: LongMessageState | None = None
    skipper: SkipperState | None = None


class FrameReader:
    """Reads one client's frames. Holds the bytes of an incomplete message: at most `limit`, plus one read.

    limit: bytes of a message; it may be raised between two messages. skips: messages over the limit are skipped, within
    the bounds of wire.skipped; otherwise they are a FrameError.
    _fragments: payload of a message that is not complete yet, None between messages. _long: that message, once it is
    over the limit; its payload is not kept. _skipper: None until the first message over the limit.
    """

    __slots__ = ("_fragments", "_long", "_rest", "_skipper", "limit", "skips")

    def __init__(self, limit: int) -> None:
        self.skips = False
        self.limit = limit
        self._rest: bytes | bytearray = b""
        self._fragments: bytearray | None = None
        self._long: _LongMessage | None = None
        self._skipper: FrameSkipper | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes held of an incomplete frame."""
        return len(self._rest) + (self._skipper.buffered_bytes if self._skipper is not None else 0)

    @property
    def fragment_bytes(self) -> int:
        """Bytes held of the frames of an incomplete message."""
        return len(self._fragments or b"")

    def state(self) -> FrameReaderState:
        """Of the incomplete message, for a client that moves to another worker."""
        return FrameReaderState(
            rest=bytes(self._rest),
            fragments=None if self._fragments is None else bytes(self._fragments),
            long=self._long.state() if self._long is not None else None,
            skipper=self._skipper.state() if self._skipper is not None else None,
        )

    def resume(self, state: FrameReaderState) -> None:
        """Go on with a client of another reader. To be called before receive()."""
        self._rest = bytearray(state.rest) if state.rest else b""
        self._fragments = None if state.fragments is None else bytearray(state.fragments)
        self._skipper = FrameSkipper.resumed(state.skipper) if state.skipper is not None else None
        self._long = None
        if state.long is not None and self._skipper is not None:
            self._long = _LongMessage(self._skipper)
            self._long.resume(state.long)

    def next_second(self) -> None:
        """To be called once a second: messages may be skipped again."""
        if self._skipper is not None:
            self._skipper.next_second()

    def receive(self, data: bytes) -> Iterator[FoundFrame]:
        """The messages and control frames that are complete, in order.

        Raises:
            FrameError: at a frame that is not allowed, after everything before it was yielded.
        """
        if self._rest:
            self._rest += data
            data = bytes(self._rest) if self._is_complete() else b""
        at, end = 0, len(data)
        if self._long is not None and self._long.left:
            at = self._long.take(data, 0)
            if self._long.ended:
                yield self._end_long()
        while end - at >= 2:
            size, head = self._header(data, at, end)
            stop = at + head + size
            if size > self.limit:
                at = self._long_frame(data, at, size, head)
                if self._long is not None and self._long.ended:
                    yield self._end_long()
                continue
            if not head or stop > end:
                break
            first = data[at]
            payload = apply_mask(data[at + head : stop], data[at + head - 4 : at + head])
            at = stop
            if first == _WHOLE_TEXT and self._fragments is None:
                yield Opcode.TEXT, payload
            elif (found := self._uncommon(first, payload)) is not None:
                yield found
        if at < end:
            self._rest = bytearray(data[at:])
        elif data:
            self._rest = b""

    def _is_complete(self) -> bool:
        """Whether a frame in what is left over can be served, so that a slow one is not copied at each read."""
        size, head = self._header(self._rest, 0, len(self._rest)) if len(self._rest) >= 2 else (0, 0)
        return head > 0 and (size > self.limit or len(self._rest) >= head + size)

    def _header(self, data: bytes | bytearray, at: int, end: int) -> tuple[int, int]:
        """(bytes of payload, bytes of header) of the frame at `at`; (0, 0) while the header is incomplete."""
        second = data[at + 1]
        if second < _MASKED:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a client must mask its frames")
        size, head = second - _MASKED, 6
        if size > _CONTROL_BYTES:
            head = 8 if size == 126 else 14
            if end - at < head:
                return 0, 0
            size = int.from_bytes(data[at + 2 : at + head - 4], "big")
        if size > self.limit and not self.skips:
            raise FrameError(CloseCode.TOO_BIG, "message too long")
        return size, head

    # ---------------------------------------------------------------- messages over the limit

    def _long_frame(self, data: bytes, at: int, size: int, head: int) -> int:
        """Skip the available part of a frame over the limit. Returns where it ends."""
        first = data[at]
        if first & _ANY_BUT_LAST not in (Opcode.TEXT, Opcode.CONT):
            raise FrameError(CloseCode.TOO_BIG, "message too long")
        if (first & _ANY_BUT_LAST == Opcode.CONT) is (self._fragments is None):
            raise FrameError(CloseCode.PROTOCOL_ERROR, "fragments out of order")
        message = self._long or self._begin_long()
        message.begin_frame(size, data[at + head - 4 : at + head], is_last=first >= _LAST)
        return message.take(data, at + head)

    def _begin_long(self) -> _LongMessage:
        """The message that has begun, or begins now, is over the limit."""
        if self._skipper is None:
            self._skipper = FrameSkipper()
        self._long = _LongMessage(self._skipper)
        before, self._fragments = self._fragments, bytearray()
        if before:
            self._long.begin_frame(len(before), _NO_MASK, is_last=False)
            self._long.take(bytes(before), 0)
        return self._long

    def _end_long(self) -> Malformed:
        assert self._skipper is not None
        self._long = self._fragments = None
        return self._skipper.finish(self.limit)

    # ---------------------------------------------------------------- fragments and control frames

    def _uncommon(self, first: int, payload: bytes) -> FoundFrame | None:
        """A fragment or a control frame. None: nothing is complete."""
        is_last = first >= _LAST
        try:
            opcode = Opcode(first & 15)
            reserved = (bool(first & bit) for bit in (0x40, 0x20, 0x10))
            Frame(opcode, payload, is_last, *reserved).check()
        except (ValueError, ProtocolError) as error:
            raise FrameError(CloseCode.PROTOCOL_ERROR, str(error)) from None
        if opcode is Opcode.PING or opcode is Opcode.CLOSE:
            return opcode, payload
        if opcode is Opcode.PONG:
            return None
        if opcode is Opcode.BINARY:
            raise FrameError(CloseCode.UNSUPPORTED, "text frames only")
        if (opcode is Opcode.CONT) is (self._fragments is None):
            raise FrameError(CloseCode.PROTOCOL_ERROR, "fragments out of order")
        return self._fragment(payload, is_last=is_last)

    def _fragment(self, payload: bytes, *, is_last: bool) -> FoundFrame | None:
        fragments = self._fragments
        if fragments is None:
            fragments = self._fragments = bytearray()
        if len(fragments) + len(payload) > self.limit and not self.skips:
            raise FrameError(CloseCode.TOO_BIG, "message too long")
        if self._long is not None or len(fragments) + len(payload) > self.limit:
            message = self._long or self._begin_long()
            message.begin_frame(len(payload), _NO_MASK, is_last=is_last)
            message.take(payload, 0)
            return self._end_long() if is_last else None
        fragments += payload
        if not is_last:
            return None
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
    """The code that a client's close frame is answered with: its own. Raises FrameError if it is not allowed."""
    try:
        code = Close.parse(payload).code
    except ProtocolError as error:
        raise FrameError(CloseCode.PROTOCOL_ERROR, str(error)) from None
    except UnicodeDecodeError:
        raise FrameError(CloseCode.INVALID_DATA, "not UTF-8") from None
    return int(code) if payload else CloseCode.NORMAL
