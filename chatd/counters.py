"""The numbers that every process keeps about itself: name, meaning, unit, and who writes each.

Owns: the one definition of every number. The status that `chatctl` shows is made from it (master.status,
chatctl.render), and the metrics (master.metrics.table).
Elsewhere: the memory that they are in (scoreboard), groups of numbers that differ in one respect (tallies).
Fails: never.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal, NamedTuple

import msgspec

Unit = Literal["", "s", "ms", "us", "ns", "bytes", "per second", "%"]
"""Unit of a number; "" = it counts things."""


class State(enum.IntEnum):
    """The state of a worker in its row. Only the master knows whether it hangs."""

    EMPTY = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3
    DEGRADED = 4  # the worker died; a new one is due


class Field(NamedTuple):
    """One number. writer: the process that stores it once the worker runs. heading: of its column in `chatctl
    workers`, or after the number in `chatctl status`. total: the status also shows its sum over all processes since the
    server started, ended ones included. counts: that sum is kept, for metrics, and not shown in the status; the number
    only grows while its process lives. A number without either is a state, which ends with its process."""

    meaning: str
    unit: Unit = ""
    writer: Literal["worker", "master"] = "worker"
    heading: str = ""
    total: bool = False
    counts: bool = False


class Counters(msgspec.Struct, kw_only=True):
    """What `chatctl status --json` shows of a worker under the same names."""

    connections: Annotated[int, Field("open connections, UDP peers included", heading="CONNS")]
    sessions: Annotated[int, Field("users logged in", heading="SESS")]
    messages_in: Annotated[
        int, Field("messages accepted from clients and stored, since the worker started", counts=True)
    ]
    messages_out: Annotated[int, Field("messages written to clients, since the worker started", counts=True)]
    loop_lag_us: Annotated[
        int, Field("largest delay of a timer of the event loop in the last 10 s", "us", heading="LAG/ms")
    ]
    commit_p99_us: Annotated[int, Field("99th percentile of store commits in the last 10 s", "us", heading="COM/ms")]
    queue_bytes: Annotated[int, Field("bytes waiting to be written to clients", "bytes", heading="QUEUE")]
    queue_messages: Annotated[int, Field("messages waiting for the store")]
    errors: Annotated[
        int, Field("log records of level ERROR or FATAL, since the worker started", heading="ERR", counts=True)
    ]
    refused: Annotated[
        int,
        Field("connections refused or ended to make room, since the worker started", counts=True),
    ]
    refused_full: Annotated[
        int,
        Field(
            "of these, because the worker had no room or no descriptors for any client, since the worker started",
            counts=True,
        ),
    ]
    log_dropped: Annotated[int, Field("log records that could not be written, since the worker started", counts=True)]
    store_ok: Annotated[bool, Field("the last commit succeeded")]
    bus_ok: Annotated[bool, Field("the message bus works; a worker that hangs does not make it false")]
    bus_round_trip_us: Annotated[int, Field("last round trip on the message bus; 0 = not measured by this bus", "us")]
    bus_gaps: Annotated[
        int, Field("times that messages of the bus may have been lost, since the worker started", counts=True)
    ]
    bus_forged: Annotated[bool, Field("a forged or replayed bus message was refused in the last 10 minutes")]
    udp_peers: Annotated[int, Field("UDP peers; they are included in `connections`")]
    udp_dropped: Annotated[
        int, Field("datagrams that could not be sent or served, since the worker started", counts=True)
    ]
    hooks_open: Annotated[
        int, Field("functions of plug-ins that are not called at the moment because they failed repeatedly")
    ]
    hook_users_held: Annotated[
        int, Field("users for whom a function of a plug-in is not called at the moment because it failed for them")
    ]
    hook_failures: Annotated[int, Field("calls of plug-ins that failed, since the worker started", counts=True)]
    hook_dropped: Annotated[
        int, Field("events for plug-ins dropped because the queue was full, since the worker started", counts=True)
    ]
    store_bytes: Annotated[
        int,
        Field("size of the store; only the ready worker with the lowest slot measures it, and does retention", "bytes"),
    ] = 0
    store_free_bytes: Annotated[int, Field("of these, bytes that hold nothing", "bytes")] = 0
    store_reclaims: Annotated[bool, Field("bytes that hold nothing are given back to the file system")] = False
    oldest_message_ms: Annotated[int, Field("when the oldest message that is kept was sent, since the epoch", "ms")] = 0
    retention_at_ms: Annotated[int, Field("when retention last completed its work, since the epoch", "ms")] = 0
    retention_failed: Annotated[bool, Field("the last attempt of retention failed; the log says why")] = False
    retention_held: Annotated[
        bool, Field("retention deletes nothing because the clock is far ahead of when it worked last")
    ] = False
    retention_deleted: Annotated[
        int, Field("messages deleted or blanked", heading="messages deleted or blanked", total=True)
    ] = 0
    erasures_pending: Annotated[int, Field("erased accounts whose messages are being blanked")] = 0
    address_bans: Annotated[int, Field("networks that an operator keeps out, as the worker knows them")] = 0
    webhook_waiting: Annotated[
        int, Field("events that the receivers of webhooks have not taken; of the webhooks that this worker delivers")
    ] = 0
    webhook_lag_ms: Annotated[int, Field("age of the oldest of them", "ms")] = 0
    webhooks_failing: Annotated[int, Field("of these webhooks, those whose last attempt failed")] = 0
    webhooks_disabled: Annotated[
        int, Field("webhooks that nobody delivers because their receiver wants no more; only the leader says so")
    ] = 0
    webhook_events: Annotated[
        int, Field("events that receivers of webhooks have taken", heading="events sent to webhooks", total=True)
    ] = 0
    webhook_failures: Annotated[
        int, Field("attempts to send to webhooks that failed", heading="failed attempts", total=True)
    ] = 0
    bridge_waiting: Annotated[
        int,
        Field("messages for users of other servers that RabbitMQ does not have; of the bridges that this worker has"),
    ] = 0
    bridge_lag_ms: Annotated[int, Field("age of the oldest of them", "ms")] = 0
    bridges_failing: Annotated[int, Field("of these bridges, those of which a direction does not work")] = 0
    bridge_received: Annotated[
        int, Field("messages of users of other servers", heading="messages in over bridges", total=True)
    ] = 0
    bridge_sent: Annotated[
        int, Field("messages for users of other servers", heading="messages out over bridges", total=True)
    ] = 0
    bridge_returned: Annotated[
        int,
        Field(
            "packets for nobody here that went back to the other server",
            heading="packets returned over bridges",
            total=True,
        ),
    ] = 0
    bridge_dead_letters: Annotated[
        int, Field("packets of bridges that cannot be delivered", heading="packets in dead letters", total=True)
    ] = 0
    bridge_failures: Annotated[
        int,
        Field("attempts to use the RabbitMQ of a bridge that failed", heading="failed attempts of bridges", total=True),
    ] = 0
    files_stored: Annotated[
        int, Field("files that people have uploaded; only the ready worker with the lowest slot counts them")
    ] = 0
    file_bytes_stored: Annotated[int, Field("bytes of their content, each content once", "bytes")] = 0
    files_uploaded: Annotated[int, Field("files uploaded", heading="files uploaded", total=True)] = 0
    file_bytes_uploaded: Annotated[
        int, Field("bytes of files uploaded", heading="bytes of files uploaded", total=True)
    ] = 0
    push_sent: Annotated[
        int,
        Field("notifications that push services and gateways have taken", heading="notifications sent", total=True),
    ] = 0
    push_failures: Annotated[
        int, Field("attempts to notify that failed", heading="failed notifications", total=True)
    ] = 0
    push_removed: Annotated[
        int,
        Field("subscriptions removed because they have ended", heading="subscriptions ended", total=True),
    ] = 0
    logins: Annotated[int, Field("logins that succeeded", heading="ok", total=True)]
    logins_failed: Annotated[
        int, Field("logins with an unknown name or a wrong password", heading="failed", total=True)
    ]
    logins_refused: Annotated[int, Field("logins refused for another reason", heading="refused", total=True)]
    registrations: Annotated[int, Field("accounts registered by clients", heading="accounts registered", total=True)]
    registrations_refused: Annotated[int, Field("registrations refused", heading="registrations refused", total=True)]
    passwords_changed: Annotated[
        int, Field("passwords changed by their users", heading="passwords changed", total=True)
    ]
    password_changes_failed: Annotated[
        int, Field("changes of a password refused", heading="changes of a password refused", total=True)
    ]
    connections_refused: Annotated[
        int,
        Field(
            "connections refused or ended: too many of a source, a banned address, or a page of another origin",
            heading="connections refused by source",
            total=True,
        ),
    ]
    datagrams_refused: Annotated[
        int, Field("datagrams refused because their token is missing or wrong", heading="datagrams refused", total=True)
    ]
    identities_refused: Annotated[
        int, Field("commands sent in another user's name", heading="claimed identities refused", total=True)
    ]
    penalties_begun: Annotated[
        int, Field("penalties begun, of sources and of accounts", heading="penalties begun", total=True)
    ]
    hooks_suspended: Annotated[
        int, Field("times a plug-in that decides was suspended", heading="plug-ins suspended", total=True)
    ]
    bus_forgeries: Annotated[
        int, Field("bus messages refused because of their signature", heading="bus messages refused", total=True)
    ]
    rate_refused: Annotated[
        int, Field("commands refused because their user exceeds a rate", heading="refused by rate", total=True)
    ]
    mailbox_refused: Annotated[
        int,
        Field(
            "messages refused because too many wait for their recipient",
            heading="refused by full mailboxes",
            total=True,
        ),
    ]
    api_keys_refused: Annotated[
        int, Field("requests to the HTTP API with a key that is not valid", heading="API keys refused", total=True)
    ] = 0
    api_scopes_missing: Annotated[
        int,
        Field(
            "requests to the HTTP API with a key without the scope that is needed",
            heading="API scopes missing",
            total=True,
        ),
    ] = 0
    http_requests: Annotated[
        int, Field("requests to the HTTP API answered", heading="API requests answered", total=True)
    ] = 0
    http_client_errors: Annotated[
        int, Field("of these, with a status from 400 to 499", heading="API requests refused", total=True)
    ] = 0
    http_server_errors: Annotated[
        int, Field("of these, with a status from 500 to 599", heading="API requests failed", total=True)
    ] = 0
    log_held_back: Annotated[
        int, Field("log records held back because they repeat", heading="log records held back", total=True)
    ]
    penalties_replaced: Annotated[
        int,
        Field(
            "records of the penalty table given up for others while they still counted, because there was no room",
            heading="penalties given up",
            total=True,
        ),
    ]


class Cells(Counters, kw_only=True):
    """Everything a row holds: the counters, and what only the master reads."""

    pid: Annotated[int, Field("process id", writer="master")]
    generation: Annotated[int, Field("configuration the worker has applied")]
    state: Annotated[int, Field("one of State")]
    started_ms: Annotated[int, Field("when the worker was forked, since the epoch", "ms", writer="master")]
    heartbeat_ns: Annotated[int, Field("CLOCK_MONOTONIC of the event loop's last turn", "ns")]
    log_generation: Annotated[int, Field("rotations of the log files; in the master's row only", writer="master")]
