"""The echo wire: the bytes of every read are sent back followed by ` server[echo]`, for telnet and health checks.

Owns: EchoCodec.
Elsewhere: the deadline of an echo connection (net.acceptor).
Fails: never. Nothing is refused, and nothing is kept between reads.
"""

from __future__ import annotations

from collections.abc import Iterator

from chatd.protocol import (
    Command,
    Deliver,
    Echo,
    Echoed,
    Event,
    LoginAccepted,
    WireTraits,
)
from chatd.wire.codec_state import CodecState

SUFFIX = b" server[echo]"


class EchoCodec:
    """See wire.contract.Codec. Each read is one Echo."""

    traits = WireTraits()

    __slots__ = ("pace_ms",)

    def __init__(self) -> None:
        self.pace_ms = 0

    @property
    def text_bytes(self) -> int:
        return 0

    @property
    def buffered_bytes(self) -> int:
        return 0

    def receive(self, data: bytes) -> Iterator[Command]:
        if data:
            yield Echo(raw=data)

    def encode(self, event: Event) -> bytes:
        return event.raw + SUFFIX if isinstance(event, Echoed) else b""

    def encode_login(self, event: LoginAccepted) -> tuple[bytes, int]:
        return b"", 0

    def is_cut(self, event: Deliver) -> bool:
        return False

    def next_second(self) -> None:
        """Nothing to do: this wire has no such limits."""

    def state(self) -> CodecState | None:
        """This wire has no sessions."""
        return None

    def resume(self, state: CodecState) -> None:
        raise ValueError("the echo wire has no sessions")
