"""Frames over a connection's limit: refused one by one, without ending the connection.

Owns: FrameSkipper, which skips the bytes of such a frame, finds its fp so that the client can be told which
message was refused, and bounds what a client may have skipped.
Elsewhere: where a frame begins and ends (wire.mobileimsdk.codec for TCP, net.websocket.frames for WebSocket).
Fails: never; a frame over the bounds here is not allowed, and the caller ends the connection.

COMPAT: stock MobileIMSDK clients. They send a message again until it is answered, on a new connection if need be, so
ending the connection for a long message would end it for good.
"""

from __future__ import annotations

import re

import msgspec

from chatd.errors import ErrorCode
from chatd.protocol import Malformed
from chatd.wire.codec_state import SkipperState

MAX_SKIPPED_FRAME_BYTES = 1024 * 1024
MAX_SKIPPED_BYTES_PER_S = 2 * 1024 * 1024
_SEARCH_BYTES = 4096
"""Bytes collected before they are searched, so that the cost is linear in the bytes however they arrive."""
_KEPT_BYTES = 1024
"""Bytes searched again with those after them; a longer fp that is cut by a search is not found."""

_FP = re.compile(rb'"fp"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")', re.DOTALL)
"""The field in a JSON object. It cannot match inside a string, where the quotes are escaped."""
_decode_str = msgspec.json.Decoder(str).decode


class FrameSkipper:
    """left: bytes of the current frame that are still to come, 0 = no current frame."""

    __slots__ = ("_bytes_this_second", "_fp", "_unsearched", "left")

    def __init__(self) -> None:
        self.left = 0
        self._bytes_this_second = 0
        """Bytes allowed to be skipped in the current second."""
        self._fp = ""
        self._unsearched = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes held to be searched."""
        return len(self._unsearched)

    def allow(self, size: int) -> bool:
        """Whether `size` more bytes of this connection may be skipped now; if so, they are counted and expected."""
        if self.left + size > MAX_SKIPPED_FRAME_BYTES or self._bytes_this_second + size > MAX_SKIPPED_BYTES_PER_S:
            return False
        self._bytes_this_second += size
        self.left += size
        return True

    def skip(self, data: bytes | bytearray) -> None:
        """Skip these bytes of the frame; at most `left` of them."""
        self.left -= len(data)
        if self._fp:
            return
        unsearched = self._unsearched
        unsearched += data
        if len(unsearched) >= _SEARCH_BYTES:
            self._search()
            del unsearched[:-_KEPT_BYTES]

    def finish(self, limit: int) -> Malformed:
        """The frame has ended: the command that stands for it. limit: the limit that it exceeded, for the text."""
        self._search()
        fp, self._fp = self._fp, ""
        self._unsearched.clear()
        return Malformed(ErrorCode.TOO_LONG, f"packet too long, the limit is {limit} bytes", 0, fp)

    def state(self) -> SkipperState:
        """See wire.contract.Codec."""
        return SkipperState(
            left=self.left,
            bytes_this_second=self._bytes_this_second,
            fp=self._fp,
            unsearched=bytes(self._unsearched),
        )

    @classmethod
    def resumed(cls, state: SkipperState) -> FrameSkipper:
        """One that goes on where another one was."""
        skipper = cls()
        skipper.left, skipper._bytes_this_second = state.left, state.bytes_this_second
        skipper._fp, skipper._unsearched = state.fp, bytearray(state.unsearched)
        return skipper

    def next_second(self) -> None:
        """To be called once a second: bytes may be skipped again."""
        self._bytes_this_second = 0

    def _search(self) -> None:
        found = None if self._fp else _FP.search(self._unsearched)
        if found is not None:
            try:
                self._fp = _decode_str(found[1])
            except ValueError:  # not UTF-8, or a wrong escape
                self._fp = ""
