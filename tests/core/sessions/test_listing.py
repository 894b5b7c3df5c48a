"""The sessions of a worker as an operator lists them, without keeping its event loop."""

from __future__ import annotations

import asyncio
import random
import time
from types import SimpleNamespace
from typing import Any

import pytest

from chatd.client_list import ClientPage, ClientQuery, key_of, merged
from chatd.core.sessions.listing import SessionListing
from chatd.core.sessions.session import Session, SessionState
from chatd.model import Protocol, User
from tests.core.stage import TRAITS

MANY = 10_000


def session(number: int, heard: float = 0.0) -> Session:
    peer: Any = SimpleNamespace(
        protocol=Protocol.MOBILEIMSDK, traits=TRAITS[Protocol.MOBILEIMSDK], remote=f"192.0.2.{number % 250}:{number}",
        carrier="tcp", heard=heard, out_bytes=number % 7,
    )  # fmt: skip
    made = Session(User(number, f"user{number}"), peer, 1)
    made.enter(SessionState.LIVE)
    made.since_ms = random.randrange(1 << 40)
    made.unacknowledged = number % 11
    return made


def listing_of(sessions: list[Session]) -> SessionListing:
    hub = SimpleNamespace(sessions=lambda: list(sessions))
    services: Any = SimpleNamespace(hub=hub, loop=asyncio.get_running_loop(), slot=3)
    return SessionListing(services)


def pages(sessions: list[Session], **query: Any) -> list[ClientPage]:
    """All pages of a list."""

    async def read() -> list[ClientPage]:
        listing, asked, found = listing_of(sessions), ClientQuery(**query), []
        while True:
            page = await listing.page(asked)
            found.append(page)
            if len(page.rows) < asked.limit:
                return found
            after = key_of(page.rows[-1], asked.order)
            asked = ClientQuery(**{**query, "after": after})

    return asyncio.run(read())


@pytest.mark.parametrize("order", ["since", "name", "address", "in_flight", "waiting"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_are_the_whole_list_once_and_in_order(order: Any, *, descending: bool) -> None:
    sessions = [session(number) for number in range(1, 458)]
    found = pages(sessions, order=order, descending=descending, limit=50)
    rows = [row for page in found for row in page.rows]
    assert sorted(row.user_id for row in rows) == list(range(1, 458))
    keys = [key_of(row, order) for row in rows]
    assert keys == sorted(keys, reverse=descending)
    assert {(page.matching, page.sessions) for page in found} == {(457, 457)}
    assert max(len(page.rows) for page in found) == 50


def test_sessions_that_are_logging_in_or_closing_are_not_listed() -> None:
    closing = session(1)
    closing.enter(SessionState.CLOSING)
    assert [row.user_id for row in pages([closing, session(2)])[0].rows] == [2]


def test_pages_of_several_workers_make_one() -> None:
    query = ClientQuery(order="name", limit=10)
    odd, even = ([session(number) for number in range(begin, 100, 2)] for begin in (1, 2))
    page = merged([pages(odd, order="name")[0], pages(even, order="name")[0]], query)
    names = sorted(f"user{number}" for number in range(1, 100))
    assert [row.name for row in page.rows] == names[:10]
    assert (page.matching, page.sessions) == (99, 99)


@pytest.mark.parametrize("query", [{}, {"user": "user77"}, {"order": "address", "descending": True}])
def test_ten_thousand_sessions_do_not_keep_the_loop(query: dict[str, Any]) -> None:
    """The longest turn, in CPU time, of the best of some tries: a busy machine makes any of them longer."""
    sessions = [session(number) for number in range(MANY)]

    async def longest_turn() -> float:
        listing, longest = listing_of(sessions), 0.0
        work = asyncio.ensure_future(listing.page(ClientQuery(**query)))
        while not work.done():
            began = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)
        assert work.result().sessions == MANY
        return longest

    assert min(asyncio.run(longest_turn()) for _ in range(5)) < 0.010
