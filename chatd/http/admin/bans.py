"""Address bans, on the operator's page.

Owns: showing, adding and removing them; their inputs and outputs.
Elsewhere: the bans (address_bans), applying them (core.bans), what should not be banned (core.protected_networks), the
same from a terminal (chatctl.bans), penalties (http.admin.orders).
Fails: Refused, Unavailable.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from chatd import wall_clock
from chatd.address_bans import FOREVER_MS, AddressBan, Network, network_named
from chatd.core.protected_networks import protected_in
from chatd.errors import ErrorCode, Refused
from chatd.http.admin.requests import LONGEST_S, READ, WRITE, AdminCall, route
from chatd.http.problems import HttpRefused
from chatd.http.route import NoInput
from chatd.orders import REASON_CHARS
from chatd.security_log import SecurityEvent
from chatd.sources import address_of
from chatd.texts import fields

_Text = Annotated[str, Meta(min_length=1, max_length=200)]


class Bans(msgspec.Struct, frozen=True):
    """Those in force, by network."""

    bans: list[AddressBan]


class WantedBan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """network: or an address. for_s: 0 = until it is removed. force: even if it is one of those that should not be
    banned."""

    network: _Text
    for_s: Annotated[int, Meta(ge=0, le=LONGEST_S)] = 0
    reason: Annotated[str, Meta(max_length=REASON_CHARS)] = ""
    force: bool = False


class Banned(msgspec.Struct, frozen=True, kw_only=True):
    """ended: connections. unanswered: hosts that apply it when they can."""

    network: str
    ended: int
    unanswered: tuple[str, ...]


class Removal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    network: _Text


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """removed: it was banned."""

    removed: bool
    unanswered: tuple[str, ...] = ()


def _network(text: str) -> Network:
    """Raises HttpRefused."""
    try:
        return network_named(text)
    except ValueError:
        raise HttpRefused(ErrorCode.BAD_FIELD, f"{text} is neither an address nor a network", field="network") from None


async def show(call: AdminCall, _: object, __: NoInput) -> Bans:
    """Raises Unavailable."""
    now_ms = wall_clock.now_ms()
    found = await call.core.store.read(lambda tables: tables.address_bans.all())
    return Bans([one for one in found if one.in_force(now_ms)])


async def add(call: AdminCall, _: object, wanted: WantedBan) -> Banned:
    """Raises Refused NOT_ALLOWED: it would keep out what should not be; BAD_FIELD, LIMIT_REACHED; Unavailable."""
    network, now_ms = _network(wanted.network), wall_clock.now_ms()
    config = call.connection.connections.config()
    hits = [] if wanted.force else protected_in(network, config, address_of(call.connection.remote))
    if hits:
        raise Refused(ErrorCode.NOT_ALLOWED, "; ".join(f"{network} contains {one.network}: {one.why}" for one in hits))
    ban = AddressBan(
        network=str(network),
        reason=fields.line("the reason", wanted.reason, REASON_CHARS) if wanted.reason else "",
        by=call.by,
        at_ms=now_ms,
        until_ms=now_ms + 1000 * wanted.for_s if wanted.for_s else FOREVER_MS,
    )
    await call.core.store.write(lambda tables: tables.address_bans.add(ban, now_ms))
    arguments = {"network": ban.network, "for_s": wanted.for_s, "reason": ban.reason}
    call.record(SecurityEvent.ORDER, order="ban", arguments=arguments, result="ok")
    applied = await call.core.bans.apply()
    return Banned(network=ban.network, ended=applied.ended, unanswered=applied.unanswered)


async def remove(call: AdminCall, _: object, given: Removal) -> Removed:
    """Raises Refused BAD_FIELD; Unavailable."""
    network, now_ms = str(_network(given.network)), wall_clock.now_ms()
    removed = await call.core.store.write(lambda tables: tables.address_bans.remove(network, now_ms))
    if not removed:
        return Removed(removed=False)
    call.record(SecurityEvent.ORDER, order="unban", arguments={"network": network}, result="ok")
    applied = await call.core.bans.apply()
    return Removed(removed=True, unanswered=applied.unanswered)


ROUTES = (
    route("GET", "bans", READ, show, NoInput, Bans, "Networks that are kept out."),
    route("POST", "bans", WRITE, add, WantedBan, Banned, "Keep a network out."),
    route("POST", "bans/remove", WRITE, remove, Removal, Removed, "Let a network in again."),
)
