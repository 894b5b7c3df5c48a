"""The frames that chatd sends on the chatserver wire: their JSON, and how much of it fits into one frame.

Owns: the fields of each message number from server to client, cutting texts, choosing what a LOGIN_ACK contains.
Elsewhere: reading, and which frames a client understands (wire.chatserver.codec).
Fails: never. Unless it says otherwise, a function returns a whole frame with its NUL, of at most `limit` bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from msgspec import Struct

from chatd.model import (
    ALL_MEMBERS,
    Attachment,
    Friend,
    FriendRequest,
    Group,
    Member,
    Message,
    MessageState,
    Role,
    User,
    UserId,
)
from chatd.protocol import Announcement, Changed, FriendAnswered, LoginAccepted
from chatd.wire.json_stream import ELLIPSIS, fit
from chatd.wire.shown import fit_files, fit_shown, shown_text, text_of

LOGIN, LOGIN_ACK, LOGOUT, REGISTER, REGISTER_ACK, ONE_CHAT, ADD_FRIEND_REQ, ADD_FRIEND_ACK = range(1, 9)
CREATE_GROUP, JOIN_GROUP, GROUP_CHAT, ERROR, ACK, GROUP_ACK, RECEIVED = range(9, 16)
REQUEST, ANSWER, NOTICE = range(16, 19)

SERVER_NAME = "server"
"""From whom an announcement of the operator comes."""
_LEAST_ENTRY_BYTES = 32
"""No entry of LOGIN_ACK is shorter: with less room, the search stops."""

_encode = msgspec.json.Encoder().encode


class OneChatFrame(Struct, gc=False, frozen=True, omit_defaults=True):
    """conv, seq, fp and reply: streaming mode only. reply: the seq of the message that this one answers. A client that
    is given the same (conv, seq) again drops it. files: only for clients with requests; files_cut: not all of them."""

    msgid: int
    id: int
    name: str
    toid: int
    msg: str
    time: str
    conv: int = 0
    seq: int = 0
    fp: str = ""
    reply: int = 0
    files: tuple[Attachment, ...] = ()
    files_cut: bool = False


class GroupChatFrame(Struct, gc=False, frozen=True, omit_defaults=True):
    """mentions: only for clients with requests."""

    msgid: int
    id: int
    name: str
    groupid: int
    msg: str
    time: str
    conv: int = 0
    seq: int = 0
    fp: str = ""
    reply: int = 0
    mentions: tuple[UserId, ...] | str = ()
    files: tuple[Attachment, ...] = ()
    files_cut: bool = False


@functools.lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ")


def time_text(at_ms: int) -> str:
    """`YYYY-MM-DD HH:MM:SS`, server local time."""
    return _second(at_ms // 1000)


def frame(content: object) -> bytes:
    return _encode(content) + b"\0"


class Mode(NamedTuple):
    """What a LOGIN asked for. acks and requests: only with streaming."""

    streaming: bool = False
    acks: bool = False
    requests: bool = False

    def granted(self) -> dict[str, bool]:
        """As the LOGIN_ACK says it."""
        return {name: True for name, given in (("acks", self.acks), ("requests", self.requests)) if given}

    @property
    def form(self) -> str:
        """Clients of modes with the same form are sent the same frames of messages."""
        return "requests" if self.requests else "streaming" if self.streaming else "compatible"


def chat_json(message: Message, text: str, mode: Mode, *, has_all_files: bool = True) -> bytes:
    """The object of msgid 6 or 11, without NUL. has_all_files: `message` has those that it was sent with."""
    conversation, seq, fp, reply, is_cut = 0, 0, "", 0, not has_all_files
    if mode.streaming:
        conversation, seq, fp, reply = message.conversation, message.seq, message.fp, message.reply_to
    sender, name, time = message.sender_id, message.sender_name, time_text(message.sent_at_ms)
    files = message.attachments if mode.requests else ()
    if not message.group_id:
        to = message.to_id
        return _encode(
            OneChatFrame(ONE_CHAT, sender, name, to, text, time, conversation, seq, fp, reply, files, is_cut)
        )
    mentions: tuple[UserId, ...] | str = ()
    if message.mentions and mode.requests:
        mentions = "all" if message.mentions == ALL_MEMBERS else message.mentions
    to = message.group_id
    return _encode(
        GroupChatFrame(GROUP_CHAT, sender, name, to, text, time, conversation, seq, fp, reply, mentions, files, is_cut)
    )


def chat(message: Message, limit: int, mode: Mode, links: Sequence[str] = ()) -> tuple[bytes, bool]:
    """The frame of a message, and whether its text is cut because it is too long. links: see protocol.Deliver. Mentions
    that leave no room for a text are left out, then files: `sync` and `history` have them."""
    if message.attachments and not mode.requests:
        return fit_shown(lambda text: chat_json(message, text, mode) + b"\0", message, links, limit)
    body = text_of(message)
    whole = chat_json(message, body, mode) + b"\0"
    if len(whole) <= limit:
        return whole, False
    if len(chat_json(message, ELLIPSIS, mode)) >= limit:
        if message.mentions:
            return chat(msgspec.structs.replace(message, mentions=()), limit, mode)
        if message.attachments:
            return fit_files(
                lambda fewer, text: chat_json(fewer, text, mode, has_all_files=False) + b"\0", message, limit
            ), True
    return fit(lambda text: chat_json(message, text, mode) + b"\0", body, limit), True


def changed(event: Changed, limit: int) -> bytes:
    """A change of a message that was given already, as a text that any client can show: from its author, naming the
    message by its time. It has no conv, seq and fp, because it is no message."""
    message, by = event.message, event.by
    about, time = time_text(message.sent_at_ms), time_text(event.at_ms)

    def whole(text: str) -> bytes:
        if message.group_id:
            return frame(GroupChatFrame(GROUP_CHAT, by.id, by.name, message.group_id, text, time))
        return frame(OneChatFrame(ONE_CHAT, by.id, by.name, message.to_id, text, time))

    if message.state is MessageState.EDITED:
        return fit(lambda text: whole(f"(edited, sent {about}) {text}"), message.body, limit)
    if message.state is MessageState.RECALLED:
        return whole(f"(recalled the message sent {about})")
    return fit(lambda name: whole(f"(removed the message that {name} sent {about})"), message.sender_name, limit)


def announcement(event: Announcement, limit: int) -> bytes:
    """As a private message that any client can show, from SERVER_NAME with the id 0, which no user has. It has no conv,
    seq and fp, because it is no message."""
    time = time_text(event.at_ms)

    def whole(text: str) -> bytes:
        return frame(OneChatFrame(ONE_CHAT, 0, SERVER_NAME, event.to, text, time))

    return fit(whole, event.text, limit)


def friend_request(request: FriendRequest, limit: int, streaming: bool) -> bytes:
    return _fitted(lambda name: friend_request_content(request, name, streaming), request.sender.name, limit)


def friend_request_content(request: FriendRequest, name: str, streaming: bool) -> dict[str, object]:
    sender = request.sender.id
    text = f"{name} ({sender}) asks to be your friend"
    content = {"msgid": ADD_FRIEND_REQ, "msg": text, "from": sender, "toid": request.to}
    return {**content, "name": name} if streaming else content


def friend_answer(event: FriendAnswered, limit: int, streaming: bool) -> bytes:
    verb = "accepted" if event.accepted else "refused"

    def content(name: str) -> dict[str, object]:
        text = f"{name} ({event.by.id}) has {verb} your friend request"
        content = {"msgid": ADD_FRIEND_ACK, "msg": text, "from": event.by.id, "toid": event.to}
        return {**content, "name": name, "flag": event.accepted} if streaming else content

    return _fitted(content, event.by.name, limit)


def group_ack(group: Group, limit: int) -> bytes:
    def content(name: str) -> dict[str, object]:
        return {"msgid": GROUP_ACK, "errno": 0, "groupid": group.id, "groupname": name}

    return _fitted(content, group.name, limit)


def login_refused(errno: int, text: str, limit: int) -> bytes:
    return _fitted(lambda text: {"msgid": LOGIN_ACK, "errno": errno, "errmsg": text}, text, limit)


def register_refused(text: str, limit: int) -> bytes:
    return _fitted(lambda text: {"msgid": REGISTER_ACK, "errno": 1, "errmsg": text}, text, limit)


def error(errno: int, text: str, ref: int, fp: str, limit: int) -> bytes:
    """`fp` "" = the refused message had none, or the peer does not know fps."""
    named = {"fp": fp} if fp else {}
    return _fitted(lambda text: {"msgid": ERROR, "errno": errno, "errmsg": text, "ref": ref, **named}, text, limit)


def _fitted(content: Callable[[str], object], text: str, limit: int) -> bytes:
    return fit(lambda text: frame(content(text)), text, limit)


# ---------------------------------------------------------------- LOGIN_ACK


class _LoginAckBuilder:
    """A LOGIN_ACK that grows within `limit`. The arrays hold JSON strings, quoted and escaped."""

    def __init__(self, user: User, limit: int, granted: dict[str, bool]) -> None:
        """granted: what the LOGIN asked for and gets."""

        def head(name: str) -> bytes:
            return _encode({"msgid": LOGIN_ACK, "errno": 0, "id": user.id, "name": name, **granted})

        self._head = fit(head, user.name, limit - 1)
        self.room = limit - 1 - len(self._head)
        """Bytes that still fit, NUL not counted."""
        self._arrays: dict[str, list[bytes]] = {"offlinemsg": [], "friends": [], "groups": []}

    def add(self, name: str, text: bytes) -> bool:
        """Append the JSON `text` as a string to the array `name`. Returns False if there is no room for it."""
        array, entry = self._arrays[name], _encode(text.decode())
        size = len(entry) + (1 if array else len(name) + len(',"":[]'))
        if size > self.room:
            return False
        self.room -= size
        array.append(entry)
        return True

    def add_all(self, name: str, texts: Iterable[bytes]) -> None:
        """Append as many of them as there is room for."""
        for text in texts:
            if self.room < _LEAST_ENTRY_BYTES:
                return
            self.add(name, text)

    def add_groups(self, groups: Iterable[Group]) -> None:
        """First as many groups as there is room for, then as many of their members."""
        chosen = []
        for group in groups:
            if self.room < _LEAST_ENTRY_BYTES:
                break
            if self.add("groups", _group(group, [])):
                chosen.append(group)
        for index, group in enumerate(chosen):
            users = self._members(group)
            if users:
                self._arrays["groups"][index] = _encode(_group(group, users).decode())

    def _members(self, group: Group) -> list[str]:
        """As many members as there is room for, which they use up. Each is a string in a string, escaped twice."""
        users: list[str] = []
        for member in group.members:
            if self.room < _LEAST_ENTRY_BYTES:
                break
            user = _member(member).decode()
            size = len(_encode(_encode(user).decode())) - len('""') + (1 if users else 0)
            if size <= self.room:
                self.room -= size
                users.append(user)
        return users

    def frame(self) -> bytes:
        parts = [self._head[:-1]]
        for name, array in self._arrays.items():
            if array:
                parts.append(b',"%b":[%b]' % (name.encode(), b",".join(array)))
        return b"".join(parts) + b"}\0"


def login_ack(event: LoginAccepted, limit: int, mode: Mode) -> tuple[bytes, int]:
    """The answer and how many of event.waiting, from the first, it contains. A client with requests is told of friend
    requests by notices.

    What does not fit is left out in this order: waiting messages, members of groups, groups, friends, friend
    requests. Cost: linear in what the event holds, and in `limit` where nothing more fits.
    """
    ack = _LoginAckBuilder(event.user, limit, mode.granted())
    if not mode.requests:
        ack.add_all("offlinemsg", (_request(each, mode.streaming) for each in event.requests))
    ack.add_all("friends", map(_friend, event.friends))
    ack.add_groups(event.groups)
    taken = 0
    for message in event.waiting:
        links = event.links.get((message.conversation, message.seq), ())
        text = text_of(message) if mode.requests else shown_text(message, links)
        if not ack.add("offlinemsg", chat_json(message, text, mode)):
            break
        taken += 1
    return ack.frame(), taken


def _request(request: FriendRequest, streaming: bool) -> bytes:
    return _encode(friend_request_content(request, request.sender.name, streaming))


def _friend(friend: Friend) -> bytes:
    return _encode({"id": friend.id, "name": friend.name, "state": _state(friend.online)})


def _group(group: Group, users: list[str]) -> bytes:
    return _encode({"id": group.id, "groupname": group.name, "groupdesc": group.description, "users": users})


def _member(member: Member) -> bytes:
    role = "creator" if member.role == Role.OWNER else "normal"
    return _encode({"id": member.id, "name": member.name, "state": _state(member.online), "role": role})


def _state(online: bool) -> str:
    return "online" if online else "offline"
