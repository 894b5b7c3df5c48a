"""A real RabbitMQ in a directory of its own, on loopback, and the other side of a bridge, which uses it as the Java
server does.

Owns: RabbitServer: its configuration, free ports, its processes (the kernel ends them with the one that started them),
and what can be done to them; JavaSide: a scripted MobileIMSDK server.
Elsewhere: what chatd does with it (chatd.bridges), faults between the two (the tests).
Fails: RabbitError with the end of the server's log when it does not start.

All processes of a RabbitMQ, its epmd included, are in a PID namespace: they end together, whatever ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiormq
import psutil
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from tests.harness.daemon import free_ports
from tests.harness.deadline import until, wait_until
from tests.harness.redis import Certificates

LIMIT_S = 60.0
_PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"
_starter = ThreadPoolExecutor(1, "rabbitmq-starter")
"""The kernel ends a server with the thread that started it; this one ends with the test run."""
APP2WEB, WEB2APP, DEAD = "q_app2web", "q_web2app", "q_chatd_dead_letters"


class RabbitError(AssertionError):
    pass


class RabbitServer:
    """Not started. As a context manager it is started, and ended with its block. It keeps its messages over a kill."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port, self.tls_port, self._dist, self._epmd = free_ports(4)
        self.certificates = Certificates.make(directory)
        self.process: subprocess.Popen[bytes] | None = None
        (directory / "rabbitmq.conf").write_text("".join(f"{line}\n" for line in self._lines()))
        (directory / "plugins").write_text("[].\n")
        cookie = directory / ".erlang.cookie"
        cookie.write_text(uuid.uuid4().hex)
        cookie.chmod(0o400)

    def _lines(self) -> list[str]:
        made = self.certificates
        return [
            f"listeners.tcp.default = 127.0.0.1:{self.port}",
            f"listeners.ssl.default = 127.0.0.1:{self.tls_port}",
            f"ssl_options.certfile = {made.certificate}",
            f"ssl_options.keyfile = {made.key}",
            f"ssl_options.cacertfile = {made.certificate}",
            "ssl_options.verify = verify_none",
            "disk_free_limit.absolute = 1MB",
            "log.file.level = warning",
        ]

    def _environment(self) -> dict[str, str]:
        home = str(self.directory)
        return {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"chatd{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist),
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_FEATURE_FLAGS_FILE": f"{home}/feature_flags",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +SDcpu 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
            " -kernel inet_dist_use_interface {127,0,0,1}",
        }

    # ------------------------------------------------------------ its life

    def __enter__(self) -> RabbitServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> RabbitServer:
        """Returns when it answers. Also after kill(): on the same ports, with what it had on its disk."""
        self.spawn()
        wait_until(LIMIT_S, "RabbitMQ answers, or says why not", self.answers, 0.1)
        return self

    def spawn(self) -> None:
        """start() without waiting."""
        assert self.process is None
        mine = [] if os.geteuid() == 0 else ["--user", "--map-current-user"]
        command = [
            *("setpriv", "--pdeathsig", "KILL", "unshare", *mine, "--pid", "--fork", "--kill-child=KILL"),
            *("--mount-proc", _PROGRAM),
        ]
        output = (self.directory / "output.txt").open("ab")
        self.process = _starter.submit(
            subprocess.Popen, command, env=self._environment(), cwd=self.directory, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        ).result()  # fmt: skip
        output.close()

    def kill(self) -> None:
        """kill -9 of all its processes. Does nothing when it is not running."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(LIMIT_S)

    def pause(self) -> None:
        """Its connections stay, and nobody answers."""
        for process in self._signal(signal.SIGSTOP):
            wait_until(LIMIT_S, "it stands still", lambda one=process: one.status() == psutil.STATUS_STOPPED)  # type: ignore[misc]

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[psutil.Process]:
        assert self.process is not None
        processes = psutil.Process(self.process.pid).children(recursive=True)
        for process in processes:
            process.send_signal(number)
        return processes

    def answers(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RabbitError(f"RabbitMQ left with {self.process.returncode}:\n{self.tail()}")

        try:  # first without AMQP, whose library would log each failure
            with socket.create_connection(("127.0.0.1", self.port), 1):
                pass
        except OSError:
            return False

        async def ask() -> bool:
            try:
                connection = await asyncio.wait_for(aiormq.connect(self.url), 2)
            except (OSError, TimeoutError, aiormq.exceptions.AMQPError):
                return False
            await connection.close()
            return True

        return asyncio.run(ask())

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def tls_url(self) -> str:
        return f"amqps://guest:guest@127.0.0.1:{self.tls_port}/"

    def tail(self, limit: int = 3000) -> str:
        files = [self.directory / "output.txt", *sorted((self.directory / "log").glob("*.log"))]
        return "\n".join(path.read_text(errors="replace")[-limit:] for path in files if path.exists())


class JavaSide:
    """What the Java server does with RabbitMQ, without its clients: packets of its users go to q_app2web, and what
    comes over q_web2app is kept in the order in which it came, each acknowledged after it was handled. As a context
    manager, connected within its block."""

    def __init__(self, server: RabbitServer, incoming: str = WEB2APP, outgoing: str = APP2WEB) -> None:
        self.server = server
        self.packets: list[dict[str, Any]] = []
        """What came, duplicates included: clients drop those by their fp."""
        self.properties: list[Any] = []
        self._queues = incoming, outgoing
        self._connection: Any = None
        self._channel: Any = None

    async def __aenter__(self) -> JavaSide:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    async def connect(self) -> None:
        self._connection = await aiormq.connect(self.server.url)
        self._channel = await self._connection.channel()
        for name in self._queues:
            await self._channel.queue_declare(name, durable=True, exclusive=False, auto_delete=False)
        await self._channel.basic_consume(self._queues[0], self._arrived)

    async def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def reconnect(self) -> None:
        """After RabbitMQ was killed."""

        await asyncio.to_thread(wait_until, LIMIT_S, "RabbitMQ answers", self.server.answers, 0.1)
        await self.connect()

    async def _arrived(self, message: DeliveredMessage) -> None:
        self.packets.append(json.loads(message.body))
        self.properties.append(message.header.properties)
        await self._channel.basic_ack(message.delivery_tag)

    async def say(self, sender: str, to: str, text: str, fp: str | None = None, **fields: object) -> str:
        """A packet of a user who writes to somebody who is not online there; returns its fp."""
        fp = fp or str(uuid.uuid4())
        packet = {"bridge": False, "type": 2, "dataContent": text, "from": sender, "to": to, "fp": fp, "QoS": True}
        await self.publish(json.dumps(packet | {"typeu": -1, "sm": -1} | fields).encode())
        return fp

    async def publish(self, body: bytes) -> None:
        properties = Basic.Properties(delivery_mode=2, content_type="text/plain")
        await self._channel.basic_publish(body, routing_key=self._queues[1], properties=properties)

    async def came(self, text: str, limit_s: float = 15.0) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((one for one in self.packets if one["dataContent"] == text), None)

        packet = await until(limit_s, f"{text} came over the bridge", found, step_s=0.02)
        assert packet is not None
        return packet

    async def delete(self, queue: str) -> None:
        await self._channel.queue_delete(queue)

    async def waiting(self, queue: str) -> int:
        """Messages of a queue that nobody has been given."""
        channel = await self._connection.channel()
        answer = await channel.queue_declare(queue, passive=True)
        await channel.close()
        return int(answer.message_count)

    async def dead(self, queue: str = DEAD) -> list[tuple[str, bytes]]:
        """Take all dead letters: the reason of each, and the packet."""
        found = []
        while (message := await self._channel.basic_get(queue, no_ack=True)).delivery_tag:
            headers = message.header.properties.headers
            assert headers["x-chatd-text"]
            found.append((headers["x-chatd-reason"], message.body))
        return found
