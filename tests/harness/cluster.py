"""Several chatd on several hosts with one database and one Redis, and the people who use them as one.

Owns: Cluster (the servers and the daemons, with or without a network of namespaces), Region (its Town: who comes to
which host) and Throng (its Crowd).
Elsewhere: cables (network), the faults (tests.cluster).
Fails: as its parts do.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.harness.chatserver import StreamingLink
from tests.harness.crowd import Crowd, Talker
from tests.harness.daemon import Daemon, Table
from tests.harness.mariadb import MariaDB
from tests.harness.mobileimsdk import StockLink
from tests.harness.network import MYSQL_ADDRESS, REDIS_ADDRESS, Host, Network
from tests.harness.person import PORT_OF, Town, Wire
from tests.harness.redis import RedisServer

BUS_KEY = "the key of the clusters in these tests"
ARRIVE_S = 4.0
"""A client behind a balancer that gets no answer tries again, and is led to another host."""


class Cluster:
    """One daemon per host of `network`, or `hosts` of them on loopback. Not started.

    database, redis: servers that are there already (then they are not started here); store, bus: what the daemons are
    told instead of these servers' own addresses, for example a proxy's. tables: as Daemon's, for all of them.
    """

    def __init__(
        self,
        root: Path,
        *,
        hosts: int = 2,
        workers: int = 1,
        network: Network | None = None,
        database: MariaDB | None = None,
        redis: RedisServer | None = None,
        store: Callable[[MariaDB], str] | None = None,
        bus: str = "",
        listen: Mapping[str, Table] | None = None,
        entry: Iterable[str] = ("-m", "chatd"),
        **tables: Table,
    ) -> None:
        self.root, self.network = root, network
        self._own: list[MariaDB | RedisServer] = []
        prefix = network.prefix if network else ()
        if database is None:
            database = MariaDB(host=MYSQL_ADDRESS if network else "127.0.0.1", prefix=prefix)
            self._own.append(database)
        if redis is None and not bus:
            redis = RedisServer(root / "redis", host=REDIS_ADDRESS if network else "127.0.0.1", prefix=prefix)
            self._own.append(redis)
        self.database = database
        self._redis = redis
        self._bus = bus
        self._store = store or (lambda server: server.url())
        self.schema = ""
        self._complaints: list[str] | None = None
        places: list[Host | None] = [*network.hosts] if network else [None] * hosts
        options: Any = {"workers": workers, "listen": listen, "entry": tuple(entry), **tables}
        self.daemons = [
            Daemon(root / f"host{number}", address=place.address, prefix=place.prefix, **options)
            if place
            else Daemon(root / f"host{number}", **options)
            for number, place in enumerate(places)
        ]

    @property
    def redis(self) -> RedisServer:
        assert self._redis is not None, "this cluster has another bus"
        return self._redis

    def start(self, limit_s: float = 60.0) -> Cluster:
        """Return when every worker of every host is ready."""
        for server in self._own:  # by this thread: the kernel ends a Redis with the thread that started it
            server.start()
        store = self._store(self.database)
        self.schema = store.partition("?")[0].rpartition("/")[2]
        bus = self._bus or self.redis.url
        for daemon in self.daemons:
            daemon.config.setdefault("store", {})["url"] = store
            daemon.config["bus"] = {"keys": [BUS_KEY], **daemon.config.get("bus", {}), "url": bus}
            daemon.write_config()
            daemon.launch()
        for daemon in self.daemons:
            daemon.wait_ready(limit_s)
        return self

    def expect_error(self, *texts: str) -> None:
        """As Daemon's, on all hosts."""
        for daemon, text in itertools.product(self.daemons, texts):
            daemon.expect_error(text)

    def wait_ready(self, limit_s: float = 60.0) -> None:
        for daemon in self.daemons:
            daemon.wait_ready(limit_s)

    def discard(self) -> list[str]:
        """What was logged that should not have been; then nothing is left running. The same answer when asked again."""
        if self._complaints is not None:
            return self._complaints
        complaints = self._complaints = [line for daemon in self.daemons for line in daemon.discard()]
        for server in self._own:
            if isinstance(server, MariaDB):
                server.discard()
            else:
                server.kill()
        return complaints


@dataclass
class Region(Town):
    """Accounts of a cluster. Neighbours live on different hosts; a client that reconnects comes to the next host that
    is `open`.

    Errands go to `daemon`, the first one."""

    daemons: list[Daemon] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    last: dict[str, int] = field(default_factory=dict)
    homes: dict[str, int] = field(default_factory=dict)
    arrivals: Counter[int] = field(default_factory=Counter)

    def address_of(self, name: str, wire: Wire) -> tuple[int, str]:
        number = self._next(name)
        self.last[name] = number
        self.arrivals[number] += 1
        daemon = self.daemons[number]
        return daemon.ports[PORT_OF[wire]], daemon.address

    def _next(self, name: str) -> int:
        count = len(self.daemons)
        if name in self.last:
            wanted = (self.last[name] + 1) % count
        else:
            wanted = self.homes.setdefault(name, len(self.homes) % count)
        while wanted not in self.open:
            wanted = (wanted + 1) % count
        return wanted

    def of(self, number: int) -> Town:
        """The same accounts, by the doors of this host alone."""
        return Town(self.daemons[number], self.ids, self.secret, self.suffixes)


class Throng(Crowd):
    """A crowd spread over a cluster."""

    arrive_s = ARRIVE_S
    has_heartbeats = True

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.region = Region(
            cluster.daemons[0], daemons=cluster.daemons, open=set(range(len(cluster.daemons)))
        )  # fmt: skip
        super().__init__(self.region, cluster.root / "journal.jsonl")

    def on(self, number: int) -> list[Talker]:
        """Whose last way in was by this host."""
        return [talker for name, talker in self.people.items() if self.region.last.get(name) == number]

    def listeners(self) -> list[Talker]:
        """One of each two neighbours, by turns on each host."""
        everybody = list(self.people.values())
        return everybody[1::4] + everybody[2::4]

    def come_home(self) -> None:
        """Who is not where it came first goes there: a balancer that moves people back. Not old clients: what their
        kernel has taken would be lost with the connection."""
        for name, talker in self.people.items():
            home, link = self.region.homes[name], talker.link
            if self.region.last[name] == home or not talker.logged_in:
                continue
            if isinstance(link, StockLink):
                self.region.last[name] = (home - 1) % len(self.region.daemons)
                link.abort()
            elif isinstance(link, StreamingLink) and link.transport is not None:
                self.region.last[name] = (home - 1) % len(self.region.daemons)
                link.transport.write_eof()  # and reads on until the server closes too
