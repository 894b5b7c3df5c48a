"""`chatctl clients`: who is logged in.

Owns: fetching page after page, and the table or JSON made of them.
Elsewhere: the pages (client_list, master.questions.clients).
Fails: exit code 75 if some workers or hosts have not answered: there may be more clients.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import msgspec

from chatd.chatctl.control_client import ControlClient, note
from chatd.chatctl.render import at, duration, size, table
from chatd.client_list import PAGE_ROWS, ClientQuery, ShownClient, key_of
from chatd.errors import Exit
from chatd.master.replies import ClientsReply
from chatd.master.requests import ClientsRequest

USUAL_ROWS = 100
"""Rows shown without --limit or --all."""
HEAD = ["USER", "ID", "WIRE", "ADDRESS", "SINCE", "IDLE", "IN FLIGHT", "WAITING", "WORKER"]


def query_of(options: argparse.Namespace) -> ClientQuery:
    """What is asked of the server, without the limit."""
    return ClientQuery(
        user=options.user or "",
        wire=options.wire,
        network=str(options.address or ""),
        idle_s=options.idle,
        order=options.sort.replace("-", "_"),
        descending=options.reverse,
    )


def clients(client: ControlClient, options: argparse.Namespace) -> int:
    """Prints page after page. Exit code 75 if a worker or a host did not answer."""
    limit = sys.maxsize if options.all else options.limit
    pages = _pages(client, query_of(options), limit, everywhere=options.all_hosts)
    last = _print_json(pages) if options.json else _print_table(pages, everywhere=options.all_hosts)
    if last.unanswered:
        note(f"no answer from {', '.join(last.unanswered)}: there may be more clients")
    return Exit.TRY_AGAIN if last.unanswered else Exit.OK


def _pages(client: ControlClient, query: ClientQuery, limit: int, *, everywhere: bool) -> Iterator[ClientsReply]:
    """At least one. A worker that did not answer for one page is missing from the rest, too: the reply says so each
    time."""
    unanswered: dict[str, None] = {}
    while True:
        rows = min(limit, PAGE_ROWS)
        asked = msgspec.structs.replace(query, limit=rows)
        reply = client.ask(ClientsRequest(query=asked, everywhere=everywhere), ClientsReply)
        unanswered |= dict.fromkeys(reply.unanswered)
        reply.unanswered = tuple(unanswered)
        yield reply
        limit -= len(reply.clients)
        if limit <= 0 or len(reply.clients) < rows:
            return
        query = msgspec.structs.replace(query, after=key_of(reply.clients[-1], query.order))


def _print_json(pages: Iterator[ClientsReply]) -> ClientsReply:
    """One object, written as the pages come."""
    sys.stdout.write('{"v":1,"clients":[')
    comma = ""
    for last in pages:
        for row in last.clients:
            sys.stdout.write(comma + msgspec.json.encode(row).decode())
            comma = ","
    rest = {"matching": last.matching, "sessions": last.sessions, "unanswered": last.unanswered}
    sys.stdout.write("]," + msgspec.json.encode(rest).decode()[1:] + "\n")
    return last


def _print_table(pages: Iterator[ClientsReply], *, everywhere: bool) -> ClientsReply:
    shown = 0
    for last in pages:
        rows = [_cells(row, everywhere=everywhere) for row in last.clients]
        lines = table(HEAD, rows).splitlines()
        print("\n".join(lines if not shown else lines[1:]) if rows or not shown else "", flush=True)
        shown += len(rows)
    more = f"{shown} of {last.matching} shown; --all shows the rest" if shown < last.matching else f"{shown} clients"
    others = f", {last.sessions} sessions in all" if last.sessions != last.matching else ""
    note(more + others)
    return last


def _cells(row: ShownClient, *, everywhere: bool) -> list[str]:
    """Names come from strangers: what is not printable is shown as an escape."""
    carrier = "" if row.carrier == "tcp" else f"/{row.carrier}"
    waiting = size(row.waiting_bytes) if row.waiting_bytes else "-"
    return [
        row.name if row.name.isprintable() else ascii(row.name),
        str(row.user_id),
        f"{row.wire}{carrier}",
        row.address,
        at(row.since_ms),
        duration(row.idle_s),
        str(row.in_flight),
        f"{waiting}, more in the store" if row.behind else waiting,
        f"{row.host}/{row.worker}" if everywhere else str(row.worker),
    ]
