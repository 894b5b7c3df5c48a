"""Real Redis servers in directories of their own: alone, with TLS, watched by sentinels, or as a cluster.

Owns: their configuration, free ports, their processes (the kernel ends them with the process that started them), and
what can be done to them: kill, stop for a while, start again on the same port.
Elsewhere: faults of the network between them and chatd (the tests that need it).
Fails: RedisError with the end of the server's log when one does not start.

Nothing is kept on disk unless `keeps` says so: a server that was killed comes back empty.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.harness.daemon import free_port
from tests.harness.deadline import wait_until

LIMIT_S = 20.0
SLOTS = 16384
_starter = ThreadPoolExecutor(1, "redis-starter")
"""The kernel ends a server with the thread that started it, and a test's own threads end with its event loop. This one
ends with the test run."""


class RedisError(AssertionError):
    pass


@dataclass(frozen=True)
class Certificates:
    """One key and certificate, its own authority, for 127.0.0.1, localhost and `addresses`."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, directory: Path, *addresses: str) -> Certificates:
        directory.mkdir(parents=True, exist_ok=True)
        made = cls(directory / "redis.crt", directory / "redis.key")
        names = ",".join(["IP:127.0.0.1", "DNS:localhost", *(f"IP:{address}" for address in addresses)])
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", "/CN=redis", "-addext", f"subjectAltName={names}",
             "-keyout", str(made.key), "-out", str(made.certificate)],
            check=True, capture_output=True, timeout=30,
        )  # fmt: skip
        return made


class RedisServer:
    """One redis-server, not started. As a context manager it is started, and ended with its block.

    port 0: only the Unix socket is open, which always is. tls: the port speaks TLS alone. options: more lines of its
    configuration file. prefix: what the command is started with, for example ("ip", "netns", "exec", NAME).
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        password: str = "",
        tls: Certificates | None = None,
        keeps: bool = False,
        options: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        sentinel: bool = False,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.host = host
        self.port = free_port() if port is None else port
        self.password = password
        self.tls = tls
        self.unix = directory / "redis.sock"
        self.log = directory / "redis.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._prefix = prefix
        self._sentinel = sentinel
        self._file = directory / "redis.conf"
        self._file.write_text("".join(f"{line}\n" for line in (*self._lines(keeps), *options)))

    def _lines(self, keeps: bool) -> Iterator[str]:
        yield f"bind {self.host}"
        yield f"dir {self.directory}"
        yield f"logfile {self.log}"
        yield f"unixsocket {self.unix}"
        if self.tls:
            yield from ("port 0", f"tls-port {self.port}", "tls-replication yes", "tls-auth-clients optional")
            yield f"tls-cert-file {self.tls.certificate}"
            yield f"tls-key-file {self.tls.key}"
            yield f"tls-ca-cert-file {self.tls.certificate}"
        else:
            yield f"port {self.port}"
        if self._sentinel:
            return
        yield "protected-mode no"
        yield "repl-diskless-sync-delay 0"
        yield "appendonly yes" if keeps else 'save ""'
        if self.password:
            yield f"requirepass {self.password}"
            yield f"masterauth {self.password}"

    # ------------------------------------------------------------ its life

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> RedisServer:
        """Returns when it answers. Also after kill() or stop(): on the same port."""
        assert self.process is None
        self.spawn()
        wait_until(LIMIT_S, f"redis answers, or says why not\n{self.tail()}", self.answers)
        return self

    def spawn(self) -> None:
        """start() without waiting."""
        command = [*self._prefix, "setpriv", "--pdeathsig", "KILL", "redis-server", str(self._file)]
        if self._sentinel:
            command.append("--sentinel")
        nothing = subprocess.DEVNULL
        self.process = _starter.submit(subprocess.Popen, command, stdin=nothing, stdout=nothing).result()

    def kill(self) -> None:
        """kill -9. Does nothing when it is not running."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As an operator does."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(LIMIT_S)

    def pause(self) -> None:
        """Its connections stay, and nobody answers."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    # ------------------------------------------------------------ asking it

    @property
    def url(self) -> str:
        """As chatd is told of it. With TLS the server is proved by its certificate."""
        secret = f":{self.password}@" if self.password else ""
        if self.tls:
            return f"rediss://{secret}{self.host}:{self.port}/0?ssl_ca_certs={self.tls.certificate}"
        if not self.port:
            return self.unix_url
        return f"redis://{secret}{self.host}:{self.port}/0"

    @property
    def unix_url(self) -> str:
        secret = f"&password={self.password}" if self.password else ""
        return f"unix:{self.unix}?db=0{secret}"

    def answers(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RedisError(f"redis-server left with {self.process.returncode}:\n{self.tail()}")
        try:
            return bool(self.call("PING"))
        except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
            return False

    def call(self, *command: str | int | bytes) -> Any:
        """One command, over a Unix connection of its own."""
        client = redis.Redis(
            unix_socket_path=str(self.unix), password=self.password or None, decode_responses=True, socket_timeout=5.0
        )
        try:
            return client.execute_command(*command)
        finally:
            client.close()

    def info(self, section: str = "everything") -> dict[str, Any]:
        found: dict[str, Any] = self.call("INFO", section)
        return found

    def tail(self, limit: int = 2000) -> str:
        return self.log.read_text(errors="replace")[-limit:] if self.log.exists() else ""


class Sentinels:
    """A master, a replica and three sentinels that replace the master when it is silent for half a second.

    `servers` are the two; which of them is the master is asked of the sentinels.
    """

    NAME = "chat"

    def __init__(self, directory: Path, password: str = "") -> None:
        first = RedisServer(directory / "first", password=password)
        second = RedisServer(directory / "second", password=password, options=(f"replicaof {first.host} {first.port}",))
        self.password = password
        self.servers = (first, second)
        lines = [
            f"sentinel monitor {self.NAME} {first.host} {first.port} 2",
            f"sentinel down-after-milliseconds {self.NAME} 500",
            f"sentinel failover-timeout {self.NAME} 3000",
        ]
        if password:
            lines.append(f"sentinel auth-pass {self.NAME} {password}")
        self.sentinels = tuple(
            RedisServer(directory / f"sentinel{number}", options=tuple(lines), sentinel=True) for number in range(3)
        )

    def __enter__(self) -> Sentinels:
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
            replica = self.servers[1]
            wait_until(
                LIMIT_S, "the replica follows", lambda: replica.info("replication")["master_link_status"] == "up"
            )
            for sentinel in self.sentinels:
                stack.enter_context(sentinel)
            wait_until(LIMIT_S, "the sentinels know each other", self._settled)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _settled(self) -> bool:
        for sentinel in self.sentinels:
            told = sentinel.call("SENTINEL", "MASTER", self.NAME)
            if int(told["num-slaves"]) != 1 or int(told["num-other-sentinels"]) != 2 or told["flags"] != "master":
                return False
        return True

    @property
    def master(self) -> RedisServer:
        """As two of the sentinels see it, at least."""
        ports = [int(one.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME)[1]) for one in self.sentinels]
        return next(server for server in self.servers if ports.count(server.port) >= 2)

    @property
    def url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        return f"redis+sentinel://{secret}{','.join(f'{one.host}:{one.port}' for one in self.sentinels)}/{self.NAME}/0"


class RedisCluster:
    """Three masters with a third of the slots each, and `replicas` of each master, which take over within seconds."""

    MASTERS = 3

    def __init__(self, directory: Path, replicas: int = 0, password: str = "", tls: Certificates | None = None) -> None:
        self.directory = directory
        self.password = password
        self.tls = tls
        self.replicas = replicas
        self._bus_ports = [free_port() for _ in range(self.MASTERS * (1 + replicas))]
        self.servers = tuple(map(self._node, range(len(self._bus_ports)), self._bus_ports))

    def _node(self, number: int, bus_port: int) -> RedisServer:
        options = ["cluster-enabled yes", "cluster-node-timeout 1000", "cluster-require-full-coverage no"]
        if self.tls:
            options.append("tls-cluster yes")
        options.append(f"cluster-port {bus_port}")
        return RedisServer(
            self.directory / f"node{number}", password=self.password, tls=self.tls, options=tuple(options)
        )

    def __enter__(self) -> RedisCluster:
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
            self._create()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _create(self) -> None:
        masters, rest = self.servers[: self.MASTERS], self.servers[self.MASTERS :]
        for number, master in enumerate(masters):
            first, last = number * SLOTS // self.MASTERS, (number + 1) * SLOTS // self.MASTERS - 1
            master.call("CLUSTER", "ADDSLOTSRANGE", first, last)
            master.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in self.servers[1:]:
            server.call("CLUSTER", "MEET", masters[0].host, masters[0].port, self._bus_ports[0])
        wait_until(LIMIT_S, "all nodes know each other", lambda: all(map(self._knows_all, self.servers)))
        for number, replica in enumerate(rest):
            replica.call("CLUSTER", "REPLICATE", masters[number % self.MASTERS].call("CLUSTER", "MYID"))
        wait_until(LIMIT_S, "the cluster is whole", lambda: all(map(self._is_whole, self.servers)))

    def _knows_all(self, server: RedisServer) -> bool:
        told = str(server.call("CLUSTER", "INFO"))
        return f"cluster_known_nodes:{len(self.servers)}\r" in told and "cluster_state:ok" in told

    def _is_whole(self, server: RedisServer) -> bool:
        if not self._knows_all(server):
            return False
        nodes = str(server.call("CLUSTER", "NODES")).splitlines()
        replicas = sum("slave" in node.split()[2] for node in nodes)
        linked = server.info("replication").get("master_link_status", "up") == "up"
        return replicas == len(self.servers) - self.MASTERS and linked

    def of_slot(self, slot: int) -> RedisServer:
        """The master that has the slot now, as the nodes that run see it."""
        for server in self.servers:
            if server.process is None:
                continue
            for first, last, *nodes in server.call("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return next(one for one in self.servers if one.port == int(nodes[0][1]))
        raise RedisError(f"nobody has slot {slot}")

    def grow(self) -> RedisServer:
        """One more master, which has no slot yet."""
        bus_port = free_port()
        server = self._stack.enter_context(self._node(len(self.servers), bus_port))
        self.servers = (*self.servers, server)
        server.call("CLUSTER", "MEET", self.servers[0].host, self.servers[0].port, self._bus_ports[0])
        self._bus_ports.append(bus_port)
        wait_until(LIMIT_S, "all nodes know the new one", lambda: all(map(self._knows_all, self.servers)))
        return server

    def move(self, slot: int, to: RedisServer) -> None:
        """Give a slot to another master, as a resharding does."""
        source = self.begin_move(slot, to)
        self.move_keys(slot, source, to)
        self.end_move(slot, source, to)

    def begin_move(self, slot: int, to: RedisServer) -> RedisServer:
        """From now on new keys are made at `to`. Gives who has the slot."""
        source = self.of_slot(slot)
        to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.call("CLUSTER", "MYID"))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", to.call("CLUSTER", "MYID"))
        return source

    def move_keys(self, slot: int, source: RedisServer, to: RedisServer, limit: int = SLOTS) -> int:
        """At most `limit` of them; how many were."""
        moved = 0
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, min(100, limit - moved)):
            for key in keys:
                source.call("MIGRATE", to.host, to.port, key, 0, 5000)
            moved += len(keys)
        return moved

    def end_move(self, slot: int, source: RedisServer, to: RedisServer) -> None:
        for server in (to, source, *(one for one in self.servers if one not in (to, source))):
            if server.info("replication")["role"] == "master":
                server.call("CLUSTER", "SETSLOT", slot, "NODE", to.call("CLUSTER", "MYID"))

    @property
    def url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        nodes = ",".join(f"{one.host}:{one.port}" for one in self.servers[: self.MASTERS])
        if self.tls:
            return f"rediss+cluster://{secret}{nodes}?ssl_ca_certs={self.tls.certificate}"
        return f"redis+cluster://{secret}{nodes}"
