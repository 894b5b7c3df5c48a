"""The steps of store tests: everything through store.contract.Tables, each change a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import pytest

from chatd.errors import ErrorCode, Refused
from chatd.model import ConversationId, Message, Seq, User
from chatd.protocol import SendMessage
from chatd.store.contract import AdmissionLimits, Advance, AskingRules, Draft, Stored, Tables

T = TypeVar("T")
ANY = 1000
ANYBODY = AdmissionLimits(members=ANY, groups=ANY)
ASKING = AskingRules()


class Twin(Protocol):
    """A store that can be opened several times, each time as another worker would."""

    def open(self) -> Tables: ...

    def collide(self) -> None:
        """From now on, and for what is opened from now on, every fp of one sender has the same hash."""


def up_to(friends: int) -> AskingRules:
    return AskingRules(friends=friends)


def to(user: User, body: str = "hello", fp: str = "", *, qos: bool = False) -> SendMessage:
    return SendMessage("", user.id, 0, body, fp, qos)


def to_name(name: str, body: str = "hello", fp: str = "") -> SendMessage:
    return SendMessage(name, 0, 0, body, fp)


def to_group(group: int, body: str = "hello", fp: str = "") -> SendMessage:
    return SendMessage("", 0, group, body, fp)


def done(tables: Tables, work: Callable[[Tables], T]) -> T:
    """One transaction, ended by what `work` does."""
    tables.begin()
    try:
        value = work(tables)
    except BaseException:
        tables.rollback()
        raise
    tables.commit()
    return value


def befriend(tables: Tables, one: User, other: User) -> None:
    done(tables, lambda inside: inside.friends.request(one, other.id, ASKING, 1))
    done(tables, lambda inside: inside.friends.answer(other.id, one.id, True, ANY, 1))


def send(tables: Tables, *drafts: tuple[User, SendMessage], now_ms: int = 1) -> list[Stored | ErrorCode]:
    batch = [Draft(sender, command) for sender, command in drafts]
    return done(tables, lambda inside: inside.append(batch, now_ms))


def sent(tables: Tables, sender: User, command: SendMessage, now_ms: int = 1) -> Stored:
    (result,) = send(tables, (sender, command), now_ms=now_ms)
    assert isinstance(result, Stored)
    return result


def make(tables: Tables, *names: str) -> list[User]:
    return done(tables, lambda inside: [inside.accounts.create(name, "", 1) for name in names])


def advance(tables: Tables, user: User, conversation: ConversationId, seq: Seq) -> None:
    done(tables, lambda inside: inside.advance([Advance(user.id, conversation, seq)]))


def team(tables: Tables, owner: User, *members: User) -> int:
    group = done(tables, lambda inside: inside.groups.create(owner.id, "team", "", ANY, 1))
    for member in members:
        join(tables, member, group)
    return group


def join(tables: Tables, user: User, group: int) -> None:
    done(tables, lambda inside: inside.admission.join(user.id, group, ANYBODY, 1))


def seqs(messages: list[Message]) -> list[tuple[ConversationId, Seq]]:
    return [(message.conversation, message.seq) for message in messages]


def refused(code: ErrorCode, tables: Tables, work: Callable[[Tables], object]) -> None:
    with pytest.raises(Refused) as caught:
        done(tables, work)
    assert caught.value.code is code
