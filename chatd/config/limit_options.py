"""The section [limits] of the configuration.

Owns: LimitOptions.
Elsewhere: the whole schema (config.schema); what each limit means and what happens when it is reached
(docs/internals/errors-and-limits.md).
Fails: never; a value outside its limits is found by config.validate.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from chatd.config.option import option

LEAST_OUTBOX_BYTES = 16 * 1024


class LimitOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[limits]"""

    connections: Annotated[
        int, option("maximum connections per worker; 0 = as many as there are descriptors", "live", ge=0)
    ] = 0
    connections_per_source: Annotated[
        int,
        option(
            "maximum connections per worker from one source network (an IPv4 address or an IPv6 /64), and UDP sessions "
            "likewise; 0 = no limit. A source in penalties.allow, and a Unix socket, has none",
            "live",
            ge=0,
        ),
    ] = 2000
    unauthenticated: Annotated[
        int,
        option(
            "maximum connections per worker that have not logged in; for a further one the oldest of the source that "
            "has most of them is ended",
            "live",
            ge=1,
        ),
    ] = 1000
    outbox_bytes: Annotated[
        int,
        option(
            "maximum bytes waiting to be written to one client; a client that exceeds it is disconnected",
            "live",
            ge=LEAST_OUTBOX_BYTES,
        ),
    ] = 1024 * 1024
    in_flight: Annotated[
        int,
        option(
            "maximum unacknowledged messages in flight to one session; further ones wait in the store",
            "live",
            ge=8,
            le=65536,
        ),
    ] = 512
    body_bytes: Annotated[
        int,
        option(
            "maximum size of a message text, in bytes of UTF-8; the default admits every text that fits into one "
            "packet of a stock MobileIMSDK client over TCP",
            "live",
            ge=16,
            le=1024 * 1024,
        ),
    ] = 6144
    fp_bytes: Annotated[
        int, option("maximum length of an fp (the sender's own id of a message)", "live", ge=36, le=255)
    ] = 64
    name_chars: Annotated[int, option("maximum length of a user name", "live", ge=3, le=64)] = 50
    group_members: Annotated[int, option("maximum members of a group", "live", ge=2, le=100000)] = 5000
    groups_per_user: Annotated[int, option("maximum groups that a user is a member of", "live", ge=1, le=100000)] = 1000
    friends_per_user: Annotated[
        int, option("maximum friends and open friend requests of a user", "live", ge=1, le=100000)
    ] = 2000
    friend_requests: Annotated[int, option("maximum open friend requests to a user", "live", ge=1, le=100000)] = 200
    blocks_per_user: Annotated[int, option("maximum users that a user blocks", "live", ge=1, le=100000)] = 1000
    waiting_from_one: Annotated[
        int,
        option(
            "maximum messages that wait for a user in one conversation of two; a further one is refused until the user "
            "has received some; 0 = no limit",
            "live",
            ge=0,
        ),
    ] = 1000
    waiting: Annotated[
        int,
        option(
            "the same for all conversations of two of a user together, the last quarter for the user's friends only; "
            "each worker may exceed it by a sixteenth",
            "live",
            ge=0,
        ),
    ] = 10000
    commands_per_s: Annotated[
        int,
        option(
            "maximum commands per second of a user on one worker, averaged over 10 s; a page of history counts as "
            "several (docs/internals/errors-and-limits.md); 0 = no limit; acknowledgements are served all the same",
            "live",
            ge=0,
            le=1000000,
        ),
    ] = 20
    recipients_per_s: Annotated[
        int,
        option(
            "maximum recipients per second of the messages of a user on one worker, averaged over 10 s; a message to a "
            "group counts once for each of its members; 0 = no limit",
            "live",
            ge=0,
            le=100000000,
        ),
    ] = 5000
    changes_per_hour: Annotated[
        int,
        option(
            "maximum invitations and changes of profiles and groups per hour by a user, on all workers together; "
            "joining a group counts as 3, a friend request as 6, a new group as 10; those of an hour can be made at "
            "once; 0 = no limit",
            "live",
            ge=0,
            le=1000000,
        ),
    ] = 300
    store_queue: Annotated[
        int,
        option("maximum messages per worker that wait for the store; further ones are refused", "live", ge=100),
    ] = 20000
    history_page: Annotated[
        int, option("maximum messages in one answer to a history or sync request", "live", ge=1, le=1000)
    ] = 100
    presence_watches: Annotated[
        int, option("maximum users whose presence one session may watch", "live", ge=0, le=100000)
    ] = 1000
    hook_queue: Annotated[
        int,
        option("maximum events per worker that wait to be reported to plug-ins; further ones are dropped", "live", 1),
    ] = 10000
    login_queue: Annotated[
        int,
        option("maximum logins per worker that wait for a password to be hashed; further ones are refused", "live", 1),
    ] = 1000
