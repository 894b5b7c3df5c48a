"""A host in a container, as its administrator and its users see it.

Owns: installing and removing the package, a person who is logged in with `chat`, and clearing everything away.
Elsewhere: the container (harness.container), the packages (builds).
Fails: ContainerError.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness.container import Container

UNIT = "chatd.service"
SERVER = "127.0.0.1:6000"
PASSWORD = "seven purple owls"
REPLY_S = 30.0
APT = ("apt-get", "-y", "-q", "-o", "Dpkg::Use-Pty=0")
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
INSTALL_S = 180.0


class Host:
    def __init__(self, container: Container) -> None:
        self.box = container
        # Of machines that are containers themselves: it keeps packages from starting anything.
        container.run("rm", "-f", "/usr/sbin/policy-rc.d")

    # ------------------------------------------------------------ the package

    def apt(self, *arguments: str) -> str:
        """What apt said. It can download nothing."""
        done = self.box.run(*APT, *arguments, env=QUIET, limit_s=INSTALL_S)
        return done.stdout + done.stderr

    def install(self, package: Path) -> str:
        """As dpkg does for apt, but quicker: it is told to keep edited files. What it said."""
        done = self.box.run(
            "dpkg", "--force-confold", "--install", f"/packages/{package.name}", env=QUIET, limit_s=INSTALL_S
        )
        return done.stdout + done.stderr

    def ensure(self, package: Path) -> None:
        """This version is installed, and serves with alice and bob."""
        if self.box.run("dpkg-query", "-W", "-f=${Version} ${db:Status-Abbrev}", "chatd", check=False).stdout != (
            f"{package.name.split('_')[1]} ii "
        ):
            self.install(package)
        self.box.systemctl("start", UNIT, check=False)
        self.box.wait_active(UNIT)
        known = self.ctl("user", "list")
        for name in ("alice", "bob"):
            if name not in known:
                self.add_user(name)

    def exists(self, path: str) -> bool:
        return self.box.run("test", "-e", path, check=False).returncode == 0

    def clear(self) -> None:
        """No package, and nothing that it left."""
        self.box.run("dpkg", "--purge", "chatd", check=False, limit_s=INSTALL_S)
        self.box.run("rm", "-rf", "/etc/chatd", "/var/lib/chatd", "/var/log/chatd")

    # ------------------------------------------------------------ the server

    def ctl(self, *arguments: str, input: str = "", check: bool = True) -> str:
        return self.box.run("chatctl", *arguments, input=input, check=check).stdout

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ctl("status", "--json"))
        return found

    def add_user(self, name: str) -> None:
        self.ctl("user", "add", name, input=f"{PASSWORD}\n")

    @contextmanager
    def person(self, name: str, *arguments: str, server: str = SERVER) -> Iterator[Person]:
        """Somebody who logs in at a terminal of this host."""
        self.box.write("/tmp/password", PASSWORD)
        command = ("chat", server, "--name", name, "--password-file", "/tmp/password", *arguments)
        process = self.box.popen(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
        person = Person(process)
        try:
            person.sees(f"logged in as {name}")
            yield person
        finally:
            process.kill()
            process.wait(10)


class Person:
    """`seen`: all lines that `chat` printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.seen = ""

    def types(self, line: str) -> None:
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), f"{line}\n".encode())

    def sees(self, text: str) -> None:
        """Wait until it was printed. Raises AssertionError with what was."""
        assert self._process.stdout is not None
        ends = time.monotonic() + REPLY_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while text not in self.seen:
                assert selector.select(max(0.0, ends - time.monotonic())), f"{text!r} is not in {self.seen!r}"
                data = os.read(self._process.stdout.fileno(), 65536)
                assert data, f"chat ended; {text!r} is not in {self.seen!r}"
                self.seen += data.decode()
