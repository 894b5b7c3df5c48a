"""The steps of store tests about groups, each a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode, Refused
from chatd.model import GroupRules, JoinPolicy, Role, User
from chatd.store.contract import FOREVER, AdmissionLimits, Joined, RulesChange, Tables
from tests.store.steps import ANY, ANYBODY, ASKING, done, team

AGAIN_MS = 10_000
LIMITS = ANYBODY._replace(again_ms=AGAIN_MS)


def rules(tables: Tables, owner: User, group: int, **changes: object) -> GroupRules:
    return done(tables, lambda inside: inside.groups.set_rules(owner.id, group, RulesChange(**changes)))  # type: ignore[arg-type]


def closed(tables: Tables, policy: JoinPolicy, owner: User, *members: User) -> int:
    group = team(tables, owner, *members)
    rules(tables, owner, group, join=policy)
    return group


def joined(tables: Tables, user: User, group: int, limits: AdmissionLimits = LIMITS, now_ms: int = 1) -> Joined:
    return done(tables, lambda inside: inside.admission.join(user.id, group, limits, now_ms))


def invited(
    tables: Tables, by: User, group: int, user: User, limits: AdmissionLimits = LIMITS, now_ms: int = 1
) -> Joined:
    return done(tables, lambda inside: inside.admission.invite(by.id, group, user.id, limits, now_ms))


def added(tables: Tables, by: User, group: int, user: User, limits: AdmissionLimits = LIMITS) -> Joined:
    return done(tables, lambda inside: inside.admission.add(by.id, group, user.id, limits, 1))


def approved(tables: Tables, by: User, group: int, user: User, limits: AdmissionLimits = LIMITS) -> Joined:
    return done(tables, lambda inside: inside.admission.approve(by.id, group, user.id, limits, 1))


def kicked(tables: Tables, by: User, group: int, user: User) -> None:
    done(tables, lambda inside: inside.groups.kick(by.id, group, user.id, 1))


def muted(tables: Tables, by: User, group: int, user: User, until_ms: int = FOREVER) -> None:
    done(tables, lambda inside: inside.groups.mute(by.id, group, user.id, until_ms))


def promoted(tables: Tables, owner: User, group: int, user: User, role: Role = Role.ADMIN) -> None:
    done(tables, lambda inside: inside.groups.set_role(owner.id, group, user.id, role))


def befriended(tables: Tables, *pair: User) -> None:
    one, other = pair
    done(tables, lambda inside: inside.friends.request(one, other.id, ASKING, 1))
    done(tables, lambda inside: inside.friends.answer(other.id, one.id, True, ANY, 1))


def is_member(tables: Tables, group: int, user: User) -> bool:
    return group in tables.groups.ids_of(user.id)


def code_of(tables: Tables, work: Callable[[Tables], object]) -> ErrorCode:
    with pytest.raises(Refused) as caught:
        done(tables, work)
    return ErrorCode(caught.value.code)


def read(tables: Tables, user: User, group: int) -> list[int]:
    """What the user sees of the group's messages, whatever way it is asked for."""
    forward = tables.history.messages(user.id, -group, 0, 0, ANY)
    assert tables.history.messages(user.id, -group, 0, 1 << 61, ANY) == forward
    for message in forward:
        (first,) = tables.history.messages(user.id, -group, message.seq - 1, 0, 1)
        assert first == message
    return [message.seq for message in forward]
