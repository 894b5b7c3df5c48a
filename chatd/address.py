"""An address of a [[listen]]: `tcp://HOST:PORT`, `udp://HOST:PORT`, `ws://HOST:PORT/PATH`, `unix:PATH`; and of a
MySQL store: `mysql://USER:PASSWORD@HOST:PORT/DB`.

Owns: the meaning of that text. Binding is in master.listeners, connecting in store.mysql_connection.
Fails: ValueError with what is wrong; it never repeats a password.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit


class Address(NamedTuple):
    """transport: tcp, udp, ws or unix. host is without brackets; path is a ws path or a file."""

    transport: str
    host: str
    port: int
    path: str


def parse(text: str) -> Address:
    """Port 0 is allowed: the kernel chooses (trials and tests)."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise ValueError("unix: needs a path")
        return Address("unix", "", 0, path)
    parts = urlsplit(text)
    if parts.scheme not in ("tcp", "udp", "ws"):
        raise ValueError(f'"{text}" is not tcp://HOST:PORT, udp://HOST:PORT, ws://HOST:PORT/PATH or unix:PATH')
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f'"{text}": {error}') from None
    if not host or port is None:
        raise ValueError(f'"{text}" needs a host and a port')
    if parts.scheme == "ws":
        return Address("ws", host, port, parts.path or "/")
    if parts.path or parts.query:
        raise ValueError(f'"{text}" has something after the port')
    return Address(parts.scheme, host, port, "")


class MysqlAddress(NamedTuple):
    """unix_socket, ssl_ca: "" = none. ssl_ca: the certificates the server's own must be signed by."""

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
    """mysql://USER:PASSWORD@HOST:PORT/DB?ssl_ca=FILE or mysql://USER:PASSWORD@/DB?unix_socket=FILE. What is special in
    an address is written as %xx in names and password; the port may be left out."""
    try:
        parts = urlsplit(text)
        port = parts.port or 3306
    except ValueError:
        raise ValueError(f"is not {_MYSQL}; @ : / ? # % in a password are written %40 %3A %2F %3F %23 %25") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = [name for name in options if name not in _MYSQL_OPTIONS]
    if unknown:
        raise ValueError(f"mysql: has no option {unknown[0]} (there are: {', '.join(_MYSQL_OPTIONS)})")
    socket = options.get("unix_socket", "")
    database = unquote(parts.path.removeprefix("/"))
    if parts.scheme != "mysql" or parts.fragment or not parts.username or not (parts.hostname or socket):
        raise ValueError(f"is not {_MYSQL}")
    if not database or "/" in parts.path[1:]:
        raise ValueError(f"mysql: needs one database: {_MYSQL}")
    user, password = unquote(parts.username), unquote(parts.password or "")
    return MysqlAddress(parts.hostname or "", port, user, password, database, socket, options.get("ssl_ca", ""))
