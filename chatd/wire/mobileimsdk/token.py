"""The token in front of a datagram, by which a session over UDP knows its client.

Owns: where the token stands, and its length (docs/protocols/mobileimsdk.md).
Elsewhere: making tokens and comparing them (net.udp), asking for one and being given it (wire.mobileimsdk.packets: the
field datagramToken of a login and of its answer).
Fails: never; what does not begin with a token has none.

The token comes before the packet, and not in it, so that a forged datagram is dropped before its JSON is read, and so
that the other transports have nothing to do with it (docs/decisions/0026-a-token-before-each-datagram.md).
"""

from __future__ import annotations

TOKEN_BYTES = 24
"""Letters, digits, - and _."""

_BEGINS_A_PACKET = b"{ \t\r\n"


def split(datagram: bytes) -> tuple[bytes, bytes]:
    """(the token, the packet). The token is b"" if the datagram begins with its packet, as those of stock clients
    do."""
    if len(datagram) <= TOKEN_BYTES or datagram[0] in _BEGINS_A_PACKET:
        return b"", datagram
    return datagram[:TOKEN_BYTES], datagram[TOKEN_BYTES:]


def joined(token: bytes, packet: bytes) -> bytes:
    """The datagram of a client that was given this token."""
    return token + packet
