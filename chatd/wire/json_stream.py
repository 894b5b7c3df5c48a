"""JSON in a stream: where one object ends and the next begins, what is wrong with one, and cutting a text to fit.

Owns: ObjectSplitter for objects that follow each other in a stream, the test for deep nesting, distinguishing garbage
from a wrong field, fit().
Elsewhere: the meaning of a frame (wire.chatserver.codec, wire.mobileimsdk.codec).
Fails: WireError for bytes that cannot be a frame.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec
from msgspec import Raw

from chatd.errors import ErrorCode, WireError
from chatd.wire.codec_state import SplitterState

MAX_NESTING = 16
ELLIPSIS = "…"

_STRUCTURE = re.compile(rb'[\x00"{}\[\]]')
_IN_STRING = re.compile(rb'[\x00"\\]')
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[{}\[\]]")
_BETWEEN = re.compile(rb"[ \t\r\n\x00]*")
_NUL, _QUOTE, _BACKSLASH, _BRACE = b'\0"\\{'
_OPENING = b"{["
_BRACKET = ord("[")

decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_int = msgspec.json.Decoder(int).decode
_decode_str = msgspec.json.Decoder(str).decode


def too_deep(frame: bytes) -> bool:
    """Whether the JSON in `frame` nests deeper than MAX_NESTING. Linear; cheap for a flat object."""
    if frame.find(b"{", 1) < 0 and _BRACKET not in frame:
        return False
    if frame.count(b"{") + frame.count(b"[") <= MAX_NESTING:
        return False
    depth = 0
    for bracket in _BRACKETS.findall(_STRING.sub(b"", frame)):
        depth += 1 if bracket in _OPENING else -1
        if depth > MAX_NESTING:
            return True
    return False


def fields_of(frame: bytes) -> dict[str, Raw]:
    """The fields of the object in a frame that a typed decoder has refused. Raises WireError if it holds no object."""
    try:
        return decode_fields(frame)
    except (ValueError, RecursionError) as error:
        raise WireError(ErrorCode.INVALID_PACKET, "not a JSON object") from error


def as_int(field: Raw | None) -> int | None:
    """The integer in a field; None for anything else."""
    try:
        return None if field is None else _decode_int(field)
    except ValueError:
        return None


def as_str(field: Raw | None) -> str:
    """The string in a field; "" for anything else."""
    try:
        return "" if field is None else _decode_str(field)
    except ValueError:
        return ""


def check_utf8(frame: bytes) -> None:
    """Raises WireError unless all of `frame` is UTF-8 (decoders do not look into fields they skip)."""
    if not frame.isascii():
        try:
            frame.decode()
        except UnicodeDecodeError as error:
            raise WireError(ErrorCode.INVALID_PACKET, "not UTF-8") from error


def fit(make: Callable[[str], bytes], text: str, limit: int) -> bytes:
    """make(text), or make of its longest beginning plus "…" that gives at most `limit` bytes.

    Never cuts inside a character. When not even "…" fits, make(""), which may still be too long.
    """
    whole = make(text)
    if len(whole) <= limit:
        return whole
    best, fits, too_long = make(""), 0, len(text)
    while fits < too_long:
        middle = (fits + too_long) // 2
        attempt = make(text[:middle] + ELLIPSIS)
        if len(attempt) <= limit:
            best, fits = attempt, middle + 1
        else:
            too_long = middle
    return best


class ObjectSplitter:
    """Splits a stream into JSON objects, at each NUL or at the end of a complete top-level object.

    limit: bytes of one object; may be changed between two calls of split(). At most that much is held, plus one read.
    White space and NULs between objects are skipped. It remembers how far it has looked, so the cost is linear in the
    bytes however they are cut into reads: _rest is the incomplete object, and its first _seen bytes have been scanned,
    to nesting depth _depth, _in_string or not.
    """

    __slots__ = ("_depth", "_in_string", "_rest", "_seen", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rest: bytes | bytearray = b""
        self._seen = 0
        self._depth = 0
        self._in_string = False

    @property
    def buffered_bytes(self) -> int:
        """Bytes held of an incomplete object."""
        return len(self._rest)

    def state(self) -> SplitterState:
        """Of the incomplete object."""
        return SplitterState(rest=bytes(self._rest), seen=self._seen, depth=self._depth, in_string=self._in_string)

    def resume(self, state: SplitterState) -> None:
        """Go on where another splitter was."""
        self._rest = bytearray(state.rest) if state.rest else b""
        self._seen, self._depth, self._in_string = state.seen, state.depth, state.in_string

    def split(self, data: bytes) -> Iterator[bytes]:
        """Frames of at most `limit` bytes that begin with "{" and are never too deep. They need not be JSON: a NUL may
        have cut one short.

        Raises:
            WireError: no object begins here, or one is too long or too deep.
        """
        buffer = self._rest
        if buffer:
            buffer += data
        else:
            buffer = data
        self._rest = b""
        start, end = 0, len(buffer)
        while True:
            start = self._start(buffer, start)
            if start == end:
                return
            stop = self._stop(buffer, start)
            if stop < 0:
                break
            self._seen = self._depth = 0
            self._in_string = False
            yield bytes(buffer[start:stop])
            start = stop
        self._rest = buffer if start == 0 and isinstance(buffer, bytearray) else bytearray(buffer[start:])

    @staticmethod
    def _start(buffer: bytes | bytearray, start: int) -> int:
        between = _BETWEEN.match(buffer, start)
        assert between is not None
        start = between.end()
        if start < len(buffer) and buffer[start] != _BRACE:
            raise WireError(ErrorCode.INVALID_PACKET, "not a JSON object")
        return start

    def _stop(self, buffer: bytes | bytearray, start: int) -> int:
        """Index after the frame that begins at `start`; -1 when it is not complete."""
        stop = self._plain_stop(buffer, start) if self._seen == 0 else -1
        if stop < 0:
            stop = self._scan(buffer, start)
        if (stop if stop >= 0 else len(buffer)) - start > self.limit:
            raise WireError(ErrorCode.TOO_LONG, f"frame too long, the limit is {self.limit} bytes")
        return stop

    @staticmethod
    def _plain_stop(buffer: bytes | bytearray, start: int) -> int:
        """The usual frame found without a scan: its first "}" is followed by NUL, and it has no array."""
        stop = buffer.find(b"}", start) + 1
        if 0 < stop < len(buffer) and buffer[stop] == _NUL:
            plain = buffer.find(b"\0", start, stop) < 0 and buffer.find(b"[", start, stop) < 0
            return stop if plain and buffer.find(b"{", start + 1, stop) < 0 else -1
        return -1

    def _scan(self, buffer: bytes | bytearray, start: int) -> int:
        """As _stop, from where the last scan ended; on -1 remembers where this one did."""
        at, end, depth, in_string = start + self._seen, len(buffer), self._depth, self._in_string
        while at < end:
            match = (_IN_STRING if in_string else _STRUCTURE).search(buffer, at)
            if match is None:
                at = end
                break
            at = match.start() + 1
            byte = buffer[at - 1]
            if byte == _NUL:
                return at - 1
            if byte == _QUOTE:
                in_string = not in_string
            elif byte == _BACKSLASH:
                if at == end:
                    at -= 1
                    break
                at += buffer[at] != _NUL
            elif byte in _OPENING:
                depth += 1
                if depth > MAX_NESTING:
                    raise WireError(ErrorCode.INVALID_PACKET, "nested too deep")
            else:
                depth -= 1
                if depth == 0:
                    return at
        self._seen, self._depth, self._in_string = at - start, depth, in_string
        return -1
