"""What a codec knows of its client, as a value: for a session that moves to another worker.

Owns: one struct for each wire with sessions, and what they share.
Elsewhere: making a state and going on from it (the codecs), moving sessions (net.handover).
Fails: never.

A state has no limits of the configuration: the codec that goes on has those of its own worker.
"""

from __future__ import annotations

import msgspec


class SkipperState(msgspec.Struct, frozen=True, kw_only=True):
    """Of a wire.skipped.FrameSkipper. left: bytes of the current frame still to come. bytes_this_second: skipped in the
    current second. fp: the one found in the current frame. unsearched: bytes of it that are not searched yet."""

    left: int = 0
    bytes_this_second: int = 0
    fp: str = ""
    unsearched: bytes = b""


class MobileimsdkState(msgspec.Struct, frozen=True, kw_only=True, tag="mobileimsdk"):
    """user: the client's, who is logged in. numbered: the client has asked for `seq`. token: told with login answers.
    rest: bytes of an incomplete packet."""

    user: str
    numbered: bool = False
    token: str = ""
    rest: bytes = b""
    skipper: SkipperState | None = None


class SplitterState(msgspec.Struct, frozen=True, kw_only=True):
    """Of a wire.json_stream.ObjectSplitter: the incomplete object, how far it was scanned, to which depth, and whether
    that is inside a string."""

    rest: bytes = b""
    seen: int = 0
    depth: int = 0
    in_string: bool = False


class ChatserverState(msgspec.Struct, frozen=True, kw_only=True, tag="chatserver"):
    """streaming, acks, requests: the mode. wanted: the mode that the last LOGIN read asks for, in the same order."""

    streaming: bool = False
    acks: bool = False
    requests: bool = False
    wanted: tuple[bool, bool, bool] = (False, False, False)
    splitter: SplitterState = SplitterState()


CodecState = MobileimsdkState | ChatserverState
