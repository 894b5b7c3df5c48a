"""What core adds to a record of the security trail: the client that caused the event.

Owns: the fields that describe a client, the same in every record.
Elsewhere: the events and the form of a record (security_log).
Fails: never.
"""

from __future__ import annotations

from typing import Any

from chatd import security_log
from chatd.core.sessions.session import Peer
from chatd.errors import ErrorCode, Refused
from chatd.security_log import SecurityEvent


def record(event: SecurityEvent, peer: Peer, **fields: Any) -> None:
    """A record of an event that this client caused. fields: as in security_log.record; without `user`, it is the user
    who is logged in, if any."""
    session = peer.session
    if session is not None and "user" not in fields:
        fields = {"name": session.user.name, "user": session.user.id} | fields
    wire = peer.protocol.name.lower()
    security_log.record(event, peer=peer.remote, forgeable=peer.lossy, wire=wire, **fields)


def reason_of(refused: Refused) -> str:
    """Why a client was refused, as a fixed word: the name of the code in lower case."""
    return ErrorCode(refused.code).name.lower() if refused.code in set(ErrorCode) else "plug_in"
