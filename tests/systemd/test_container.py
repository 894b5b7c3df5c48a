"""The container itself: nothing of it is left, however a run ends."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness import container, network
from tests.harness.deadline import wait_until
from tests.systemd.unit import TOP

BOOTS = """
import sys
from tests.harness.container import Container
from tests.harness.network import Network
with Network(hosts=1) as network, Container(network.hosts[0], bare=True) as booted:
    print(booted.leader, booted.name, network.name, flush=True)
    sys.stdin.read()
"""


def test_a_run_that_is_killed_leaves_nothing_behind() -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", BOOTS], cwd=TOP, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert run.stdout is not None
    leader, name, space = run.stdout.readline().split()
    assert Path(f"/proc/{leader}").exists()
    assert any(name in path.name for path in cgroups())
    run.kill()
    run.communicate(timeout=20)
    wait_until(20, "the kernel has ended the container", lambda: not Path(f"/proc/{leader}").exists())
    container.clear_left_behind()
    network.clear_left_behind()
    assert not any(name in path.name for path in cgroups())
    assert not list(Path(tempfile.gettempdir()).glob(f"chatd-container-{run.pid}-*"))
    assert not any(one.startswith(space) for one in network.namespaces())


def cgroups() -> list[Path]:
    """In any hierarchy."""
    root = Path("/sys/fs/cgroup")
    return [*root.glob("chatd-test-*"), *root.glob("*/chatd-test-*")]
