"""What the URL of the bus says of Redis, as it is used: where it is, how to log in, how it is proved.

Owns: TLS. Not here: the text (chatd.config.urls), connecting and asking sentinels (bus.redis.node), the topology of a
cluster (bus.redis.cluster).
Fails: BootError, one line, without the URL: it may hold a password.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Literal, NamedTuple

from chatd.config.urls import parse_redis
from chatd.errors import BootError, Exit

Kind = Literal["single", "sentinel", "cluster"]
_KINDS: dict[str, Kind] = {"": "single", "sentinel": "sentinel", "cluster": "cluster"}


class Address(NamedTuple):
    """A Unix socket has its path as host and port 0."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


@dataclass(frozen=True, slots=True)
class Place:
    """addresses: of the server, of the sentinels, or of some nodes of the cluster. service: the sentinels' name of
    it."""

    kind: Kind
    addresses: tuple[Address, ...]
    username: str = ""
    password: str = ""
    db: int = 0
    tls: ssl.SSLContext | None = None
    service: str = ""
    sentinel_username: str = ""
    sentinel_password: str = ""

    @property
    def login(self) -> tuple[str, ...]:
        return _login(self.username, self.password)

    @property
    def sentinel_login(self) -> tuple[str, ...]:
        return _login(self.sentinel_username, self.sentinel_password)


def _login(username: str, password: str) -> tuple[str, ...]:
    """What HELLO is given to log in."""
    return ("AUTH", username or "default", password) if password else ()


def read(url: str) -> Place:
    """Files named in it are opened."""
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
    return Place(
        kind=_KINDS[found.kind],
        addresses=tuple(Address(*one) for one in found.hosts),
        username=found.username,
        password=found.password,
        db=found.db,
        tls=tls,
        service=found.service,
        sentinel_username=found.options.get("sentinel_username", ""),
        sentinel_password=found.options.get("sentinel_password", ""),
    )


def _tls(found: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=found.get("ssl_ca_certs"))
    required = found.get("ssl_cert_reqs") or "required"
    check = found.get("ssl_check_hostname", "true").lower() not in ("false", "0", "no")
    context.check_hostname = check and required == "required"
    context.verify_mode = {
        "required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE
    }[required]  # fmt: skip
    if found.get("ssl_certfile"):
        context.load_cert_chain(found["ssl_certfile"], found.get("ssl_keyfile"))
    return context
