"""What the URL of the bus says of Redis: where it is, how to log in, how it is proved.

Owns: reading the URL (redis-py's own reader for all that is not ours), TLS.
Not here: connecting (bus.redis_node), asking sentinels (bus.redis_node), the topology of a cluster (bus.redis_cluster).
Fails: BootError, one line, without the URL: it may hold a password.

    redis://[USER:PASSWORD@]HOST:PORT/DB            rediss:// the same over TLS, with ssl_ca_certs, ssl_certfile,
    unix:PATH?db=DB&password=PASSWORD               ssl_keyfile, ssl_cert_reqs and ssl_check_hostname in its query
    redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB    sentinel_username and sentinel_password in its query
    redis+cluster://HOST:PORT,HOST:PORT             the nodes to begin with
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from redis.connection import parse_url

from chatd.errors import BootError, Exit

Kind = Literal["single", "sentinel", "cluster"]
_PORTS: dict[Kind, int] = {"single": 6379, "sentinel": 26379, "cluster": 6379}


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
    scheme, _, rest = url.partition(":")
    try:
        if scheme == "unix":
            found = _parsed(f"unix://{rest.removeprefix('//')}")
            return _place("single", (Address(found["path"], 0),), found, None)
        base, _, kind = scheme.partition("+")
        return _read_hosts(base, kind, url)
    except (ValueError, KeyError) as error:
        raise BootError(f"bus.url: {_reason(error)}", Exit.CONFIG) from None
    except (OSError, ssl.SSLError) as error:
        name = getattr(error, "filename", None)
        raise BootError(f"bus.url: TLS: {name + ': ' if name else ''}{error.strerror or error}", Exit.CONFIG) from None


def _parsed(url: str) -> dict[str, Any]:
    return dict(parse_url(url))  # type: ignore[no-untyped-call]


class _Wrong(ValueError):
    """Its text may be shown."""


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, _Wrong) else "is not a URL that redis-py understands"


def _read_hosts(base: str, kind: str, url: str) -> Place:
    parts = urlsplit(url)
    if kind not in ("", "sentinel", "cluster") or base not in ("redis", "rediss"):
        raise _Wrong(f"{base}+{kind}: is no such place" if kind else f"{base}: is no such place")
    which: Kind = kind or "single"  # type: ignore[assignment]
    secret, _, hosts = parts.netloc.rpartition("@")
    path, service = parts.path, ""
    if which == "sentinel":
        service, _, db = parts.path.lstrip("/").partition("/")
        path = f"/{db}"
        if not service:
            raise _Wrong("needs the sentinels' name of the server: redis+sentinel://HOST:PORT/NAME")
    if path.strip("/") and not path.strip("/").isdecimal():
        raise _Wrong("a database is a number")
    found: dict[str, Any] = {}
    addresses = []
    for host in hosts.split(","):
        found = _parsed(f"{base}://{secret}{'@' if secret else ''}{host}{path}?{parts.query}")
        addresses.append(Address(str(found.get("host") or "127.0.0.1"), int(found.get("port") or _PORTS[which])))
    if which == "single" and len(addresses) > 1:
        raise _Wrong("has more than one server: redis+sentinel:// or redis+cluster://?")
    if which == "cluster" and found.get("db"):
        raise _Wrong("a cluster has no databases but 0")
    return _place(which, tuple(addresses), found, _tls(found) if base == "rediss" else None, service)


def _place(
    kind: Kind, addresses: tuple[Address, ...], found: Any, tls: ssl.SSLContext | None, service: str = ""
) -> Place:
    return Place(
        kind=kind,
        addresses=addresses,
        username=str(found.get("username") or ""),
        password=str(found.get("password") or ""),
        db=int(found.get("db") or 0),
        tls=tls,
        service=service,
        sentinel_username=str(found.get("sentinel_username") or ""),
        sentinel_password=str(found.get("sentinel_password") or ""),
    )


def _tls(found: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=found.get("ssl_ca_certs"))
    required = str(found.get("ssl_cert_reqs") or "required")
    if required not in ("required", "optional", "none"):
        raise _Wrong("ssl_cert_reqs: required, optional or none")
    check = str(found.get("ssl_check_hostname", "true")).lower() not in ("false", "0", "no")
    context.check_hostname = check and required == "required"
    context.verify_mode = {
        "required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE
    }[required]  # fmt: skip
    if found.get("ssl_certfile"):
        context.load_cert_chain(found["ssl_certfile"], found.get("ssl_keyfile"))
    return context
