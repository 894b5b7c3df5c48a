"""The section [push] of the configuration.

Owns: PushOptions.
Elsewhere: the whole schema (config.schema), checks (config.push_checks), notifying (push).
Fails: never; a value outside its limits is found by config.validate.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from chatd.config.option import option

SERVICES = (
    "fcm.googleapis.com",
    "*.push.services.mozilla.com",
    "*.notify.windows.com",
    "*.push.apple.com",
)
"""Those of the browsers that are widely used."""


class PushOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[push], notifications for users who are away (docs/push.md)"""

    subject: Annotated[
        str,
        option(
            'whom a push service asks when this server does harm: mailto:ADDRESS or https://PAGE; "" = no Web Push',
            "worker",
        ),
    ] = ""
    key: Annotated[
        str,
        option(
            'private key by which push services know this server: "file:PATH" or "env:NAME"; make it by `chatctl push '
            "key PATH`. The same on every host of a cluster; with another key, all subscriptions end",
            "worker",
            secret=True,
        ),
    ] = ""
    content: Annotated[
        Literal["none", "sender", "text"],
        option(
            "what a notification says, besides that there is something: nothing, who writes, or also the beginning of "
            "the text. Push services cannot read it",
            "live",
        ),
    ] = "sender"
    delay_s: Annotated[
        float,
        option(
            "how long a message waits before its absent recipient is notified, who may come online meanwhile",
            "live",
            ge=0,
            le=3600,
        ),
    ] = 3.0
    pause_s: Annotated[
        float,
        option(
            "minimum time between two notifications to the same browser; what comes meanwhile is told as one",
            "live",
            ge=0,
            le=86_400,
        ),
    ] = 60.0
    ttl_s: Annotated[
        int,
        option(
            "how long a notification is worth something: push services keep it for a browser that is off, and it is "
            "tried again while they do not answer",
            "live",
            ge=0,
            le=2_419_200,
        ),
    ] = 86_400
    per_user: Annotated[
        int,
        option(
            "maximum subscriptions of a user, of all browsers and devices; a new one replaces the oldest",
            "live",
            ge=1,
            le=100,
        ),
    ] = 10
    services: Annotated[
        tuple[str, ...],
        option(
            'hosts of push services to which notifications may be sent; "*.NAME" = all below NAME, "*" = any public '
            "host, which lets users choose to which hosts this server sends requests",
            "worker",
        ),
    ] = SERVICES
    allow_private: Annotated[
        tuple[str, ...],
        option(
            "addresses or networks of push services of your own that are not public, also over http; [] = none",
            "worker",
        ),
    ] = ()
    gateways: Annotated[
        tuple[str, ...],
        option(
            'names of other gateways, such as "apns", that a plug-in serves (its function push, docs/hooks.md); '
            "clients subscribe with the name and a token. [] = none",
            "worker",
        ),
    ] = ()
    timeout_s: Annotated[float, option("how long a push service may take to answer", "worker", ge=0.1, le=60)] = 10.0
