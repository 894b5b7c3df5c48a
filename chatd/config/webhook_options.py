"""The section [[webhook]] of the configuration.

Owns: WebhookOptions, and which names of events there are.
Elsewhere: the whole schema (config.schema), checks (config.validate), sending (webhooks), what is recorded
(store.event_contract, whose names these are).
Fails: never; a value outside its limits is found by config.validate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from chatd.config.option import option

EVENTS = (
    "message.stored",
    "message.edited",
    "message.recalled",
    "message.removed",
    "user.registered",
    "user.login",
    "user.logout",
    "user.deleted",
    "user.erased",
    "user.offline_message",
    "group.created",
    "group.joined",
    "group.left",
    "group.kicked",
    "group.role",
    "group.renamed",
    "group.dissolved",
)
"""As store.event_contract.EventKind."""


class WebhookOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[webhook]], a URL that is told what happens (docs/webhooks.md)"""

    name: Annotated[
        str,
        option(
            "name of this webhook, unique in this file: under it, the store keeps how far it has come. The same on "
            "every host of a cluster",
            "worker",
        ),
    ]
    url: Annotated[str, option("where events are sent, by POST: https://HOST/PATH or http://HOST/PATH", "worker")]
    events: Annotated[
        tuple[str, ...],
        option('which events: names, or a family such as "group.*"; [] = those of messages', "worker"),
    ] = ()
    secrets: Annotated[
        tuple[str, ...],
        option(
            'what signs: "whsec_" and 24 to 64 bytes in Base64, as "file:PATH" or "env:NAME". With several, each '
            "signs, so that a receiver can change to another one at any time",
            "worker",
            secret=True,
        ),
    ]
    timeout_s: Annotated[float, option("how long the receiver may take to answer", "worker", ge=0.1, le=300)] = 10.0
    batch: Annotated[int, option("maximum events of one request", "worker", ge=1, le=2000)] = 500
    batch_bytes: Annotated[
        int,
        option(
            "maximum characters of the messages of one request; a single longer message is sent nevertheless",
            "worker",
            ge=1024,
            le=16 * 1024 * 1024,
        ),
    ] = 1024 * 1024
    allow_private: Annotated[
        tuple[str, ...],
        option(
            'addresses or networks that may be reached although they are not public, such as "10.1.2.3" or '
            '"127.0.0.0/8"; [] = none',
            "worker",
        ),
    ] = ()


def wanted(options: WebhookOptions) -> frozenset[str]:
    """The names of the events that this webhook is told of."""
    return frozenset(name for pattern in options.events or ("message.*",) for name in matching(pattern))


def matching(pattern: str) -> tuple[str, ...]:
    """The names of events that this stands for; none = it is no such name."""
    if pattern == "*":
        return EVENTS
    if pattern.endswith(".*"):
        return tuple(name for name in EVENTS if name.startswith(pattern[:-1]))
    return (pattern,) if pattern in EVENTS else ()


def wanted_by_any(webhooks: Iterable[WebhookOptions]) -> frozenset[str]:
    return frozenset(name for one in webhooks for name in wanted(one))
