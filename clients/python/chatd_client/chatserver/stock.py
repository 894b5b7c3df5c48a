"""Operations that every server of this wire has, those without requests included.

Owns: friend requests, creating and joining groups, by the frames of the legacy server.
Elsewhere: the same and everything else by requests (Client.friends, Client.groups), connections (session).
Fails: NotLoggedIn, Unreachable, and Refused where the server refuses.
"""

from __future__ import annotations

from chatd_client.chatserver import outgoing
from chatd_client.chatserver.frames import GroupAck, Msg, code_of, text_of
from chatd_client.chatserver.session import Session
from chatd_client.errors import refusal


class Stock:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def request_friend(self, user_id: int) -> None:
        """Ask a user, by number. This is not answered: ConnectionLost.doubtful tells if it may be lost. Where the other
        has asked already, the server makes the two friends, and tells only the other."""
        user = self._session.require_login()
        await self._session.tell(outgoing.add_friend(user, user_id), f"addfriend {user_id}")

    async def answer_friend(self, user_id: int, *, accept: bool) -> None:
        """Accept or refuse the request of this user. Not answered, as request_friend()."""
        user, word = self._session.require_login(), "accept" if accept else "refuse"
        await self._session.tell(outgoing.answer_friend(user, user_id, accept), f"{word} {user_id}")

    async def create_group(self, name: str, description: str = "") -> GroupAck:
        frame = outgoing.create_group(self._session.require_login(), name, description)
        return await self._enter_group(frame, Msg.CREATE_GROUP)

    async def join_group(self, group_id: int) -> GroupAck:
        return await self._enter_group(outgoing.join_group(self._session.require_login(), group_id), Msg.JOIN_GROUP)

    async def _enter_group(self, frame: bytes, ref: Msg) -> GroupAck:
        await self._session.wait_ready()
        answer = await self._session.calls.ask((ref,), frame)
        if isinstance(answer, GroupAck):
            return answer
        raise refusal(code_of(answer), text_of(answer))
