"""What a peer of any transport says of its wire.

Owns: CodecPeer, the part of core's Peer that the codec answers. Elsewhere: the transports (net.connection, net.udp).
Fails: never.
"""

from __future__ import annotations

from chatd.protocol import WireTraits
from chatd.wire.contract import Codec


class CodecPeer:
    """A base without state of its own, so that an idle connection stays small."""

    __slots__ = ()

    codec: Codec

    @property
    def traits(self) -> WireTraits:
        return self.codec.traits

    @property
    def text_bytes(self) -> int:
        return self.codec.text_bytes
