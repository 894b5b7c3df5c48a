"""Who has a port, also for somebody who may not see it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chatd.config import urls
from chatd.master.port_holders import holder_of, how_to_see, used_by

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Addresses that this process has, by kind."""
    with ExitStack() as sockets:
        found = {}
        for kind, type_ in KINDS.items():
            sock = sockets.enter_context(socket.socket(type=type_))
            sock.bind(("127.0.0.1", 0))
            if kind == "tcp":
                sock.listen()
            found[kind] = f"{kind}://127.0.0.1:{sock.getsockname()[1]}"
        unix = sockets.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(tmp_path / "x.sock"))
        unix.listen()
        found["unix"] = f"unix:{tmp_path}/x.sock"
        yield found


@pytest.mark.parametrize("kind", ["tcp", "udp", "unix"])
def test_the_holder_is_named(taken: dict[str, str], kind: str) -> None:
    holder = holder_of(urls.parse(taken[kind]))
    assert holder is not None
    assert holder.pid == os.getpid()
    assert used_by(urls.parse(taken[kind])) == f" by pid {os.getpid()} ({holder.name})"


def test_a_wildcard_collides_with_every_address_and_another_port_with_none(taken: dict[str, str]) -> None:
    port = urls.parse(taken["tcp"]).port
    assert holder_of(urls.parse(f"tcp://0.0.0.0:{port}")) is not None
    assert holder_of(urls.parse(f"tcp://127.0.0.2:{port}")) is None
    assert holder_of(urls.parse(f"udp://127.0.0.1:{port}")) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize("kind", ["tcp", "udp", "unix"])
def test_an_unprivileged_user_is_told_how_to_find_out(taken: dict[str, str], kind: str) -> None:
    # already imported, because nobody may not read everybody's interpreter
    code = (
        "import os, sys\nfrom chatd.config import urls\nfrom chatd.master.port_holders import used_by\nimport psutil\n"
        "os.setgroups([])\nos.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "print(used_by(urls.parse(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, taken[kind]], capture_output=True, text=True, timeout=30, check=False
    )
    command = how_to_see(urls.parse(taken[kind]))
    assert done.stdout.strip() == f"; to see by which program, run as root: {command}", done.stderr
    if kind != "unix":
        shown = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
        assert shown.returncode == 0
        assert str(os.getpid()) in shown.stdout
