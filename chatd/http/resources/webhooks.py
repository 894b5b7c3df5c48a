"""/v1/webhooks: how far they are, trying one, sending events again.

Owns: the inputs and outputs of these routes, and their records in the security trail.
Elsewhere: what is shown, and where a replay begins (webhooks.overview); sending (webhooks.trial, webhooks.delivery);
the same for people (chatctl.webhooks). They are made and removed in the configuration.
Fails: Refused UNKNOWN_WEBHOOK; Unavailable.

A server without a [[webhook]] loads nothing that sends. Whoever delivers loses the lease by a replay or by enable, and
goes on from there within a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, NoReturn, TypeVar

import msgspec
from msgspec import Meta

from chatd import wall_clock
from chatd.config.webhook_options import WebhookOptions
from chatd.errors import ErrorCode, Refused
from chatd.http.call import Call
from chatd.http.problems import HttpRefused
from chatd.http.resources.shared import MaybeTime, maybe
from chatd.http.route import NoInput, Route
from chatd.security_log import SecurityEvent
from chatd.store.contract import Tables
from chatd.webhooks import overview
from chatd.webhooks.overview import POSITION, Place, State, WebhookView, is_webhook

T = TypeVar("T")
_Name = Annotated[
    str, Meta(min_length=1, max_length=64, description="as in its [[webhook]]", examples=["backend"])
]  # fmt: skip
_Position = Annotated[
    str,
    Meta(pattern=POSITION, description="MESSAGE:EVENT, everything up to here has been answered", examples=["120:7"]),
]
_UNKNOWN = (ErrorCode.UNKNOWN_WEBHOOK,)


class OneWebhook(msgspec.Struct, frozen=True):
    """The path of a webhook."""

    name: _Name


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook that the store knows."""

    name: str
    state: Annotated[
        State,
        Meta(
            description="failing: the last attempt failed, and is repeated; disabled: its receiver wanted no more; "
            "idle: nobody delivers at the moment"
        ),
    ]
    configured: Annotated[bool, Meta(description="this server has it in its configuration")]
    events: Annotated[list[str], Meta(description="names of the events that it is told of")]
    waiting: Annotated[
        int | None, Meta(description="events that are not answered, at most; null: this server delivers no webhooks")
    ]
    lag_ms: Annotated[
        int | None, Meta(description="for how long the oldest of them has waited; 0: none waits; null: as `waiting`")
    ]
    position: _Position
    delivered: Annotated[int, Meta(description="events answered, in all")]
    delivered_at_ms: MaybeTime
    failures: Annotated[int, Meta(description="attempts that failed since the last success")]
    failed_at_ms: MaybeTime
    error: Annotated[str, Meta(description="the last failure")]
    disabled_at_ms: MaybeTime
    dropped: Annotated[int, Meta(description="events that were too old, and were deleted without being sent, in all")]


class Webhooks(msgspec.Struct, frozen=True):
    """All webhooks that the store knows, by name."""

    webhooks: list[Webhook]


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one event without a meaning."""

    ok: Annotated[bool, Meta(description="the receiver took it")]
    error: Annotated[str, Meta(description="why not; empty: it did")]
    took_ms: int


class Replay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to go on: exactly one of the fields."""

    since_ms: Annotated[
        Annotated[int, Meta(ge=0, lt=1 << 53)] | None,
        Meta(description="with the first event of this time or later, milliseconds since the epoch"),
    ] = None
    position: Annotated[_Position | None, Meta(description="with the first event after this position")] = None
    now: Annotated[bool, Meta(description="with what happens from now on: what waits is skipped")] = False


class Moved(msgspec.Struct, frozen=True):
    """Where the webhook goes on."""

    position: _Position


class Enabled(msgspec.Struct, frozen=True):
    """The webhook is delivered."""

    was_disabled: bool


# ---------------------------------------------------------------- reading


async def list_webhooks(call: Call, _: NoInput, __: NoInput) -> Webhooks:
    if call.webhooks is not None:
        found = await call.webhooks.listed()
    else:
        states, now_ms = await call.core.store.read(overview.all_of), wall_clock.now_ms()
        found = [overview.view(one, None, call.config, now_ms) for one in states]
    return Webhooks([_shown(one) for one in found])


def _shown(one: WebhookView) -> Webhook:
    return Webhook(
        name=one.name,
        state=one.state,
        configured=one.configured,
        events=list(one.events),
        waiting=one.waiting,
        lag_ms=one.lag_ms,
        position=one.position,
        delivered=one.delivered,
        delivered_at_ms=maybe(one.delivered_at_ms),
        failures=one.failures,
        failed_at_ms=maybe(one.failed_at_ms),
        error=one.error,
        disabled_at_ms=maybe(one.disabled_at_ms),
        dropped=one.dropped,
    )


# ---------------------------------------------------------------- changing


async def try_webhook(call: Call, at: OneWebhook, _: NoInput) -> Tried:
    options = _configured(call, at.name)
    from chatd.webhooks.trial import try_out  # loaded where a webhook is configured (preload.WEBHOOKS)

    tried = await try_out(options)
    _record(call, "webhook test", {"name": at.name}, tried.error)
    return Tried(ok=not tried.error, error=tried.error, took_ms=tried.took_ms)


async def replay(call: Call, at: OneWebhook, where: Replay) -> Moved:
    if (where.since_ms is not None) + (where.position is not None) + where.now != 1:
        raise HttpRefused(ErrorCode.BAD_FIELD, "exactly one of since_ms, position and now is needed", field="$")
    position = None if where.position is None else overview.read_position(where.position)
    place = Place(at_ms=where.since_ms, position=position)

    def work(tables: Tables) -> Moved:
        found = place.find(tables)
        if not (is_webhook(at.name) and tables.webhooks.replay(at.name, found)):
            _unknown(at.name)
        return Moved(f"{found.message}:{found.event}")

    moved = await _once(call, work, Moved)
    _record(call, "webhook replay", {"name": at.name, "position": moved.position})
    return moved


async def enable(call: Call, at: OneWebhook, _: NoInput) -> Enabled:
    def work(tables: Tables) -> Enabled:
        before = tables.webhooks.find(at.name) if is_webhook(at.name) else None
        if before is None or not tables.webhooks.enable(at.name):
            _unknown(at.name)
        return Enabled(was_disabled=bool(before.disabled_at_ms))

    enabled = await _once(call, work, Enabled)
    _record(call, "webhook enable", {"name": at.name})
    return enabled


async def _once(call: Call, work: Callable[[Tables], T], kind: type[T]) -> T:
    done: T = await call.once(lambda tables, now_ms: work(tables), kind)
    return done


def _configured(call: Call, name: str) -> WebhookOptions:
    """Raises Refused."""
    found = next((one for one in call.config.webhook if one.name == name), None)
    return found if found is not None else _unknown(name)


def _unknown(name: str) -> NoReturn:
    raise Refused(ErrorCode.UNKNOWN_WEBHOOK, f"no such webhook: {name}")


def _record(call: Call, order: str, arguments: dict[str, str], why: str = "") -> None:
    if not call.replayed:
        result = "failed" if why else "ok"
        call.record(SecurityEvent.ORDER, order=order, arguments=arguments, result=result, why=why)


ROUTES = (
    Route(
        method="GET",
        path="/v1/webhooks",
        scope="webhooks:read",
        handler=list_webhooks,
        text="List the webhooks: their state, what waits, and their last failure.",
        output=Webhooks,
    ),
    Route(
        method="POST",
        path="/v1/webhooks/{name}/test",
        scope="webhooks:write",
        handler=try_webhook,
        text="Send one signed event without a meaning to a webhook; takes up to its timeout_s.",
        parameters=OneWebhook,
        output=Tried,
        refusals=_UNKNOWN,
    ),
    Route(
        method="POST",
        path="/v1/webhooks/{name}/replay",
        scope="webhooks:write",
        handler=replay,
        text="Send the events of a webhook again from some place on, or skip some.",
        parameters=OneWebhook,
        input=Replay,
        output=Moved,
        refusals=_UNKNOWN,
        idempotent=True,
    ),
    Route(
        method="POST",
        path="/v1/webhooks/{name}/enable",
        scope="webhooks:write",
        handler=enable,
        text="Deliver again to a receiver that wanted no more, or without waiting for the next attempt.",
        parameters=OneWebhook,
        output=Enabled,
        refusals=_UNKNOWN,
        idempotent=True,
    ),
)
