"""Texts from the server to a client (S2C): answers to requests, and unsolicited notices.

Owns: the JSON of answers and notices, the fp the server makes for them, the choice between an event of the wire's own
and a text, and reaching a user's sessions on every worker.
Elsewhere: repeating them until they are acknowledged (core.delivery), deciding when to send them
(core.requests.dispatch, core.friends, core.groups, core.presence), how it is cut to fit (core.requests.truncate).
Fails: never.

Source: protocols/mobileimsdk.md, "Requests to the server".
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import NamedTuple

from chatd.bus.contract import topic_of_user
from chatd.core import bus_messages
from chatd.core.bus_messages import UserNotice
from chatd.core.delivery import Delivery
from chatd.core.requests.truncate import encode, size_of, squeezed
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import meaning
from chatd.model import Group, GroupRules, Message, MessageState, User, UserId
from chatd.protocol import FriendAnswered, FriendRequested, Ref, ServerMessage
from chatd.store.contract import FOREVER, Pending

_MAX_REASON_CHARS = 300
"""Longest text of a refusal."""

NOTICES = {
    "friend.request": (
        '"from":U',
        "the user asks to become a friend; also sent at login, for the oldest open requests",
    ),
    "friend.accepted": ('"from":U', "the user has accepted the recipient's request"),
    "friend.refused": ('"from":U', "the user has refused the recipient's request"),
    "group.joined": ('"group":int,"user":U', "to the members: the user has joined"),
    "group.left": (
        '"group":int,"user":U,"owner":int or null',
        "to the members: the user has left; owner: the new owner, if it changed",
    ),
    "group.kicked": ('"group":int,"user":U,"by":U', "to the members; without `user` and `by` to the removed user"),
    "group.renamed": ('"group":int,"details":G,"by":U', "to the members: name or description were changed"),
    "group.entered": (
        '"group":int,"details":G,"by":U',
        "the recipient is a member now: somebody has added them, or approved their request to join",
    ),
    "group.invited": (
        '"group":int,"details":G,"by":U,"waiting":true?',
        "the recipient is invited, and can join; also sent at login, with `waiting`, for open invitations",
    ),
    "group.declined": ('"group":int,"user":U', "to the one who had invited the user: the user will not join"),
    "group.requested": (
        '"group":int,"details":G,"user":U,"waiting":true?',
        "to the owner and the admins: the user asks to join; also sent at login, with `waiting`, for the oldest open "
        "requests",
    ),
    "group.rejected": ('"group":int,"details":G', "the recipient's request to join was refused"),
    "group.changed": (
        '"group":int,"join":str,"history":str,"announcements":bool,"by":U',
        "to the members: the rules of the group, as they are now",
    ),
    "group.banned": ('"group":int,"user":U,"by":U', "to the owner and the admins: the user cannot join"),
    "group.unbanned": ('"group":int,"user":U,"by":U', "to the owner and the admins: the user can join again"),
    "group.muted": (
        '"group":int,"user":U,"until_ms":int or null,"by":U',
        "to the user, the owner and the admins: the user cannot write; null = until somebody ends it",
    ),
    "group.unmuted": ('"group":int,"user":U,"by":U', "to the user, the owner and the admins"),
    "group.dissolved": ('"group":int,"by":U', "to the members: the group has ended"),
    "group.role": ('"group":int,"user":U,"role":str', "to the members: the user has a new role"),
    "message.changed": (
        '"with":str,"seq":int,"version":int,"state":str,"text":str?,"by":U,"change":int',
        "somebody has edited, recalled or removed a message of the conversation; text: of an edited one",
    ),
    "history.deleted": (
        '"with":str,"up_to":int,"seqs":[int]',
        "to the user's other sessions: the user has deleted these messages from their own history",
    ),
    "read": ('"with":str,"by":U,"seq":int', "the user has read the conversation up to seq"),
    "delivered": (
        '"with":str,"by":U,"seq":int',
        "the other user of the conversation has received it up to seq; only to sessions that asked for `delivered`, "
        "without QoS, and never sent again",
    ),
    "typing": (
        '"with":str,"by":U',
        "the user is writing; only to sessions that asked for `typing`, without QoS, and never sent again",
    ),
    "message.cut": (
        '"with":str,"seq":int,"user":U',
        "to the sender: the user's client was given only the beginning of the message, because a packet to it cannot "
        "be longer; once per message and user",
    ),
    "presence": ('"user":U,"online":bool', "to sessions that subscribed to the user's presence"),
    "broadcast": (
        '"text":str,"at":int',
        "an operator tells all connected users something (`chatctl broadcast`); at: milliseconds since the epoch. "
        "It is not stored: users who are offline never see it",
    ),
    "draining": ('"resume_before":int,"retry_after_ms":int', "this worker is shutting down; see below"),
}
"""Every notice: its fields, and when it is sent. The source of the table in docs/protocols/mobileimsdk.md."""


def answer(ref: Ref, result: object) -> str:
    return encode({"ref": ref, "ok": True, "result": result}).decode()


def refusal(ref: Ref, code: int, text: str) -> str:
    error = {"code": int(code), "text": text[:_MAX_REASON_CHARS], "temporary": meaning(code).temporary}
    return encode({"ref": ref, "ok": False, "error": error}).decode()


def notice(event: str, **fields: object) -> str:
    return encode({"event": event, **fields}).decode()


def changed_notice(place: str, message: Message, by: User, number: int) -> str:
    """place: the conversation, as its reader names it. number: of the change."""
    about = {"with": place, "seq": message.seq, **state_of(message)}
    if message.state is MessageState.EDITED:
        about["text"] = message.body
    return notice("message.changed", **about, by=of_user(by), change=number)


def state_of(message: Message) -> dict[str, object]:
    """The fields that say how a message was changed."""
    return {"version": message.version, "state": message.state.name.lower()}


def of_user(user: User) -> dict[str, object]:
    return {"id": user.id, "name": user.name}


def of_group(group: Group) -> dict[str, object]:
    return {"id": group.id, "name": group.name, "description": group.description}


def of_rules(rules: GroupRules) -> dict[str, object]:
    return {
        "join": rules.join.name.lower(),
        "history": "all" if rules.whole_history else "joining",
        "announcements": rules.announcements,
    }


def until(muted_until_ms: int) -> int | None:
    """The end of a mute as clients see it; None = it has none."""
    return None if muted_until_ms >= FOREVER else muted_until_ms


class OpenAdmissions(NamedTuple):
    """What waits for a user's answer: invitations to groups, and requests to join groups that the user runs."""

    invitations: Sequence[Pending] = ()
    requests: Sequence[Pending] = ()


class Notices:
    def __init__(self, services: Services, delivery: Delivery) -> None:
        self._bus = services.bus
        self._hub = services.hub
        self._delivery = delivery
        self._fp = f"s{time.time_ns():x}"
        self._numbers = itertools.count()

    def tell(self, session: Session, text: str, fp: str = "", about: Message | None = None) -> None:
        """Send a notice, again and again until it is acknowledged. To a client without server texts nothing is sent.
        fp "": one is made. about: the message whose text is in it, as it is now; it is not sent again when that text is
        gone."""
        if session.peer.traits.server_texts:
            fp = fp or self._new_fp()
            key = None if about is None else (about.conversation, about.seq)
            self._delivery.in_flight.tell(session, ServerMessage(_squeezed(session, text, fp), fp), key)

    def tell_user(self, user_id: UserId, text: str, fp: str = "", *, apart_from: Session | None = None) -> None:
        """Tell the user's sessions on every worker, except one of this worker. fp: the same on all of them; "" = each
        worker makes its own."""
        message = UserNotice(user_id, text, fp)
        self._bus.publish(topic_of_user(user_id), bus_messages.encode(message))
        self.arrived(message, apart_from)

    def arrived(self, message: UserNotice, apart_from: Session | None = None) -> None:
        """Tell the user's sessions on this worker."""
        for session in self._hub.of_user(message.user_id):
            if session is not apart_from:
                self.tell(session, message.text, message.fp)

    def answer(self, session: Session, ref: Ref, text: str, fp: str, retry_after_s: int = 0) -> None:
        """Send the answer to a request in the same way. fp "": one is made. retry_after_s: of a refusal."""
        if session.peer.traits.server_texts:
            fp = fp or self._new_fp()
            text = _squeezed(session, text, fp)
            event = ServerMessage(text, fp, is_answer=True, ref=ref, retry_after_s=retry_after_s)
            self._delivery.in_flight.tell(session, event)

    def _new_fp(self) -> str:
        return f"{self._fp}.{next(self._numbers):x}"

    def friend_requested(self, session: Session, event: FriendRequested) -> None:
        if session.peer.traits.server_texts:
            self.tell(session, notice("friend.request", **{"from": of_user(event.request.sender)}))
        else:
            session.peer.push(event)

    def still_open(self, session: Session, open_now: OpenAdmissions) -> None:
        """At login: what has waited for the user's answer."""
        for one in open_now.invitations:
            by = of_user(one.by) if one.by else None
            about = {"group": one.group.id, "details": of_group(one.group), "by": by}
            self.tell(session, notice("group.invited", **about, waiting=True))
        for one in open_now.requests:
            about = {"group": one.group.id, "details": of_group(one.group), "user": of_user(one.user)}
            self.tell(session, notice("group.requested", **about, waiting=True))

    def friend_answered(self, session: Session, event: FriendAnswered) -> None:
        if session.peer.traits.server_texts:
            name = "friend.accepted" if event.accepted else "friend.refused"
            self.tell(session, notice(name, **{"from": of_user(event.by)}))
        else:
            session.peer.push(event)


def _squeezed(session: Session, text: str, fp: str) -> str:
    return squeezed(text, session.peer.text_bytes - size_of(fp))
