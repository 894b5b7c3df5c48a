"""What a client is told between the offer of its session and the moment at which it moves.

Owns: NoticeRecorder, a codec that notes it.
Elsewhere: using the notes, by which nothing is told twice (core.sessions.arrivals).
Fails: never.
"""

from __future__ import annotations

from typing import Any

from chatd.core.sessions.moving import text_of
from chatd.protocol import Announcement, Changed, Event, FriendAnswered, FriendRequested, GroupReady, ServerMessage
from chatd.wire.contract import Codec

_NOTICES = (Announcement, Changed, FriendAnswered, FriendRequested, GroupReady, ServerMessage)
"""Events that come without a command of the client, from any worker. (Messages have numbers.)"""


class NoticeRecorder:
    """In the place of a connection's codec. Everything but encode() is the codec's own."""

    def __init__(self, codec: Codec, told: list[str]) -> None:
        self._codec = codec
        self._told = told

    def encode(self, event: Event) -> bytes:
        if isinstance(event, _NOTICES) and not (isinstance(event, ServerMessage) and event.is_answer):
            self._told.append(text_of(event))
        return self._codec.encode(event)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)
