"""The first commands on a lasting connection: log in, choose the database, send the scripts, identify the server.

Owns: the handshake, and the requirements that a server must meet.
Elsewhere: connecting (bus.redis.connect), the scripts (bus.redis.lock_keys).
Fails: Unavailable if the server cannot be used; the connection is to be dropped then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chatd.bus.redis.commands import RedisScript
from chatd.bus.redis.connect import all_answers
from chatd.bus.redis.connection import RedisConnection
from chatd.bus.redis.settings import RedisSettings
from chatd.errors import Unavailable


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    run_id: str
    """Changes when the server is restarted; it may have forgotten everything then."""
    client_id: int
    """Our connection's number there."""
    uptime_s: float


async def shake_hands(
    connection: RedisConnection, settings: RedisSettings, client_name: str, scripts: Iterable[RedisScript]
) -> ServerIdentity:
    """Has no time limit.

    Raises:
        Unavailable: the connection was lost, a command was refused, or the server is a replica or too old.
    """
    asked = [connection.ask("HELLO", 3, *settings.login, "SETNAME", client_name)]
    if settings.db:
        asked.append(connection.ask("SELECT", settings.db))
    asked += [connection.ask("SCRIPT", "LOAD", script.text) for script in scripts]
    asked.append(connection.ask("INFO", "server"))
    hello, *_, info = await all_answers(asked)
    if hello.get(b"role") != b"master":
        raise Unavailable(f"it is a {hello.get(b'role', b'?').decode()}, not a master")
    fields = dict(line.split(":", 1) for line in info.decode().split("\r\n") if ":" in line)
    if settings.kind == "cluster" and int(fields.get("redis_version", "0").partition(".")[0]) < 7:
        raise Unavailable("sharded channels need Redis 7 or newer")
    return ServerIdentity(fields.get("run_id", ""), int(hello[b"id"]), float(fields.get("uptime_in_seconds", 0)))
