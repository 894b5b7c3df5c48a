"""The frames that the client sends, as bytes. No I/O, no clock.

Owns: their fields. Elsewhere: their nouns (frames), when they are sent (session, sender, requests). Fails: never.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from chatd_client.chatserver.frames import Msg
from chatd_client.model import PendingMessage, User, is_number


def _frame(msgid: Msg, **fields: object) -> bytes:
    return msgspec.json.encode({"msgid": int(msgid), **fields})


def login(who: str, password: str, *, takeover: bool = False) -> bytes:
    """who: a number, or a name. "framing" is the promise to split the stream on NUL (streaming mode), "acks" to
    acknowledge messages, "requests" to understand answers and notices; a server that does not know one ignores it.
    takeover: end the user's other session."""
    identity: dict[str, object] = {"id": int(who)} if is_number(who) else {"name": who}
    wishes = {"framing": "nul", "acks": True, "requests": True, **({"takeover": True} if takeover else {})}
    return _frame(Msg.LOGIN, **identity, password=password, **wishes)


def request(op: str, ref: int, fp: str, arguments: Mapping[str, object]) -> bytes:
    """fp: by which the server knows the request again."""
    return _frame(Msg.REQUEST, op=op, ref=ref, fp=fp, **arguments)


def register(name: str, password: str) -> bytes:
    return _frame(Msg.REGISTER, name=name, password=password)


def logout(user: User) -> bytes:
    return _frame(Msg.LOGOUT, id=user.id)


def chat(user: User, message: PendingMessage, time: str) -> bytes:
    common: dict[str, object] = {
        "id": user.id, "name": user.name, "msg": message.text, "time": time, "fp": message.fp,
    }  # fmt: skip
    if message.reply:
        common["reply"] = message.reply
    if message.mentions:
        common["mentions"] = message.mentions
    if message.files:
        common["files"] = message.files
    if message.to.group_id:
        return _frame(Msg.GROUP_CHAT, groupid=message.to.group_id, **common)
    if message.to.user_name:
        return _frame(Msg.ONE_CHAT, toname=message.to.user_name, **common)
    return _frame(Msg.ONE_CHAT, toid=message.to.user_id, **common)


def received(conversation: int, seq: int) -> bytes:
    """Everything in this conversation up to seq was shown."""
    return _frame(Msg.RECEIVED, conv=conversation, seq=seq)


def add_friend(user: User, friend_id: int) -> bytes:
    return _frame(Msg.ADD_FRIEND_REQ, id=user.id, friendid=friend_id)


def answer_friend(user: User, friend_id: int, accept: bool) -> bytes:
    return _frame(Msg.ADD_FRIEND_ACK, id=user.id, friendid=friend_id, flag=accept)


def create_group(user: User, name: str, description: str) -> bytes:
    return _frame(Msg.CREATE_GROUP, id=user.id, groupname=name, groupdesc=description)


def join_group(user: User, group_id: int) -> bytes:
    return _frame(Msg.JOIN_GROUP, id=user.id, groupid=group_id)
