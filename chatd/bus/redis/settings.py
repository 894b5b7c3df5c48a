"""The settings of Redis in the URL of the bus, and the limits of using it.

Owns: RedisSettings (where Redis is, how to log in, its TLS context) and RedisLimits.
Elsewhere: the syntax of the URL (chatd.config.urls), connecting (bus.redis.connect), sentinels (bus.redis.sentinel),
clusters (bus.redis.cluster).
Fails: BootError with one line that never contains the URL, because it may hold a password.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Literal, NamedTuple

from chatd.config.urls import parse_redis
from chatd.errors import BootError, Exit

RedisKind = Literal["single", "sentinel", "cluster"]
_KINDS: dict[str, RedisKind] = {"": "single", "sentinel": "sentinel", "cluster": "cluster"}


class RedisServerAddress(NamedTuple):
    """A Unix socket has its path as host, and port 0."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    kind: RedisKind
    addresses: tuple[RedisServerAddress, ...]
    """Of the server; or of the sentinels; or of some nodes of the cluster."""
    username: str = ""
    password: str = ""
    db: int = 0
    tls: ssl.SSLContext | None = None
    service: str = ""
    """The name by which the sentinels know the server."""
    sentinel_username: str = ""
    sentinel_password: str = ""

    @property
    def login(self) -> tuple[str, ...]:
        """The arguments of HELLO that log in to a server; empty without a password."""
        return _login(self.username, self.password)

    @property
    def sentinel_login(self) -> tuple[str, ...]:
        return _login(self.sentinel_username, self.sentinel_password)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisLimits:
    answer_s: float = 1.0
    """The longest wait for an answer."""
    connect_s: float = 2.0
    """The longest wait for a connection, and again for the handshake on it."""
    ping_s: float = 0.5
    """Interval at which a server is pinged, so that it answers."""
    silent_s: float = 3.0
    """A server that says nothing for this long is given up."""
    retry_s: tuple[float, float] = (0.05, 1.0)
    """The first and the longest wait before another attempt to connect."""
    queue_bytes: int = 8 * 1024 * 1024
    """Maximum bytes that wait for one server before publishes to it are dropped."""


def _login(username: str, password: str) -> tuple[str, ...]:
    return ("AUTH", username or "default", password) if password else ()


def read_settings(url: str) -> RedisSettings:
    """Parse the URL and open the TLS files it names.

    Raises:
        BootError: the URL is wrong, or a file cannot be used.
    """
    try:
        found = parse_redis(url)
    except ValueError as error:
        raise BootError(f"bus.url: {error}", Exit.CONFIG) from None
    try:
        tls = _tls(found.options) if found.tls else None
    except OSError as error:  # also what ssl raises
        files = [
            found.options[name] for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") if name in found.options
        ]
        raise BootError(f"bus.url: TLS: {', '.join(files)}: {error.strerror or error}", Exit.CONFIG) from None
    return RedisSettings(
        kind=_KINDS[found.kind],
        addresses=tuple(RedisServerAddress(*one) for one in found.hosts),
        username=found.username,
        password=found.password,
        db=found.db,
        tls=tls,
        service=found.service,
        sentinel_username=found.options.get("sentinel_username", ""),
        sentinel_password=found.options.get("sentinel_password", ""),
    )


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    required = options.get("ssl_cert_reqs") or "required"
    check = options.get("ssl_check_hostname", "true").lower() not in ("false", "0", "no")
    context.check_hostname = check and required == "required"
    context.verify_mode = {
        "required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE
    }[required]  # fmt: skip
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
