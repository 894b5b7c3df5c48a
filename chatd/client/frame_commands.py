"""Commands that have frames of their own on the chatserver wire, for servers that have no requests.

Owns: friend requests, creating and joining groups. Elsewhere: connections and answers (session), requests
(chatd_client.requests).
Fails: ChatError for a refusal, or if there is no answer.
"""

from __future__ import annotations

from chatd.client.session import ClientSession, text_of
from chatd_client.chatserver import frames, outgoing
from chatd_client.chatserver.frames import Msg
from chatd_client.errors import ChatError


class FrameCommands:
    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def request_friend(self, friend_id: int) -> None:
        """Asking a user who has already asked accepts: the server makes the two friends, and tells only the other."""
        session = self._session
        await session.tell(outgoing.add_friend(session.require_login(), friend_id), f"addfriend {friend_id}")
        if session.contacts.requests.pop(friend_id, None) is not None:
            session.contacts.befriend(friend_id, online=True)

    async def answer_friend(self, friend_id: int, accept: bool) -> None:
        session, word = self._session, "accept" if accept else "refuse"
        await session.tell(outgoing.answer_friend(session.require_login(), friend_id, accept), f"{word} {friend_id}")
        if session.contacts.requests.pop(friend_id, None) is not None and accept:
            session.contacts.befriend(friend_id, online=True)

    async def create_group(self, name: str, description: str) -> frames.GroupAck:
        """On every server."""
        frame = outgoing.create_group(self._session.require_login(), name, description)
        group = await self._enter_group(frame, Msg.CREATE_GROUP)
        self._session.contacts.rename(group.group_id, group.name, description)
        return group

    async def join_group(self, group_id: int) -> frames.GroupAck:
        return await self._enter_group(outgoing.join_group(self._session.require_login(), group_id), Msg.JOIN_GROUP)

    async def _enter_group(self, frame: bytes, ref: Msg) -> frames.GroupAck:
        await self._session.wait_ready()
        answer = await self._session.ask((ref,), frame)
        if isinstance(answer, frames.GroupAck):
            return answer
        raise ChatError(text_of(answer) or "refused")
