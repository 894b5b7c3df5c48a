"""A real MariaDB in a directory of its own: started, asked, killed, paused and cleared away.

Owns: the data directory (copied from a template that is made once per machine), the free port and the Unix socket,
the process. The harness itself asks through the Unix socket, which works across network namespaces too.
Elsewhere: what breaks the way to it (proxy). Fails: MariaDBError with the end of the server's own log.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import MySQLdb
import pytest

from tests.harness.daemon import free_port
from tests.harness.deadline import wait_until
from tests.harness.memory import MEMORY

USER, PASSWORD = "chatd", "pass/word@100%"
"""What must be written as %2F, %40 and %25 in an address: no test forgets."""
_SERVER = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
_MOST_CONNECTIONS = 200


class MariaDBError(AssertionError):
    pass


def _template() -> Path:
    """An empty data directory, made by the first who needs it."""
    version = subprocess.run([_SERVER, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    cache = Path(tempfile.gettempdir()) / f"chatd-test-mariadb-{os.geteuid()}-{version}"
    with Path(f"{cache}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cache.exists():
            fresh = Path(tempfile.mkdtemp(prefix=f"{cache.name}-", dir=cache.parent))
            command = [
                "mariadb-install-db", "--no-defaults", f"--datadir={fresh / 'data'}", "--skip-test-db",
                "--skip-name-resolve", "--auth-root-authentication-method=normal", "--innodb-log-file-size=16M",
                *(["--user=root"] if os.geteuid() == 0 else []),
            ]  # fmt: skip
            subprocess.run(command, capture_output=True, check=True)
            fresh.rename(cache)
    return cache / "data"


class MariaDB:
    """host: the address it listens on. options: more of mariadbd's. prefix: a command that runs it, such as
    `ip netns exec NAME`. memory False: the data are on the disk, where a commit costs what it costs."""

    def __init__(
        self, *, host: str = "127.0.0.1", options: Iterable[str] = (), prefix: Iterable[str] = (), memory: bool = True
    ) -> None:
        in_memory = memory and MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
        self.root = Path(tempfile.mkdtemp(prefix="chatd-db-", dir=MEMORY if in_memory else None))
        self.host, self.port = host, free_port()
        self.socket = self.root / "sock"
        self.options, self.prefix = tuple(options), tuple(prefix)
        self.process: subprocess.Popen[bytes] | None = None
        self._admin: Any = None
        self._names = itertools.count(1)
        shutil.copytree(_template(), self.root / "data")
        login = f"'{USER}'@'%' IDENTIFIED BY '{PASSWORD}'"
        (self.root / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS {login};\nGRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
        )

    # ------------------------------------------------------------ life

    def start(self, limit_s: float = 60.0) -> MariaDB:
        """Return when it answers. Also after stop() and kill(), on the same port and data."""
        command = [
            *self.prefix, _SERVER, "--no-defaults", f"--datadir={self.root / 'data'}", f"--socket={self.socket}",
            f"--bind-address={self.host}", f"--port={self.port}", f"--init-file={self.root / 'init.sql'}",
            f"--pid-file={self.root / 'pid'}", f"--log-error={self.root / 'error.log'}", f"--tmpdir={self.root}",
            "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M",
            "--innodb-fast-shutdown=2", "--performance-schema=OFF", "--skip-name-resolve", "--skip-log-bin",
            f"--max-connections={_MOST_CONNECTIONS}", "--max-connect-errors=1000000", "--thread-cache-size=32",
            *(["--user=root"] if os.geteuid() == 0 else []), *self.options,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        wait_until(limit_s, f"MariaDB answers: {self.tail()}", self._answers, 0.05)
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise MariaDBError(f"mariadbd left with {self.process.returncode}:\n{self.tail()}")
        try:
            self.connect().close()
        except MySQLdb.Error:
            return False
        return True

    def stop(self, limit_s: float = 60.0) -> None:
        """A clean end."""
        self._send(signal.SIGTERM)
        self._gone(limit_s)

    def kill(self) -> None:
        """kill -9."""
        self._send(signal.SIGKILL)
        self._gone(30.0)

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing is answered. Every thread stands when it returns."""
        self._send(signal.SIGSTOP)
        wait_until(10, "every thread stands", self._stands, 0.002)

    def _stands(self) -> bool:
        try:
            stats = [path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        except OSError:  # one has just ended
            return False
        return all(stat.rpartition(")")[2].split()[0] in "Tt" for stat in stats)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def restart(self) -> MariaDB:
        """kill -9 and start again."""
        self.kill()
        return self.start()

    def discard(self) -> None:
        """Nothing of it is left."""
        if self.process is not None and self.process.poll() is None:
            self.resume()
            self.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Of mariadbd itself, also where a prefix runs it."""
        return int((self.root / "pid").read_text())

    def _send(self, number: signal.Signals) -> None:
        """To its whole group: a prefix may have stayed in front of it."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def _gone(self, limit_s: float) -> None:
        assert self.process is not None
        self.process.wait(limit_s)
        self._admin = None

    def tail(self, limit: int = 2000) -> str:
        log = self.root / "error.log"
        return log.read_text(errors="replace")[-limit:] if log.exists() else "it has written no log"

    # ------------------------------------------------------------ asking it

    def connect(self, database: str = "") -> Any:
        """A connection of MySQLdb's through the Unix socket, autocommit on."""
        return MySQLdb.connect(
            unix_socket=str(self.socket), user=USER, password=PASSWORD, database=database, charset="utf8mb4",
            autocommit=True, connect_timeout=10,
        )  # fmt: skip

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """On a connection kept for this; the rows, if there are any."""
        if self._admin is None:
            self._admin = self.connect()
        with self._admin.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def database(self, name: str = "") -> str:
        """Make an empty database; its name."""
        name = name or f"chat{next(self._names)}"
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        return name

    def url(self, database: str = "", *, port: int = 0, host: str = "", **query: str) -> str:
        """mysql://… of `database`, of a new one if none is named. port: another one, such as a proxy's."""
        database = database or self.database()
        login = f"{USER}:{quote(PASSWORD, safe='')}"
        asked = f"?{urlencode(query)}" if query else ""
        return f"mysql://{login}@{host or self.host}:{port or self.port}/{database}{asked}"


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """One server for all tests of a process that do not hurt it; each takes a database of its own."""
    server = MariaDB()
    try:
        yield server.start()
    finally:
        server.discard()


@pytest.fixture
def own_mariadb() -> Iterator[MariaDB]:
    """A server that may be killed."""
    server = MariaDB()
    try:
        yield server.start()
    finally:
        server.discard()
