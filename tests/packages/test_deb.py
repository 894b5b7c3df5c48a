"""The Debian package on a host with systemd: installed, used, upgraded under its users, removed, purged, and so on."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

import chatd
from tests.packages import builds
from tests.packages.host import UNIT, Host
from tests.packages.install_page import MOST, commands


@pytest.mark.slow  # lintian needs 150 packages, which make test-slow installs
def test_lintian_has_no_complaint(package: Path) -> None:
    complaints = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", package],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert complaints.returncode == 0, complaints.stdout + complaints.stderr


def test_the_package_names_neither_the_build_directory_nor_a_registry(package: Path, tmp_path: Path) -> None:
    builds.run("dpkg-deb", "--raw-extract", package, tmp_path)
    found = subprocess.run(
        ["grep", "-rlE", rf"{builds.ROOT}|/tmp/tmp\.", tmp_path / "usr", tmp_path / "DEBIAN"],
        capture_output=True, text=True, check=False, timeout=60,
    ).stdout  # fmt: skip
    assert found == ""
    assert not list(tmp_path.rglob("pip"))
    assert f"Version: {chatd.__version__}\n" in (tmp_path / "DEBIAN/control").read_text()


def test_the_documented_commands_install_a_server_for_this_host_and_no_other(host: Host, package: Path) -> None:
    way = commands("Debian package")
    assert len(way) <= MOST
    make, install, account, login = way
    assert make == "make deb"
    assert (account, login) == ("chatctl user add alice", "chat 127.0.0.1:6000 --name alice")
    host.clear()
    apt, *arguments, _ = install.split()
    assert apt == "apt"
    host.apt(*arguments, f"/packages/{package.name}")
    box = host.box
    assert box.state(UNIT) == "active"
    assert box.systemctl("is-enabled", UNIT).stdout == "enabled\n"
    assert box.systemctl("is-enabled", "chatd.socket", check=False).stdout == "disabled\n"
    assert box.run("ps", "-o", "user=", "-p", str(box.main_pid(UNIT))).stdout == "chatd\n"
    host.add_user("alice")
    host.add_user("bob")
    with host.person("alice") as alice, host.person("bob") as bob:
        bob.types("/chat alice hello from bob")
        alice.sees("hello from bob")
    assert host.status()["version"] == chatd.__version__
    assert "valid" in box.run("chatd", "-t").stderr
    for port in (6000, 8901, 3000):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((box.address, port), 5).close()
    assert not box.journal(UNIT, options=["--priority=warning"])


def test_everything_is_in_its_usual_place_and_understood_there(host: Host, package: Path) -> None:
    host.ensure(package)
    box = host.box
    for page in ("1 chat", "5 chatd.toml", "8 chatd", "8 chatctl"):
        assert box.run("man", "--where", *page.split()).stdout.startswith("/usr/share/man/")
    for name in ("chatd", "chatctl", "chat"):
        assert f"-F _shtab_{name} {name}" in box.run("bash", "-c", COMPLETION.format(name)).stdout
        assert host.exists(f"/usr/share/zsh/vendor-completions/_{name}")
        assert host.exists(f"/usr/share/fish/vendor_completions.d/{name}.fish")
    box.run("systemd-analyze", "verify", UNIT, "chatd.socket")
    box.run("logrotate", "--debug", "/etc/logrotate.d/chatd")
    assert "'chatd'" not in box.run("fail2ban-client", "--dump").stdout, "the jail is off"
    box.run("sed", "-i", "s/^enabled = false/enabled = true/", "/etc/fail2ban/jail.d/chatd.conf")
    assert "['add', 'chatd', 'auto']" in box.run("fail2ban-client", "--dump").stdout
    box.run("sed", "-i", "s/^enabled = true/enabled = false/", "/etc/fail2ban/jail.d/chatd.conf")
    for name, mode in {"/var/lib/chatd": "750 chatd", "/var/log/chatd": "750 chatd", "/etc/chatd": "755 root"}.items():
        assert box.run("stat", "--format=%a %U", name).stdout == f"{mode}\n"


COMPLETION = ". /usr/share/bash-completion/bash_completion; _completion_loader {0}; complete -p {0}"


@pytest.mark.slow
def test_an_upgrade_ends_no_session(host: Host, package: Path, higher: Path) -> None:
    host.ensure(package)
    pid = host.box.main_pid(UNIT)
    host.box.run("sh", "-c", "echo '# edited' >>/etc/chatd/chatd.toml")
    with host.person("alice") as alice, host.person("bob") as bob:
        bob.types("/chat alice before")
        alice.sees("before")
        told = host.install(higher)
        assert host.box.main_pid(UNIT) == pid, told
        assert host.status()["version"] == builds.HIGHER
        bob.types("/chat alice after")
        alice.sees("after")
        for person in (alice, bob):
            assert person.seen.count("logged in as") == 1, person.seen
            assert "connect" not in person.seen, person.seen
    assert "# edited" in host.box.read("/etc/chatd/chatd.toml")


@pytest.mark.slow
def test_a_version_that_refuses_the_configuration_leaves_the_old_one_serving(
    host: Host, package: Path, higher: Path
) -> None:
    """As if an option had gone. The lower version is the new one here, which is the same to dpkg."""
    host.ensure(higher)
    pid = host.box.main_pid(UNIT)
    with host.person("alice") as alice:
        host.box.run("sh", "-c", "echo 'gone = 1' >>/etc/chatd/chatd.toml")
        told = host.install(package)
        assert "log.gone" in told
        assert "keeps its old version" in told
        assert (host.box.main_pid(UNIT), host.status()["version"]) == (pid, builds.HIGHER)
        host.box.run("sed", "-i", "/gone = 1/d", "/etc/chatd/chatd.toml")
        host.ctl("upgrade")
        assert (host.box.main_pid(UNIT), host.status()["version"]) == (pid, chatd.__version__)
        assert "connect" not in alice.seen


@pytest.mark.slow
def test_a_server_that_cannot_be_upgraded_in_place_is_restarted(
    host: Host, package: Path, without_upgrades: Path
) -> None:
    host.ensure(package)
    pid = host.box.main_pid(UNIT)
    assert "cannot be upgraded in place" in host.install(without_upgrades)
    host.box.wait_active(UNIT)
    assert host.box.main_pid(UNIT) != pid
    assert host.status()["version"] == builds.WITHOUT_UPGRADES


@pytest.mark.slow
def test_a_service_that_was_stopped_stays_stopped(host: Host, package: Path, higher: Path) -> None:
    host.ensure(higher)
    host.box.systemctl("stop", UNIT)
    host.install(package)
    assert host.box.state(UNIT) == "inactive"


@pytest.mark.slow
def test_removing_keeps_messages_and_purging_does_not(host: Host, package: Path) -> None:
    host.ensure(package)
    host.box.systemctl("stop", UNIT)
    host.box.systemctl("start", "chatd.socket", UNIT)
    host.box.run("dpkg", "--remove", "chatd")
    assert host.box.state(UNIT) == "inactive"
    assert host.box.state("chatd.socket") == "inactive"
    assert not host.exists("/usr/lib/chatd/bin")
    assert not host.exists("/usr/bin/chatd")
    assert host.exists("/var/lib/chatd/chatd.db")
    assert host.exists("/etc/chatd/chatd.toml")
    host.install(package)
    with host.person("alice"):
        pass
    host.box.run("dpkg", "--purge", "chatd")
    for path in (
        "/var/lib/chatd",
        "/var/log/chatd",
        "/etc/chatd",
        "/etc/logrotate.d/chatd",
        "/etc/fail2ban/jail.d/chatd.conf",
    ):
        assert not host.exists(path), path
