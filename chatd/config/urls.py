"""The URLs of a configuration: of listeners, of a MySQL store, of Redis, of what is fetched over HTTP.

Owns: their syntax. Also the written form of a client's address.
Elsewhere: binding (master.listeners), connecting (store.mysql.connection, bus.redis.node).
Fails: ValueError that names the mistake and never contains a password.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit


class ListenAddress(NamedTuple):
    """transport: tcp, udp, ws, http, tls, wss, https or unix. host: without brackets. path: of a ws or wss URL, or of a
    Unix socket."""

    transport: str
    host: str
    port: int
    path: str

    @property
    def is_websocket(self) -> bool:
        return self.transport in ("ws", "wss")

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS ends here."""
        return self.transport in ("tls", "wss", "https")


_FORMS = (
    "tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT, ws://HOST:PORT/PATH, wss://HOST:PORT/PATH, http://HOST:PORT, "
    "https://HOST:PORT or unix:PATH"
)


def parse(text: str) -> ListenAddress:
    """The address of a listener. Port 0 is allowed: the kernel chooses one (for trials and tests). Raises
    ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise ValueError("unix: needs a path")
        return ListenAddress("unix", "", 0, path)
    parts = urlsplit(text)
    if parts.scheme not in ("tcp", "tls", "udp", "ws", "wss", "http", "https"):
        raise ValueError(f'"{text}" is not {_FORMS}')
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f'"{text}": {error}') from None
    if not host or port is None:
        raise ValueError(f'"{text}" needs a host and a port')
    if parts.scheme in ("ws", "wss"):
        return ListenAddress(parts.scheme, host, port, parts.path or "/")
    if parts.path or parts.query:
        raise ValueError(f'"{text}" has something after the port')
    return ListenAddress(parts.scheme, host, port, "")


def is_http(text: str) -> bool:
    """Whether it names something that is fetched over HTTP, and not a file."""
    return text.startswith(("http://", "https://"))


def check_http(text: str, *, private: bool) -> None:
    """Raises ValueError unless it is a URL that can be fetched. Unencrypted only from this host or, with `private`, a
    private network, because what is fetched decides who may log in."""
    parts = urlsplit(text)
    try:
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must be https://HOST/PATH, or http:// for a server on this host")
    if parts.username or parts.password:
        raise ValueError("must not hold a user or a password")
    if parts.fragment:
        raise ValueError("must not have a fragment (#)")
    if parts.scheme == "http" and not (private or host == "localhost" or is_loopback(host)):
        text = "the network could change the answer; for a server in a private network, list it in allow_private"
        raise ValueError(f"must be https://: over http:// {text}")


def plain(host: str) -> str:
    """The plain IPv4 address of ::ffff:192.0.2.1, the form in which a socket of both families reports an IPv4
    client."""
    return host.removeprefix("::ffff:") if "." in host else host


def shown(host: str, port: int) -> str:
    """A client's address, as it is shown everywhere: 192.0.2.1:5000, [2001:db8::1]:5000."""
    host = plain(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_public(where: ListenAddress) -> bool:
    """Whether a network can read what is sent to this address."""
    if where.transport == "unix" or where.is_encrypted:
        return False
    return where.host != "localhost" and not is_loopback(where.host)


def is_loopback(host: str) -> bool:
    """Whether a client's address, as its socket reports it, is this host's own."""
    try:
        return ipaddress.ip_address(plain(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


class MysqlAddress(NamedTuple):
    """unix_socket, ssl_ca: "" = none. ssl_ca: file of the certificates that the server's certificate must be signed
    by."""

    host: str
    port: int
    user: str
    password: str
    database: str
    unix_socket: str = ""
    ssl_ca: str = ""

    def __str__(self) -> str:
        """Without the password."""
        where = self.unix_socket or (f"[{self.host}]" if ":" in self.host else self.host) + f":{self.port}"
        return f"mysql://{self.user}@{where}/{self.database}"

    def __repr__(self) -> str:
        return str(self)


_MYSQL = "mysql://USER:PASSWORD@HOST:PORT/DB"
_MYSQL_OPTIONS = ("unix_socket", "ssl_ca")


def parse_mysql(text: str) -> MysqlAddress:
    """mysql://USER:PASSWORD@HOST:PORT/DB?ssl_ca=FILE or mysql://USER:PASSWORD@/DB?unix_socket=FILE. Special
    characters in names and passwords are written %xx; the port may be left out. Raises ValueError."""
    try:
        parts = urlsplit(text)
        port = parts.port or 3306
    except ValueError:
        raise ValueError(f"is not {_MYSQL}; @ : / ? # % in a password are written %40 %3A %2F %3F %23 %25") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = [name for name in options if name not in _MYSQL_OPTIONS]
    if unknown:
        raise ValueError(f"mysql: has no option {unknown[0]} (supported: {', '.join(_MYSQL_OPTIONS)})")
    socket = options.get("unix_socket", "")
    database = unquote(parts.path.removeprefix("/"))
    if parts.scheme != "mysql" or parts.fragment or not parts.username or not (parts.hostname or socket):
        raise ValueError(f"is not {_MYSQL}")
    if not database or "/" in parts.path[1:]:
        raise ValueError(f"mysql: needs one database: {_MYSQL}")
    user, password = unquote(parts.username), unquote(parts.password or "")
    return MysqlAddress(parts.hostname or "", port, user, password, database, socket, options.get("ssl_ca", ""))


class RedisAddress(NamedTuple):
    """kind: "", "sentinel" or "cluster". hosts: of the server, of sentinels, or some cluster nodes; a Unix socket has
    its path and port 0. service: the name by which the sentinels know the server."""

    kind: str
    hosts: tuple[tuple[str, int], ...]
    tls: bool
    username: str
    password: str
    db: int
    service: str
    options: dict[str, str]

    def __repr__(self) -> str:
        """Without the password."""
        return f"redis+{self.kind}:{self.hosts}"


REDIS_SCHEMES = (
    "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"
)  # fmt: skip
_REDIS_OPTIONS = {
    "": ("db", "username", "password"),
    "sentinel": ("sentinel_username", "sentinel_password"),
    "cluster": (),
}
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")


def parse_redis(text: str) -> RedisAddress:
    """As redis-py reads it, and also sentinels and clusters. Raises ValueError.

    redis://[USER:PASSWORD@]HOST:PORT/DB            rediss:// the same over TLS, with ssl_ca_certs, ssl_certfile,
    unix:PATH?db=DB&password=PASSWORD               ssl_keyfile, ssl_cert_reqs and ssl_check_hostname in its query
    redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB    sentinel_username and sentinel_password in its query
    redis+cluster://HOST:PORT,HOST:PORT             the nodes to begin with
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("is not a URL; @ : / ? # % in a password are written %40 %3A %2F %3F %23 %25") from None
    base, _, kind = parts.scheme.partition("+")
    if parts.scheme not in REDIS_SCHEMES:
        raise ValueError(f"{parts.scheme}: is not a scheme of Redis (supported: {', '.join(REDIS_SCHEMES)})")
    options = _redis_options(parts.scheme, kind, parts.query)
    secret, _, where = parts.netloc.rpartition("@")
    path, service = parts.path.strip("/"), ""
    hosts: tuple[tuple[str, int], ...]
    if base == "unix":
        if parts.netloc or not path:
            raise ValueError("unix: needs a path")
        hosts, path = ((parts.path, 0),), ""
    else:
        hosts = _redis_hosts(where, 26379 if kind == "sentinel" else 6379)
    if kind == "sentinel":
        service, _, path = path.partition("/")
        if not service:
            raise ValueError("needs the name by which the sentinels know the server: redis+sentinel://HOST:PORT/NAME")
    db = path or options.get("db", "0")
    if not db.isdecimal():
        raise ValueError("the database must be a number")
    if kind == "cluster" and int(db):
        raise ValueError("a cluster has only database 0")
    if not kind and len(hosts) > 1:
        raise ValueError("names more than one server; use redis+sentinel:// or redis+cluster:// for that")
    user, _, password = secret.partition(":")
    username = unquote(user) or options.get("username", "")
    password = unquote(password) or options.get("password", "")
    return RedisAddress(kind, hosts, base == "rediss", username, password, int(db), service, options)


def _redis_options(scheme: str, kind: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = (*_REDIS_OPTIONS[kind], *(_TLS_OPTIONS if scheme.startswith("rediss") else ()))
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"{scheme}: has no option {unknown[0]} (supported: {', '.join(known) or 'none'})")
    if options.get("ssl_cert_reqs", "none") not in ("required", "optional", "none"):
        raise ValueError("ssl_cert_reqs must be required, optional or none")
    return options


def _redis_hosts(text: str, port: int) -> tuple[tuple[str, int], ...]:
    found = []
    for one in text.split(","):
        try:
            parts = urlsplit(f"//{one}")
            found.append((parts.hostname or "127.0.0.1", parts.port or port))
        except ValueError:
            raise ValueError("is not HOST:PORT; @ : / ? # % in a password are written %xx") from None
    return tuple(found)
