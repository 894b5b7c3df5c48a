"""The section [[bridge]] of the configuration.

Owns: BridgeOptions, and which names are those of the other side.
Elsewhere: the whole schema (config.schema), checks (config.bridges), what a bridge does (bridges).
Fails: never; a value outside its limits is found by config.validate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from chatd.config.option import option


class BridgeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[bridge]], a MobileIMSDK server whose users and those of chatd reach each other (docs/bridges.md)"""

    name: Annotated[
        str,
        option(
            "name of this bridge, unique in this file: under it, the store keeps how far it has come, and its users. "
            "The same on every host of a cluster",
            "worker",
        ),
    ]
    url: Annotated[
        str,
        option(
            "the RabbitMQ of the other server: amqps://USER:PASSWORD@HOST:PORT/VHOST, or amqp:// without TLS",
            "worker",
            secret=True,
        ),
    ]
    ca_file: Annotated[
        str,
        option('amqps: PEM file of the authorities that RabbitMQ is proved by; "" = those of the system', "worker"),
    ] = ""
    prefix: Annotated[
        str,
        option(
            "before the name of each user of the other side, as users here see and write it; no account here can be "
            'registered with it. "" = the name of this bridge and a colon',
            "worker",
        ),
    ] = ""
    own_prefix: Annotated[
        str,
        option(
            "before the name of each user of this side, as users of the other side see and write it. Needed unless "
            "nobody here can register the name of a user there",
            "worker",
        ),
    ] = ""
    users: Annotated[
        tuple[str, ...],
        option(
            'whom of the other side users here may write to first: ids, or patterns with * and ?, such as "*". '
            "Whoever has written from there can always be answered",
            "worker",
        ),
    ] = ()
    unknown_here: Annotated[
        bool,
        option(
            "a message to a name that no account here has goes to the user of the other side with this name; they must "
            "match users",
            "worker",
        ),
    ] = False
    return_unknown: Annotated[
        bool,
        option(
            "a packet for a user who has no account here goes back to the other server, which then treats it as for a "
            "user who is offline there; otherwise it goes to the dead letters",
            "worker",
        ),
    ] = False
    incoming: Annotated[str, option("queue that the other server writes", "worker")] = "q_app2web"
    outgoing: Annotated[str, option("queue that the other server reads", "worker")] = "q_web2app"
    dead_letters: Annotated[
        str, option("queue for packets that cannot be delivered, each with the reason in its headers", "worker")
    ] = "q_chatd_dead_letters"
    prefetch: Annotated[
        int, option("maximum packets that are read before they are stored", "worker", ge=1, le=2000)
    ] = 200
    incoming_bytes: Annotated[
        int, option("largest packet that is accepted from the other side", "worker", ge=256, le=1024 * 1024)
    ] = 64 * 1024
    outgoing_bytes: Annotated[
        int,
        option(
            "largest packet for the other side: a message that would become a larger one is refused. The default is "
            "what stock clients accept over TCP",
            "worker",
            ge=256,
            le=1024 * 1024,
        ),
    ] = 6144


def prefix_of(options: BridgeOptions) -> str:
    return options.prefix or f"{options.name}:"


def prefixes(bridges: Iterable[BridgeOptions]) -> tuple[str, ...]:
    return tuple(prefix_of(one) for one in bridges)
