"""What the operator's page asks the master: orders as chatctl gives them, and live data.

Owns: ask(), by which every call of the page reaches the master; which orders the page may give, and which of them need
a fresh code.
Elsewhere: the orders, what they do and recording them (master.requests, master.control); the connection
(control_link).
Fails: Refused NOT_ALLOWED with the master's words; Unavailable.

The page gives orders in the master's own JSON, so that there is one definition of each. The master adds who gave it to
the security trail: `administrator`.
"""

from __future__ import annotations

import socket
from typing import Any

import msgspec

from chatd import control_link, wall_clock
from chatd.errors import ErrorCode, Refused
from chatd.http.admin.requests import FRESH, READ, WRITE, AdminCall, route
from chatd.http.problems import HttpRefused
from chatd.http.route import NoInput

REPLY_S = 35.0
"""Longest wait for a reply. The master asks workers and hosts for at most 30 s."""
UNDER_WAY_S = 1.0
"""How long to wait for the reply to an order that ends this worker, too: long enough to be told that it is refused."""
LOOKS = ("status", "log-levels", "clients", "sessions", "list-traces", "penalties", "config", "config-diff")
"""What changes nothing."""
ORDERS = ("reload", "reopen", "undrain", "log-level", "scale", "kick", "broadcast", "trace", "clear-penalties")
DANGEROUS = ("stop", "drain", "upgrade", "restart-workers")
"""They take long, and end sessions, this page's connection among them: they are replied to when they have begun."""


class Reply(msgspec.Struct, kw_only=True):
    """What the master says of every request. exit: the exit code of chatctl. error: one line, if it was not done."""

    ok: bool = True
    exit: int = 0
    error: str = ""


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order of chatctl. arguments: of this order (master.requests)."""

    cmd: str
    arguments: dict[str, Any] = {}


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """reply: the master's, None = the order has begun."""

    reply: msgspec.Raw | None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One moment. at_ms: epoch. status: as `chatctl status --json` has it."""

    at_ms: int
    host: str
    status: msgspec.Raw


class _StatusReply(Reply, kw_only=True):
    status: msgspec.Raw


async def ask(call: AdminCall, cmd: str, limit_s: float = REPLY_S, **arguments: Any) -> bytes | None:
    """The master's reply to a request of chatctl, in the name of the administrator; None = it is being carried out.
    arguments: a mistake in them is refused. Raises: HttpRefused, Refused; Unavailable."""
    request = {**arguments, "cmd": cmd, "v": 1, "administrator": call.by}
    runtime_dir = call.connection.connections.config().server.runtime_dir
    line = await control_link.ask(runtime_dir, msgspec.json.encode(request), limit_s)
    if line is None:
        return None
    reply = msgspec.json.decode(line, type=Reply)
    if not reply.ok:
        raise Refused(ErrorCode.NOT_ALLOWED, reply.error)
    return line


def _of_these(order: Order, allowed: tuple[str, ...]) -> str:
    """Its name. Raises HttpRefused."""
    if order.cmd not in allowed:
        text = f"{order.cmd} is none of the orders that can be given here: {', '.join(allowed)}"
        raise HttpRefused(ErrorCode.BAD_FIELD, text, field="cmd")
    if reserved := {"cmd", "v", "administrator"} & order.arguments.keys():
        raise HttpRefused(ErrorCode.BAD_FIELD, f"{', '.join(sorted(reserved))}: no argument", field="arguments")
    return order.cmd


async def look(call: AdminCall, _: object, given: Order) -> Done:
    """Raises HttpRefused, Refused; Unavailable."""
    return _done(await ask(call, _of_these(given, LOOKS), **given.arguments))


async def carry_out(call: AdminCall, _: object, given: Order) -> Done:
    """Raises HttpRefused, Refused; Unavailable."""
    return _done(await ask(call, _of_these(given, ORDERS), **given.arguments))


async def begin(call: AdminCall, _: object, given: Order) -> Done:
    """Raises HttpRefused, Refused; Unavailable."""
    return _done(await ask(call, _of_these(given, DANGEROUS), UNDER_WAY_S, **given.arguments))


def _done(line: bytes | None) -> Done:
    return Done(reply=None if line is None else msgspec.Raw(line))


async def live(call: AdminCall, _: object, __: NoInput) -> Sample:
    """Raises Refused, Unavailable. Cost: what `chatctl status` costs, about a millisecond of the master."""
    line = await ask(call, "status")
    assert line is not None
    found = msgspec.json.decode(line, type=_StatusReply)
    return Sample(at_ms=wall_clock.now_ms(), host=socket.gethostname(), status=found.status)


ROUTES = (
    route("GET", "live", READ, live, NoInput, Sample, "How the server is now."),
    route("POST", "looks", READ, look, Order, Done, "Ask the master something, as chatctl does."),
    route("POST", "orders", WRITE, carry_out, Order, Done, "Give an order, as chatctl does."),
    route("POST", "orders/dangerous", FRESH, begin, Order, Done, "Give an order that ends sessions."),
)
