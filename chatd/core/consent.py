"""Whether a user accepts something from another, with the operator's choice for users who have not chosen themselves.

Owns: the questions that other parts of core ask within a transaction or read, and the operator's defaults.
Elsewhere: the decision (store.consent_contract.ConsentTables), changing it (core.blocks), messages, about which the
store asks itself for every draft (store.contract.SendingRules).
Fails: Refused NOT_ACCEPTED or BLOCKED_BY_YOU where a function says so.
"""

from __future__ import annotations

from collections.abc import Collection

from chatd.config.schema import Config
from chatd.errors import ErrorCode, Refused
from chatd.model import SYSTEM, Audience, UserId
from chatd.store.contract import AskingRules, Purpose, Tables


def default_of(config: Config, purpose: Purpose) -> Audience:
    """Whom users accept who have not chosen."""
    return Audience[getattr(config.people, purpose.value).upper()]


def may_write(tables: Tables, config: Config, sender: UserId, to: UserId) -> bool:
    """Whether what `sender` does in the conversation of the two may reach `to`: typing, read marks, and the like. Cost:
    one statement."""
    return refusal(tables, config, Purpose.WRITE, sender, to) is None


def refusal(tables: Tables, config: Config, purpose: Purpose, actor: UserId, subject: UserId) -> ErrorCode | None:
    """Why `subject` does not accept this from `actor`; None: they accept it."""
    (code,) = tables.consent.refusals(purpose, [(actor, subject)], default_of(config, purpose))
    return code


def check(tables: Tables, config: Config, purpose: Purpose, actor: UserId, subject: UserId) -> None:
    """Raises Refused NOT_ACCEPTED, BLOCKED_BY_YOU."""
    code = refusal(tables, config, purpose, actor, subject)
    if code is not None:
        raise Refused(code)


def unseen(tables: Tables, config: Config, viewer: UserId, contacts: Collection[UserId]) -> set[UserId]:
    """Those of the viewer's contacts who do not show the viewer whether they are online; the system sees everybody."""
    if viewer == SYSTEM.id:
        return set()
    return tables.consent.unseen(viewer, contacts, default_of(config, Purpose.SEE))


def asking_rules(config: Config) -> AskingRules:
    return AskingRules(
        may_ask=default_of(config, Purpose.ASK),
        friends=config.limits.friends_per_user,
        waiting=config.limits.friend_requests,
        again_ms=int(config.people.ask_again_s * 1000),
    )
