"""The contract between net and a wire: the codec.

Owns: the Codec contract, and frame_form(), by which codecs share encoded frames.
Elsewhere: the codecs (wire.chatserver.codec, wire.mobileimsdk.codec, wire.echo), sockets (net), the meaning of commands
(core).
Fails: WireError for bytes after which the stream cannot be trusted; a smaller fault is a Malformed command.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Protocol

from chatd.protocol import Command, Deliver, Event, LoginAccepted, WireTraits
from chatd.wire.codec_state import CodecState

MAX_BYTES_BEFORE_LOGIN = 16 * 1024
"""Longest frame of a peer that has not logged in, if its limit is not lower anyway. A login or registration with the
longest name and password fits, in whatever way its JSON is escaped; only its `extra` must fit into the rest."""

_CUT = " cut"
"""Behind a form, for the note that its frame is cut."""


class Codec(Protocol):
    """Translates for one connection. Holds the bytes of an incomplete frame and nothing else of any size. Until
    encode_login() is called, no frame may be longer than MAX_BYTES_BEFORE_LOGIN.

    An idle codec must be small (10,000 idle connections are a benchmark): __slots__, shared empty bytes.
    """

    @property
    def traits(self) -> WireTraits:
        """How this wire's clients behave. May change with a login: on the chatserver wire, a client may ask for
        requests."""
        ...

    pace_ms: int
    """Minimum time between two frames to this peer, milliseconds; 0 = none. May fall to 0 after a login."""

    @property
    def text_bytes(self) -> int:
        """Room for the text and the fp of a ServerMessage, counted as JSON strings; 0 where this wire has none."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """Bytes held of an incomplete frame."""
        ...

    def receive(self, data: bytes) -> Iterator[Command]:
        """The commands in `data` and the bytes left over from before, in order.

        Yields each command before looking at the next frame, so good commands before a bad frame are served. Never
        buffers more than one frame's limit plus one read.

        Raises:
            WireError: at a frame after which the rest cannot be trusted. The codec is not to be used any further,
                except to encode the error.
        """
        ...

    def encode(self, event: Event) -> bytes:
        """The whole frame(s) for `event`, or b"" if this wire cannot express it.

        A LoginAccepted given here carries no waiting messages; see encode_login.
        """
        ...

    def encode_login(self, event: LoginAccepted) -> tuple[bytes, int]:
        """The login answer and how many of `event.waiting`, from the first, it contains."""
        ...

    def is_cut(self, event: Deliver) -> bool:
        """Whether the frame that encode() made of this event lacks the end of the message's text."""
        ...

    def next_second(self) -> None:
        """To be called once a second while the peer is logged in; limits of bytes per second start again."""
        ...

    def state(self) -> CodecState | None:
        """What another codec needs to go on with this client, who is logged in. None: a client of this wire cannot be
        moved."""
        ...

    def resume(self, state: CodecState) -> None:
        """Go on with a client of another codec. To be called once, before anything else. Raises ValueError: the state
        is of another wire."""
        ...


@functools.lru_cache(maxsize=256)
def frame_form(wire: str, mode: str, limit: int) -> str:
    """The form of frames (see protocol.FrameKey) of codecs with these properties; the same object each time."""
    return f"{wire} {mode} {limit}"


def note_cut(event: Deliver, form: str) -> None:
    """For codecs: the frame of this form, which is being encoded, lacks the end of the message's text."""
    event.is_cut = True
    event.frames[form + _CUT, ""] = b""


def was_cut(event: Deliver, form: str) -> bool:
    """For codecs: whether note_cut() was called for this form."""
    return event.is_cut and (form + _CUT, "") in event.frames
