"""`chatctl user show`: what is known of one account.

Owns: what is asked of the store and of the running server, and the form of the answer. No secret is in it: no hash, and
no address that the user has logged in from before.
Elsewhere: the accounts (chatctl.accounts), asking the server (chatctl.control_client).
Fails: Refused where there is no such account. What a server that does not run would know is not known.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import msgspec

from chatd.chatctl.accounts import StoredAccounts
from chatd.chatctl.control_client import ControlClient, NotAllowed, RequestFailed, ServerUnreachable, note
from chatd.chatctl.render import at, duration
from chatd.master.replies import PenaltiesReply, PenaltyRow, SessionsReply
from chatd.master.requests import PenaltiesRequest, SessionsRequest
from chatd.model import User
from chatd.orders import ShownSession
from chatd.store.contract import AccountDetails, Tables

MOST_WAITING = 1000
"""Messages that wait for the user are counted up to this."""


class Stored(NamedTuple):
    """What the store knows. waiting: messages that the user has not received, at most MOST_WAITING. more_waiting: there
    are more. known_sources: networks from which the user has logged in lately."""

    user: User
    details: AccountDetails
    waiting: int
    more_waiting: bool
    known_sources: int


class Account(msgspec.Struct, kw_only=True):
    """sessions, penalties: None = the server cannot be asked. The rest as in Stored and AccountDetails."""

    v: int = 1
    id: int
    name: str
    created_at_ms: int
    seen_at_ms: int
    locked_at_ms: int
    lock_reason: str
    friends: int
    groups: int
    waiting: int
    more_waiting: bool
    known_sources: int
    sessions: int | None
    session_list: list[ShownSession] | None
    penalties: list[PenaltyRow] | None


def look_up(accounts: StoredAccounts, client: ControlClient, name: str) -> Account:
    """Raises: Refused."""
    with contextlib.closing(accounts.open()) as tables:
        stored = _stored(tables, accounts.find(tables, name))
    sessions = penalties = None
    try:
        sessions = client.ask(SessionsRequest(user_id=stored.user.id), SessionsReply)
        penalties = client.ask(PenaltiesRequest(), PenaltiesReply)
    except (ServerUnreachable, NotAllowed, RequestFailed) as error:
        note(f"sessions and penalties are not known: {error}")
    return Account(
        id=stored.user.id,
        name=stored.user.name,
        **stored.details._asdict(),
        waiting=stored.waiting,
        more_waiting=stored.more_waiting,
        known_sources=stored.known_sources,
        sessions=len(sessions.sessions) if sessions else None,
        session_list=list(sessions.sessions) if sessions else None,
        penalties=[one for one in penalties.penalties if _is_about(one, stored.user)] if penalties else None,
    )


def _stored(tables: Tables, user: User) -> Stored:
    waiting = tables.history.waiting(user.id, MOST_WAITING)
    others = sum(one.sender_id != user.id for one in waiting.messages)
    sources = len(tables.known_sources.of(user.id))
    return Stored(user, tables.accounts.details(user.id), others, waiting.more, sources)


def _is_about(row: PenaltyRow, user: User) -> bool:
    """subject: the id, or for both "ACCOUNT SOURCE"."""
    return "account" in row.kind and row.subject.split(" ")[0] == str(user.id)


def text(account: Account) -> str:
    """As a terminal shows it."""
    locked = f"since {at(account.locked_at_ms)}" if account.locked_at_ms else "no"
    waiting = f"{account.waiting}{' or more' if account.more_waiting else ''} messages"
    rows = [
        ["id", str(account.id)],
        ["name", account.name],
        ["created", at(account.created_at_ms)],
        ["last seen", at(account.seen_at_ms) if account.seen_at_ms else "never"],
        ["locked", f"{locked}{': ' if account.lock_reason else ''}{account.lock_reason}"],
        ["sessions", "not known" if account.session_list is None else str(account.sessions)],
        *(["", f"{one.wire} at {one.peer} since {at(one.since_ms)}"] for one in account.session_list or ()),
        ["friends", str(account.friends)],
        ["groups", str(account.groups)],
        ["waiting", waiting],
        ["logged in from", f"{account.known_sources} networks lately"],
        *_penalties(account),
    ]
    return "\n".join(f"{name + ':' if name else '':<16}{value}" for name, value in rows)


def _penalties(account: Account) -> list[list[str]]:
    if account.penalties is None:
        return [["penalties", "not known"]]
    shown = [
        f"{one.offences:g} failures{', refused for ' + duration(one.remaining_s) if one.remaining_s else ''}"
        f" ({one.kind}{' ' + one.subject.partition(' ')[2] if ' ' in one.subject else ''})"
        for one in account.penalties
    ]
    return [["penalties" if at_line == 0 else "", line] for at_line, line in enumerate(shown or ["none"])]
