"""The container image: built by buildah from a Debian of debootstrap, and run. Slow: it downloads Debian twice over.

Without a registry and without a runtime: buildah runs the steps, and then the image's entry point, in a chroot.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness.deadline import wait_until
from tests.packages import builds

CONTAINERFILE = builds.ROOT / "Containerfile"
BASE, IMAGE = "localhost/chatd-test-base", "localhost/chatd-test"
SEEN = ("/etc/ssl/certs", "/etc/xdg/pip")
"""What the steps see of this machine, so that they can download as it does."""
PASSWORD = "seven purple owls"


def test_the_image_has_a_valid_configuration_and_all_that_it_copies(tmp_path: Path) -> None:
    steps = CONTAINERFILE.read_text()
    for source in re.findall(r"^COPY (?!--from)(\S+) ", steps, re.MULTILINE):
        assert (builds.ROOT / source).exists()
    environment = dict(re.findall(r"(CHATD_\w+)=(\S+)", steps))
    assert environment.keys() == {"CHATD_STORE", "CHATD_BUS"}
    dumped = subprocess.run(
        [sys.executable, "-m", "chatd", "-c", builds.ROOT / "etc/container.toml", "-T", "--no-strict", "--allow-root"],
        capture_output=True, text=True, check=True, timeout=60, env={**os.environ, **environment},
    ).stdout  # fmt: skip
    assert 'log_dir = "-"' in dumped
    assert '"sqlite:/var/lib/chatd/chatd.db"  # env:CHATD_STORE' in dumped
    for port in re.findall(r"^EXPOSE (.*)$", steps, re.MULTILINE)[0].split():
        assert f":{port}" in dumped


class Buildah:
    """With a store of its own, which ends with the test."""

    def __init__(self, folder: Path) -> None:
        self._options = ["--root", folder / "storage", "--runroot", folder / "run", "--storage-driver", "vfs"]

    def __call__(self, *arguments: str | Path) -> str:
        return builds.run("buildah", *self._options, *arguments).strip()

    def command(self, *arguments: str) -> list[str]:
        return ["buildah", *map(str, self._options), *arguments]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    builds.run(builds.ROOT / ".ci/tools", "buildah", "debootstrap")
    folder = tmp_path_factory.mktemp("buildah")
    made = Buildah(folder)
    yield made
    made("rm", "--all")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def image(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base")
    debian = "http://deb.debian.org/debian"
    builds.run("debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", folder / "root", debian)
    builds.run("tar", "-C", folder / "root", "-cf", folder / "root.tar", ".")
    base = buildah("from", "scratch")
    buildah("add", "--quiet", base, folder / "root.tar", "/")
    buildah("commit", "--quiet", base, BASE)
    binds = [f"--volume={path}:{path}:ro" for path in SEEN if Path(path).exists()]
    buildah(
        "build", "--isolation", "chroot", "--format", "docker", "--layers=false", *binds, "--build-arg", f"BASE={BASE}",
        "--file", CONTAINERFILE, "--tag", IMAGE, builds.ROOT,
    )  # fmt: skip
    return IMAGE


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network in which the ports of the image are free."""
    name = f"chatd-image-{os.getpid()}"
    builds.run("ip", "netns", "add", name)
    try:
        builds.run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        builds.run("ip", "netns", "delete", name)


@pytest.mark.slow
def test_the_image_serves_tells_its_health_and_stops(buildah: Buildah, image: str, namespace: str) -> None:
    config: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    assert config["User"] == "999:999"
    assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "chatctl check; [ $? -lt 2 ]"]
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["Volumes"]) == ["/var/lib/chatd"]
    container = buildah("from", image)

    def inside(*command: str) -> list[str]:
        run = buildah.command("run", "--isolation", "chroot", container, "--", *command)
        return ["ip", "netns", "exec", namespace, *run]

    server = subprocess.Popen(inside(*config["Entrypoint"]), stderr=subprocess.PIPE, text=True)
    try:

        def check() -> int:
            assert server.poll() is None, server.communicate()[1]
            return subprocess.run(inside("chatctl", "check"), capture_output=True, check=False, timeout=60).returncode

        wait_until(60, "the image is healthy", lambda: check() == 0, 0.5)
        assert builds.run(*inside("id", "--user")).strip() == "999"
        builds.run(*inside("sh", "-c", f"echo '{PASSWORD}' >/tmp/p && chatctl user add alice </tmp/p"))
        told = builds.run(
            *inside("sh", "-c", "echo /friends | chat 127.0.0.1:6000 --name alice --password-file /tmp/p")
        )
        assert "logged in as alice" in told
        assert "pip" not in builds.run(*inside("sh", "-c", "ls /usr/lib/chatd/lib/python3.*/site-packages")).split()
        (master,) = [one for one in _below(server.pid) if one.name() == "chatd"][:1]
        master.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.communicate()


def _below(pid: int) -> list[psutil.Process]:
    """Its children, theirs, and so on; parents first."""

    return psutil.Process(pid).children(recursive=True)
