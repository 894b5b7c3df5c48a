"""The properties of a peer that its wire decides, whatever the transport.

Owns: CodecPeer, the part of core's Peer that the codec answers.
Elsewhere: the transports (net.connection, net.udp).
Fails: never.
"""

from __future__ import annotations

from chatd.protocol import Deliver, WireTraits
from chatd.wire.contract import Codec


class CodecPeer:
    """A base class without state, so that an idle connection stays small."""

    __slots__ = ()

    codec: Codec

    @property
    def traits(self) -> WireTraits:
        return self.codec.traits

    @property
    def text_bytes(self) -> int:
        return self.codec.text_bytes

    def is_cut(self, event: Deliver) -> bool:
        return self.codec.is_cut(event)
