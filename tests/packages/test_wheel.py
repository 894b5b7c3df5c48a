"""The wheel in a virtual environment, put in its place by chatd-setup: the commands of docs/install.md, on a host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import chatd
from tests.packages import builds
from tests.packages.host import UNIT, Host
from tests.packages.install_page import MOST, commands

WAY = commands("Virtual environment")
INSTEAD = {
    "/opt/chatd/bin/pip install .": "/opt/chatd/bin/pip install -q --no-compile --no-index --find-links /wheels chatd"
}
"""The wheel in place of the checkout, and nothing from the network."""
SETUP = "/opt/chatd/bin/chatd-setup"


@pytest.fixture
def venv(host: Host) -> Iterator[Host]:
    host.clear()
    yield host
    host.box.run("sh", "-c", f"{SETUP} uninstall --purge; rm -rf /opt/chatd", check=False)


def test_the_documented_commands_install_a_server_and_it_can_be_removed(venv: Host) -> None:
    assert len(WAY) <= MOST
    assert INSTEAD.keys() <= set(WAY)
    *steps, account, login = WAY
    for step in steps:
        venv.box.run(*INSTEAD.get(step, step).split(), limit_s=120)
    assert (account, login) == ("chatctl user add alice", "chat 127.0.0.1:6000 --name alice")
    venv.add_user("alice")
    venv.add_user("bob")
    with venv.person("alice") as alice, venv.person("bob") as bob:
        bob.types("/chat alice hello from bob")
        alice.sees("hello from bob")
    assert venv.status()["version"] == chatd.__version__
    assert venv.box.run("ps", "-o", "user=", "-p", str(venv.box.main_pid(UNIT))).stdout == "chatd\n"
    assert "valid" in venv.box.run("chatd", "-t").stderr
    assert "wrong" not in venv.box.run("chatd-setup", "check").stdout
    venv.box.systemctl("reload", UNIT)
    told = venv.box.run("chatd-setup", "install").stdout
    assert "created" not in told
    _remove(venv)


def _remove(venv: Host) -> None:
    told = venv.box.run(SETUP, "uninstall").stdout
    assert "removed     /usr/local/bin/chatd" in told
    assert venv.box.state(UNIT) == "inactive"
    assert not venv.exists("/usr/local/bin/chatctl")
    assert not venv.exists("/etc/systemd/system/multi-user.target.wants/chatd.service")
    assert venv.exists("/var/lib/chatd/chatd.db")
    venv.box.run(SETUP, "install")
    venv.box.run(SETUP, "uninstall", "--purge")
    for path in ("/etc/chatd", "/var/lib/chatd", "/var/log/chatd", "/usr/local/share/chatd"):
        assert not venv.exists(path), path


def test_a_virtual_environment_that_the_service_cannot_see_is_refused(venv: Host) -> None:
    box = venv.box
    box.run("python3", "-m", "venv", "--without-pip", "/home/chatd")
    box.run("sh", "-c", "python3 -m venv --without-pip /home/chatd && cd /wheels && for one in *.whl; do "
            "python3 -m zipfile -e $one /home/chatd/lib/python3.11/site-packages; done")  # fmt: skip
    refused = box.run("/home/chatd/bin/python", "-m", "chatd.setup", "install", check=False)
    assert refused.returncode == 78
    assert "the service cannot see /home" in refused.stderr
    assert not venv.exists("/etc/systemd/system/chatd.service")
    box.run("rm", "-r", "/home/chatd")


def test_the_wheel_has_everything_that_is_installed() -> None:
    """The links in chatd/share are files in the wheel."""
    (wheel,) = (Path(builds.ROOT) / "build" / "wheels").glob("chatd-*.whl")
    names = builds.run("python3", "-m", "zipfile", "-l", wheel)
    for name in (
        "etc/installed.toml",
        "etc/fail2ban/filter.d/chatd.conf",
        "man/chatd-setup.8",
        "systemd/chatd.service",
    ):
        assert f"chatd/share/{name}" in names
    for name in ("client.py", "chatserver/frames.py", "py.typed"):
        assert f"chatd_client/{name}" in names
    assert "build/" not in names
