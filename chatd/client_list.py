"""Lists of clients: what an operator asks for, and one row of the answer.

Owns: the query, the row, and the order of rows, by which a long list is fetched in pages.
Elsewhere: making a page of a worker's sessions (core.sessions.listing) and of a host's (master.questions.clients),
showing it (chatctl.show.clients).
Fails: never.

A page is at most PAGE_ROWS rows, whatever there is. The next one begins after the last row of this one (`after`), in
the order that was asked for; so nobody keeps anything between two pages, and a list may change while it is read.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PAGE_ROWS = 200
"""Maximum rows of one page, which must fit into one datagram of master and worker (orders.MAX_BYTES)."""
TEXT_CHARS = 200

Order = Literal["since", "name", "address", "idle", "in_flight", "waiting"]
Key = tuple[float | str, int, str, int]
"""A row's place in the order: the value that is sorted by, then what tells rows with the same value apart: the id of
the user, the wire, and the worker."""


class ShownSession(msgspec.Struct, frozen=True):
    """wire: a name of model.Protocol, in lower case. since_ms: epoch, of the login. peer: the client's address. host,
    worker: where it is."""

    wire: str
    since_ms: int
    peer: str
    host: str
    worker: int


class ShownClient(msgspec.Struct, frozen=True, kw_only=True):
    """One session. wire: a name of model.Protocol, in lower case. carrier: tcp, tls, ws, wss, udp or unix. address: the
    client's. since_ms: of its login, epoch. idle_s: since it was heard last. in_flight: messages given and not
    acknowledged. waiting_bytes: written to it, but not taken by its network. behind: more messages wait in the store.
    host, worker: where it is."""

    user_id: int
    name: str
    wire: str
    carrier: str
    address: str
    since_ms: int
    idle_s: float
    in_flight: int
    waiting_bytes: int
    behind: bool
    worker: int
    host: str = ""


class ClientQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions, and in which order. user: a name, ignoring case, or an id in digits; "" = all. wire: of
    ShownClient.wire or carrier; "" = all. network: only clients in it (address_bans.network_named);
    "" = all. idle_s: silent for at least this long. after: the rows after this one in the order; None = from the
    beginning."""

    user: str = ""
    wire: str = ""
    network: str = ""
    idle_s: float = 0.0
    order: Order = "since"
    descending: bool = False
    after: Key | None = None
    limit: int = PAGE_ROWS


class ClientPage(msgspec.Struct, frozen=True, kw_only=True):
    """rows: in the order that was asked for. matching: sessions that match, on all pages. sessions: all sessions."""

    rows: tuple[ShownClient, ...]
    matching: int
    sessions: int


def key_of(row: ShownClient, order: Order) -> Key:
    match order:
        case "since":
            value: float | str = row.since_ms
        case "name":
            value = row.name
        case "address":
            value = row.address
        case "idle":
            value = row.idle_s
        case "in_flight":
            value = row.in_flight
        case "waiting":
            value = row.waiting_bytes
    return value, row.user_id, row.wire, row.worker


def is_after(key: Key, query: ClientQuery) -> bool:
    """Whether a row with this key is on this page or a later one."""
    if query.after is None:
        return True
    return key < query.after if query.descending else key > query.after


def merged(pages: list[ClientPage], query: ClientQuery) -> ClientPage:
    """One page of those of several workers."""
    rows = [row for page in pages for row in page.rows]
    rows.sort(key=lambda row: key_of(row, query.order), reverse=query.descending)
    return ClientPage(
        rows=tuple(rows[: query.limit]),
        matching=sum(page.matching for page in pages),
        sessions=sum(page.sessions for page in pages),
    )
