"""Every option: type, limits, unit, default, description, and when a change takes effect.

Owns: the one typed schema (the structs below). Loading, `-T`, the sample file, the manual page and the
documentation table are all made from it.
Not here: reading a file (config_load), what a change means to a running server (config_change), printing (config_text).
Fails: never; a value out of its limits is found by config_load.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

LEAST_OUTBOX_BYTES = 16 * 1024

Effect = Literal["live", "worker", "restart"]
"""When a changed option takes effect: at once, in workers started from now on, or at a restart."""


def _option(description: str, effect: Effect, ge: float | None = None, le: float | None = None) -> Meta:
    return Meta(description=description, extra={"effect": effect}, ge=ge, le=le)


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[server]"""

    workers: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=1, le=256)], _option("worker processes; auto = one per core", "live")
    ] = "auto"
    state_dir: Annotated[str, _option("what must survive a restart; relative to this file", "restart")] = (
        "/var/lib/chatd"
    )
    runtime_dir: Annotated[str, _option("pid file and sockets; relative to this file", "restart")] = "/run/chatd"
    log_dir: Annotated[str, _option('where normal.log and error.log are written; "-" = standard error', "restart")] = (
        "/var/log/chatd"
    )
    user: Annotated[str, _option('run as this user when started as root; "" = do not change', "restart")] = ""
    group: Annotated[str, _option('run as this group; "" = the primary group of user', "restart")] = ""


class ListenerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[listen]]"""

    protocol: Annotated[Literal["chatserver", "mobileimsdk", "echo"], _option("what is spoken here", "restart")]
    address: Annotated[str, _option("tcp://HOST:PORT, udp://HOST:PORT, ws://HOST:PORT/PATH or unix:PATH", "restart")]
    backlog: Annotated[
        int, _option("connections the kernel keeps until a worker accepts them", "restart", ge=1, le=65535)
    ] = 4096
    max_frame_bytes: Annotated[
        int,
        _option("largest frame a client may send; 0 = the protocol's own limit", "worker", ge=0, le=16 * 1024 * 1024),
    ] = 0
    pace_ms: Annotated[
        int,
        _option(
            "chatserver: least time between two frames to a client that cannot split them", "worker", ge=0, le=1000
        ),
    ] = 5
    keep_alive_s: Annotated[
        Literal[0, 3, 5, 10, 15, 30, 60, 120],
        _option(
            "mobileimsdk: the clients' keep-alive interval, decides the silence limit; 0 = the stock clients': 15, "
            "over udp:// 3",
            "worker",
        ),
    ] = 0
    origins: Annotated[
        tuple[str, ...],
        _option(
            'ws: pages whose scripts may connect, each as a browser names it, "https://HOST"; [] = any. Clients that '
            "are no browsers name none and may always",
            "worker",
        ),
    ] = ()
    proxy_from: Annotated[
        tuple[str, ...],
        _option(
            "tcp, ws: addresses or networks of load balancers; a connection from one of them must begin with a PROXY "
            "protocol header (v1 or v2), which tells the client's address; [] = none does",
            "worker",
        ),
    ] = ()
    proxy_delivered_s: Annotated[
        float,
        _option(
            "chatserver through a balancer: bytes the balancer has had so long, and still holds the connection, count "
            "as delivered; longer than it takes to notice a client that has vanished, nothing is lost with one",
            "worker",
            ge=0.1,
            le=600,
        ),
    ] = 1.0


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[store]"""

    url: Annotated[
        str, _option("sqlite:FILE (relative to state_dir) or mysql://USER:PASSWORD@HOST:PORT/DB", "restart")
    ] = "sqlite:chatd.db"
    readers: Annotated[
        int, _option("mysql: connections per worker that read beside the commits", "worker", ge=1, le=32)
    ] = 2


class BusOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[bus]"""

    url: Annotated[
        str,
        _option(
            "local: (the workers of this host), redis://HOST:PORT/DB, rediss://, unix:SOCKET, "
            "redis+sentinel://HOST:PORT,HOST:PORT/NAME or redis+cluster://HOST:PORT,HOST:PORT",
            "restart",
        ),
    ] = "local:"
    prefix: Annotated[
        str, _option("redis: what the names of all channels and keys begin with; one per cluster of hosts", "restart")
    ] = "chatd"
    lease_s: Annotated[
        float,
        _option("redis: a worker not heard of for this long is gone, and its users with it", "worker", ge=2, le=60),
    ] = 5.0


class AccountOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[accounts]"""

    login: Annotated[
        Literal["password", "open"],
        _option("open = any token, the account is made at first login (trials only)", "worker"),
    ] = "password"
    registration: Annotated[bool, _option("clients may create accounts", "live")] = True
    insecure_open_login: Annotated[bool, _option('must be true for login = "open"', "worker")] = False
    argon2_memory_kib: Annotated[int, _option("memory of one password hash", "worker", ge=1024, le=1048576)] = 19456
    argon2_passes: Annotated[int, _option("passes of one password hash", "worker", ge=1, le=100)] = 2
    hash_threads: Annotated[int, _option("threads per worker that hash passwords", "worker", ge=1, le=16)] = 1
    presence: Annotated[
        Literal["friends", "all"],
        _option("who may see whether a user is online: friends and members of the same group, or all", "live"),
    ] = "friends"
    min_password_chars: Annotated[int, _option("shortest password allowed at registration", "live", ge=1, le=128)] = 1


class LimitOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[limits]"""

    connections: Annotated[int, _option("connections per worker; 0 = as many as descriptors allow", "live", ge=0)] = 0
    outbox_bytes: Annotated[
        int,
        _option("bytes waiting for one client that does not read; over it, it is cut", "live", ge=LEAST_OUTBOX_BYTES),
    ] = 1024 * 1024
    in_flight: Annotated[
        int,
        _option(
            "messages given to one session and not yet acknowledged; more wait in the store", "live", ge=8, le=65536
        ),
    ] = 512
    body_bytes: Annotated[int, _option("largest message text, UTF-8", "live", ge=16, le=1024 * 1024)] = 4096
    fp_bytes: Annotated[int, _option("longest fp (a sender's own id of a message)", "live", ge=36, le=255)] = 64
    name_chars: Annotated[int, _option("longest user name", "live", ge=3, le=64)] = 50
    group_members: Annotated[int, _option("members of one group", "live", ge=2, le=100000)] = 5000
    groups_per_user: Annotated[int, _option("groups one user may be in", "live", ge=1, le=100000)] = 1000
    friends_per_user: Annotated[int, _option("friends and open requests of one user", "live", ge=1, le=100000)] = 2000
    commands_per_s: Annotated[
        int, _option("commands one connection may send per second, over ten seconds; 0 = any", "live", ge=0)
    ] = 0
    store_queue: Annotated[
        int, _option("messages one worker holds for the store; over it, senders are refused", "live", ge=100)
    ] = 20000
    history_page: Annotated[
        int, _option("messages of one answer to a history or sync request", "live", ge=1, le=1000)
    ] = 100
    presence_watches: Annotated[
        int, _option("users one session may watch coming and going", "live", ge=0, le=100000)
    ] = 1000
    hook_queue: Annotated[
        int,
        _option("events one worker holds for plug-ins that are told afterwards; over it, they are dropped", "live", 1),
    ] = 10000
    login_queue: Annotated[
        int, _option("logins one worker holds for password hashing; over it, they are refused", "live", ge=1)
    ] = 1000


class TimeoutOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[timeouts], all in seconds"""

    login_s: Annotated[float, _option("from connect to login, absolute", "live", ge=0.1, le=3600)] = 10.0
    store_s: Annotated[
        float, _option("longest wait for the store before a message is refused", "live", ge=0.1, le=60)
    ] = 2.0
    resend_s: Annotated[
        float,
        _option("first resend of an unacknowledged message; then twice as long each time", "live", ge=0.1, le=600),
    ] = 5.0
    stall_s: Annotated[
        float, _option("a client that reads nothing of what waits for it is cut after this", "live", ge=0.1, le=3600)
    ] = 30.0
    drain_s: Annotated[float, _option("longest graceful stop", "live", ge=0, le=3600)] = 30.0
    drain_spread_s: Annotated[
        float, _option("a draining worker closes its clients over this time", "live", ge=0, le=3600)
    ] = 20.0
    hang_s: Annotated[float, _option("a worker without heartbeat for this long is replaced", "live", ge=1, le=3600)] = (
        30.0
    )
    boot_s: Annotated[
        float, _option("a worker that does not accept after this long is replaced", "live", ge=1, le=3600)
    ] = 30.0
    orphan_drain_s: Annotated[float, _option("how long workers drain whose master has died", "live", ge=0, le=600)] = (
        10.0
    )


LogLevel = Literal["DEBUG", "NORMAL", "WARNING", "ERROR", "FATAL"]


class LogOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[log]"""

    level: Annotated[LogLevel, _option("least level written", "live")] = "NORMAL"
    format: Annotated[
        Literal["auto", "json", "text"], _option("auto = text on a terminal, else JSON lines", "restart")
    ] = "auto"
    rotate_bytes: Annotated[int, _option("rotate a log file at this size; 0 = never", "live", ge=0)] = 64 * 1024 * 1024
    rotate_keep: Annotated[int, _option("rotated files kept", "live", ge=1, le=1000)] = 10


class PluginOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[hook]], a plug-in (docs/hooks.md)"""

    name: Annotated[str, _option("what this plug-in is called in the log, once in this file", "worker")]
    entry_point: Annotated[
        str, _option('the installed entry point of the group chatd.hooks; "" = the one called as this is', "worker")
    ] = ""
    options: Annotated[
        dict[str, Any], _option("given to the plug-in as they are; what they mean is said by it", "worker")
    ] = {}
    time_limit_ms: Annotated[
        int, _option("longest wait for one answer of the plug-in; over it, the call has failed", "worker", 1, 60000)
    ] = 500
    fail: Annotated[
        Literal["open", "closed"],
        _option(
            "when it fails: open = go on as if it were not there, closed = refuse what it was asked about, for now",
            "worker",
        ),
    ] = "open"
    breaker_failures: Annotated[
        int, _option("failures in a row after which it is not called for a while", "worker", ge=1, le=1000)
    ] = 5
    breaker_s: Annotated[
        float, _option("how long it is not called then; after that, one call tries it", "worker", ge=0.1, le=3600)
    ] = 30.0
    threads: Annotated[
        int, _option("threads per worker for those of its functions that are not async", "worker", ge=1, le=64)
    ] = 4


def _default_listen() -> tuple[ListenerOptions, ...]:
    return (
        ListenerOptions(protocol="chatserver", address="tcp://0.0.0.0:6000"),
        ListenerOptions(protocol="mobileimsdk", address="tcp://0.0.0.0:8901"),
        ListenerOptions(protocol="mobileimsdk", address="udp://0.0.0.0:7901"),
        ListenerOptions(protocol="mobileimsdk", address="ws://0.0.0.0:3000/websocket"),
    )


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Paths in `server` are absolute after loading."""

    server: ServerOptions = ServerOptions()
    listen: tuple[ListenerOptions, ...] = msgspec.field(default_factory=_default_listen)
    store: StoreOptions = StoreOptions()
    bus: BusOptions = BusOptions()
    accounts: AccountOptions = AccountOptions()
    limits: LimitOptions = LimitOptions()
    timeouts: TimeoutOptions = TimeoutOptions()
    log: LogOptions = LogOptions()
    hook: tuple[PluginOptions, ...] = ()


class Option(msgspec.Struct, frozen=True):
    """One option as told to people. `kind` is its annotated type without the Meta."""

    name: str
    kind: Any
    default: Any
    description: str
    effect: Effect
    ge: float | None
    le: float | None


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": ServerOptions,
    "listen": ListenerOptions,
    "store": StoreOptions,
    "bus": BusOptions,
    "accounts": AccountOptions,
    "limits": LimitOptions,
    "timeouts": TimeoutOptions,
    "log": LogOptions,
    "hook": PluginOptions,
}
ARRAYS = ("listen", "hook")
"""Sections that may be written more than once, [[so]]."""


def options_of(section: type[msgspec.Struct]) -> tuple[Option, ...]:
    """The options of one section, in the order of the schema. default: msgspec.NODEFAULT where one must be given."""
    hints = get_type_hints(section, include_extras=True)
    found = []
    for field in msgspec.structs.fields(section):
        meta = hints[field.name].__metadata__[-1]
        found.append(
            Option(
                name=field.name,
                kind=hints[field.name].__origin__,
                default=field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory(),
                description=meta.description,
                effect=meta.extra["effect"],
                ge=meta.ge,
                le=meta.le,
            )
        )
    return tuple(found)
