"""Every option: type, limits, unit, default, description, and when a change takes effect.

Owns: the one typed schema (the structs below), from which validation, `chatd -T`, the sample file, the manual page and
the documentation table are made.
Elsewhere: one option as data, and values in words (config.options), reading a file (config.load), checks across options
(config.validate), what a change means to a running server (config.diff), printing (config.render).
Fails: never; a value outside its limits is found by config.validate.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from chatd.config.account_options import AccountOptions
from chatd.config.bridge_options import BridgeOptions
from chatd.config.files_options import FilesOptions
from chatd.config.http_options import HttpOptions
from chatd.config.limit_options import LEAST_OUTBOX_BYTES as LEAST_OUTBOX_BYTES
from chatd.config.limit_options import LimitOptions as LimitOptions
from chatd.config.metrics_options import MetricsOptions as MetricsOptions
from chatd.config.option import option as _option
from chatd.config.penalty_options import PenaltyOptions
from chatd.config.people_options import GroupOptions, PeopleOptions, RetentionOptions
from chatd.config.push_options import PushOptions
from chatd.config.token_options import LoginHttpOptions, TokenKeyOptions, TokenOptions
from chatd.config.webhook_options import WebhookOptions


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[server]"""

    workers: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=1, le=256)],
        _option("number of worker processes; auto = one per core", "live"),
    ] = "auto"
    state_dir: Annotated[
        str, _option("directory of the database and other data that must persist; relative to this file", "restart")
    ] = "/var/lib/chatd"
    runtime_dir: Annotated[
        str, _option("directory of the pid file and the sockets; relative to this file", "restart")
    ] = "/run/chatd"
    log_dir: Annotated[
        str,
        _option('directory of normal.log and error.log; relative to this file; "-" = standard error', "restart"),
    ] = "/var/log/chatd"
    user: Annotated[
        str, _option('user to run as when started by root; "" = the user that started chatd', "restart")
    ] = ""
    group: Annotated[str, _option('group to run as; "" = the primary group of user', "restart")] = ""


class CertificateOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate with its key. certificate: PEM file, the server's certificate first, then those that sign it.
    key: PEM file; "" = the key is in the file of the certificate. Absolute after loading."""

    certificate: str
    key: str = ""


CHAT_PATH = "/websocket"
"""Where the chat page connects; chatd/web/static/chat.js."""


class ListenerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[listen]]"""

    protocol: Annotated[
        Literal["chatserver", "mobileimsdk", "echo", "http"], _option("protocol of this listener", "restart")
    ]
    address: Annotated[
        str,
        _option(
            "where to listen: tcp://HOST:PORT, udp://HOST:PORT, ws://HOST:PORT/PATH, http://HOST:PORT, unix:PATH, or "
            "with TLS tls://HOST:PORT, wss://HOST:PORT/PATH, https://HOST:PORT",
            "restart",
        ),
    ]
    certificates: Annotated[
        tuple[CertificateOptions, ...],
        _option(
            'tls, wss, https: [{ certificate = "FILE", key = "FILE" }], PEM files relative to this file; of several, '
            "the client is shown the one with the name that it asks for, or else the first. Changed files are noticed "
            "within seconds, without a reload",
            "live",
        ),
    ] = ()
    backlog: Annotated[
        int, _option("connections that may wait in the kernel to be accepted", "restart", ge=1, le=65535)
    ] = 4096
    max_frame_bytes: Annotated[
        int,
        _option("largest frame a client may send; 0 = the protocol's own limit", "worker", ge=0, le=16 * 1024 * 1024),
    ] = 0
    pace_ms: Annotated[
        int,
        _option(
            "chatserver: minimum time between two frames to a client that cannot split them", "worker", ge=0, le=1000
        ),
    ] = 5
    keep_alive_s: Annotated[
        Literal[0, 3, 5, 10, 15, 30, 60, 120],
        _option(
            "mobileimsdk: keep-alive interval of the clients, from which the silence limit follows; 0 = the interval "
            "of stock clients, which is 15, or 3 over udp://",
            "worker",
        ),
    ] = 0
    origins: Annotated[
        tuple[str, ...],
        _option(
            'ws: origins whose pages may connect, each as a browser sends it ("https://HOST"); [] = pages of the same '
            'host (the Host of the request, whatever the port), ["*"] = any page. Clients other than browsers send no '
            "origin and may always connect",
            "worker",
        ),
    ] = ()
    serves: Annotated[
        tuple[Literal["api", "chat", "files", "admin"], ...],
        _option(
            'http: what is served here, of "api", the API for applications; "chat", the chat page, which brings '
            'websocket_path = "/websocket" and, if [files] is on, files with it; "files", uploads and downloads at the '
            'addresses that clients are told; and "admin", the page for operators, which needs TLS, a load '
            "balancer named by proxy_from, or an address of this host alone",
            "worker",
        ),
    ] = ("api",)
    websocket_path: Annotated[
        str,
        _option(
            "http: the path at which mobileimsdk clients connect over WebSocket to the same port, such as "
            '"/websocket"; "" = nowhere. What is said of ws holds for it',
            "worker",
        ),
    ] = ""
    group_prefix: Annotated[
        str,
        _option(
            "mobileimsdk: put before the text of a group message, because stock clients cannot show from which group "
            'it comes; {group} is the group\'s name and {number} its number, for instance "[{group}] ". Clients that '
            'ask for "seq" get the text as it is',
            "worker",
        ),
    ] = ""
    group_typeu: Annotated[
        int,
        _option(
            "mobileimsdk: the typeu of group messages to the same clients, in place of the sender's; -1 = the sender's",
            "worker",
            ge=-1,
            le=2**31 - 1,
        ),
    ] = -1
    proxy_from: Annotated[
        tuple[str, ...],
        _option(
            "all but udp and unix: addresses or networks of load balancers; a connection from one must begin with a "
            "PROXY protocol header (v1 or v2, before TLS), which gives the client's address; [] = no load balancer",
            "worker",
        ),
    ] = ()
    proxy_delivered_s: Annotated[
        float,
        _option(
            "chatserver: bytes sent through a load balancer count as delivered when the balancer has had them this "
            "long and still holds the connection. Set it longer than the balancer takes to notice a vanished client, "
            "or messages to such a client can be lost",
            "worker",
            ge=0.1,
            le=600,
        ),
    ] = 1.0

    @property
    def mounted_path(self) -> str:
        """Of the WebSocket on an HTTP listener; "" = there is none."""
        if self.protocol != "http":
            return ""
        return self.websocket_path or (CHAT_PATH if "chat" in self.serves else "")


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[store]"""

    url: Annotated[
        str, _option("the store: sqlite:FILE (relative to state_dir) or mysql://USER:PASSWORD@HOST:PORT/DB", "restart")
    ] = "sqlite:chatd.db"
    readers: Annotated[int, _option("mysql: connections per worker that only read", "worker", ge=1, le=32)] = 2


class BusOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[bus]"""

    url: Annotated[
        str,
        _option(
            "the message bus: local: (the workers of this host), redis://HOST:PORT/DB, rediss://, unix:SOCKET, "
            "redis+sentinel://HOST:PORT,HOST:PORT/NAME or redis+cluster://HOST:PORT,HOST:PORT",
            "restart",
        ),
    ] = "local:"
    prefix: Annotated[
        str, _option("redis: prefix of all channels and keys; the same on every host of a cluster", "restart")
    ] = "chatd"
    keys: Annotated[
        tuple[str, ...],
        _option(
            'redis: keys that prove that a message is by a worker of this cluster, as "file:PATH" or "env:NAME"; the '
            "first one signs, each is accepted; the same on every host. Needed if Redis is reached over TCP",
            "live",
            secret=True,
        ),
    ] = ()
    insecure_unsigned: Annotated[
        bool,
        _option(
            "redis: accept messages that are not signed, and start without a key: anybody who can publish on Redis can "
            "act as any user. Needed while hosts without a key are in the cluster",
            "live",
        ),
    ] = False
    lease_s: Annotated[
        float,
        _option(
            "redis: a worker that has not renewed its lease for this long counts as gone, and its users as offline",
            "worker",
            ge=2,
            le=60,
        ),
    ] = 5.0


class TimeoutOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[timeouts], all in seconds"""

    login_s: Annotated[
        float, _option("time to log in after connecting, however busy the client is", "live", ge=0.1, le=3600)
    ] = 10.0
    store_s: Annotated[
        float, _option("how long a message may wait for the store before it is refused", "live", ge=0.1, le=60)
    ] = 2.0
    resend_s: Annotated[
        float,
        _option(
            "time until an unacknowledged message is sent again; doubled after each attempt", "live", ge=0.1, le=600
        ),
    ] = 5.0
    stall_s: Annotated[
        float,
        _option(
            "how long a client may read nothing, while data waits for it, before it is disconnected",
            "live",
            ge=0.1,
            le=3600,
        ),
    ] = 30.0
    drain_s: Annotated[float, _option("maximum duration of a graceful stop", "live", ge=0, le=3600)] = 30.0
    drain_spread_s: Annotated[
        float, _option("time over which a draining worker disconnects its clients", "live", ge=0, le=3600)
    ] = 20.0
    hang_s: Annotated[
        float, _option("time without a heartbeat after which a worker is replaced", "live", ge=1, le=3600)
    ] = 30.0
    boot_s: Annotated[
        float, _option("time a new worker has to become ready before it is replaced", "live", ge=1, le=3600)
    ] = 30.0
    boot_wait_s: Annotated[
        float,
        _option(
            "how long a start waits for MySQL and Redis if they cannot be reached; then it fails with exit code 69. "
            "0 = not at all",
            "restart",
            ge=0,
            le=86400,
        ),
    ] = 60.0
    orphan_drain_s: Annotated[
        float, _option("how long workers drain after the master has died", "live", ge=0, le=600)
    ] = 10.0


LogLevel = Literal["DEBUG", "NORMAL", "WARNING", "ERROR", "FATAL"]


class LogOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[log]"""

    level: Annotated[LogLevel, _option("minimum level logged", "live")] = "NORMAL"
    format: Annotated[
        Literal["auto", "json", "text"],
        _option("format on standard error; auto = text on a terminal, otherwise JSON lines", "restart"),
    ] = "auto"
    rotate_bytes: Annotated[int, _option("size at which a log file is rotated; 0 = never", "live", ge=0)] = (
        64 * 1024 * 1024
    )
    rotate_keep: Annotated[
        int, _option("number of rotated files kept of each log file; older ones are removed", "live", ge=1, le=1000)
    ] = 10


class PluginOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[hook]], a plug-in (docs/hooks.md)"""

    name: Annotated[str, _option("name of this plug-in in the log; unique in this file", "worker")]
    entry_point: Annotated[
        str,
        _option('name of an installed entry point in the group chatd.hooks; "" = the name of the plug-in', "worker"),
    ] = ""
    options: Annotated[
        dict[str, Any], _option("passed to the plug-in unchanged; their meaning is defined by the plug-in", "worker")
    ] = {}
    time_limit_ms: Annotated[
        int,
        _option(
            "maximum time for one call of the plug-in; a call that takes longer counts as failed", "worker", 1, 60000
        ),
    ] = 500
    fail: Annotated[
        Literal["", "open", "closed"],
        _option(
            "what a failed call means: closed = refuse what the plug-in was asked about, open = go on as if the "
            'plug-in were not there; "" = not said, which is refused for a plug-in that has a point before_…',
            "worker",
        ),
    ] = ""
    breaker_failures: Annotated[
        int,
        _option(
            "consecutive failures after which a function of the plug-in is not called for a while: not for one user, "
            "if all were for this user; for nobody, if they were for at least three users",
            "worker",
            ge=1,
            le=1000,
        ),
    ] = 5
    breaker_s: Annotated[
        float,
        _option(
            "how long it is not called (for one user: twice as long); then one call tries it again",
            "worker",
            ge=0.1,
            le=3600,
        ),
    ] = 30.0
    threads: Annotated[
        int, _option("threads per worker for its functions that are not async", "worker", ge=1, le=64)
    ] = 4


def _default_listen() -> tuple[ListenerOptions, ...]:
    """Without UDP: stock clients over UDP cannot prove that a datagram is theirs."""
    return (
        ListenerOptions(protocol="chatserver", address="tcp://0.0.0.0:6000"),
        ListenerOptions(protocol="mobileimsdk", address="tcp://0.0.0.0:8901"),
        ListenerOptions(protocol="mobileimsdk", address="ws://0.0.0.0:3000/websocket"),
    )


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Paths in `server` are absolute after loading."""

    server: ServerOptions = ServerOptions()
    listen: tuple[ListenerOptions, ...] = msgspec.field(default_factory=_default_listen)
    store: StoreOptions = StoreOptions()
    bus: BusOptions = BusOptions()
    accounts: AccountOptions = AccountOptions()
    tokens: TokenOptions = TokenOptions()
    token_key: tuple[TokenKeyOptions, ...] = ()
    login_http: LoginHttpOptions = LoginHttpOptions()
    people: PeopleOptions = PeopleOptions()
    groups: GroupOptions = GroupOptions()
    retention: RetentionOptions = RetentionOptions()
    limits: LimitOptions = LimitOptions()
    penalties: PenaltyOptions = PenaltyOptions()
    http: HttpOptions = HttpOptions()
    files: FilesOptions = FilesOptions()
    timeouts: TimeoutOptions = TimeoutOptions()
    log: LogOptions = LogOptions()
    metrics: MetricsOptions = MetricsOptions()
    push: PushOptions = PushOptions()
    hook: tuple[PluginOptions, ...] = ()
    webhook: tuple[WebhookOptions, ...] = ()
    bridge: tuple[BridgeOptions, ...] = ()


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": ServerOptions,
    "listen": ListenerOptions,
    "store": StoreOptions,
    "bus": BusOptions,
    "accounts": AccountOptions,
    "tokens": TokenOptions,
    "token_key": TokenKeyOptions,
    "login_http": LoginHttpOptions,
    "people": PeopleOptions,
    "groups": GroupOptions,
    "retention": RetentionOptions,
    "limits": LimitOptions,
    "penalties": PenaltyOptions,
    "http": HttpOptions,
    "files": FilesOptions,
    "timeouts": TimeoutOptions,
    "log": LogOptions,
    "metrics": MetricsOptions,
    "push": PushOptions,
    "hook": PluginOptions,
    "webhook": WebhookOptions,
    "bridge": BridgeOptions,
}
ARRAYS = ("listen", "token_key", "hook", "webhook", "bridge")
"""Sections that may be written more than once, as [[section]]."""
