"""Acknowledging the messages shown, so that the server knows what this client has.

Owns: which messages were shown on the present connection and are not yet acknowledged.
Elsewhere: showing and remembering them (session, memory), the frame (frames).
Fails: never. Messages that could not be acknowledged are given again after the next login, and recognised by the
memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chatd_client.chatserver import frames, outgoing


class Acknowledger:
    def __init__(self) -> None:
        self._send: Callable[[bytes], None] | None = None
        """None while there is no connection, or the server does not expect acknowledgements."""
        self._shown: dict[int, int] = {}
        """The highest seq that was shown and is not yet acknowledged, by conversation."""

    def start(self, send: Callable[[bytes], None]) -> None:
        """The answer to the login says that the server expects acknowledgements."""
        self._send = send

    def stop(self) -> None:
        """The connection is lost."""
        self._send = None
        self._shown.clear()

    def shown(self, chat: frames.Chat) -> None:
        """One frame acknowledges all messages of a conversation that came with one read."""
        if self._send is None or not chat.conversation:
            return
        if not self._shown:
            asyncio.get_running_loop().call_soon(self._acknowledge)
        self._shown[chat.conversation] = chat.seq

    def _acknowledge(self) -> None:
        shown, self._shown = self._shown, {}
        for conversation, seq in shown.items():
            if self._send is not None:
                self._send(outgoing.received(conversation, seq))
