"""What all connections of a listener have in common.

Owns: ConnectionProfile.
Elsewhere: making it (net.acceptor), that of WebSocket (net.websocket.connection).
Fails: never.
"""

from __future__ import annotations

import msgspec

from chatd.model import Protocol


class ConnectionProfile(msgspec.Struct, frozen=True, kw_only=True):
    """listener: its configured address. silence_s: a connection silent for longer is ended, 0 = never. is_encrypted:
    TLS ends at this listener (net.tls). carrier: see core.sessions.session.Peer. serves: as listen.serves, of HTTP."""

    listener: str
    protocol: Protocol
    silence_s: float
    is_encrypted: bool = False
    carrier: str = "tcp"
    serves: tuple[str, ...] = ()
