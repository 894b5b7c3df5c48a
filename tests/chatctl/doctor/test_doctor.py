"""Each check of `chatctl doctor` finds its fault, which is made here."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd.chatctl import __main__ as chatctl
from chatd.chatctl.doctor import host, versions
from chatd.chatctl.doctor.finding import Installation
from chatd.chatctl.doctor.stores import skew
from chatd.config import load as config_load
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon, free_port
from tests.harness.deadline import wait_until
from tests.harness.mariadb import MariaDB
from tests.harness.redis import RedisServer
from tests.harness.statuses import status

pytestmark = pytest.mark.xdist_group("doctor")
"""They share a daemon."""

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
HERE = {"clock.synchronised", "configuration.insecure"}
"""Findings that depend on the machine, or that the configuration of tests has on purpose."""


def here(daemon: Daemon, *arguments: str) -> tuple[int, str, str]:
    """chatctl in this process, where a test changes what it finds: exit code, what it printed, and what it said."""
    out, err = io.StringIO(), io.StringIO()
    before = os.umask(0o077)
    os.umask(before)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = chatctl.main(["-c", str(daemon.config_file), *arguments])
    finally:
        os.umask(before)
    return code, out.getvalue(), err.getvalue()


def examined(
    daemon: Daemon, *options: str, prefix: tuple[str, ...] = ()
) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit code, and warnings and errors by the name of the check. prefix: it is a program of its own, begun by
    this."""
    if prefix:
        command = [*prefix, sys.executable, "-m", "chatd.chatctl", "-c", str(daemon.config_file), "doctor", "--json"]
        done = subprocess.run(
            [*command, *options], cwd=daemon.root, env=daemon.env, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        code, out, err = done.returncode, done.stdout, done.stderr
    else:
        code, out, err = here(daemon, "doctor", "--json", *options)
    assert out, err
    found = json.loads(out)
    assert found["exit"] == code
    by_check: dict[str, list[dict[str, Any]]] = {}
    for one in found["findings"]:
        assert one["text"]
        if one["severity"] in ("warning", "error"):
            assert one["meaning"]
            assert one["advice"]
            by_check.setdefault(one["check"], []).append(one)
    return code, by_check


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("running"), workers=2).start()
    yield daemon
    assert daemon.discard() == []


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Daemon]:
    """A server that never ran."""
    daemon = Daemon(tmp_path / "stopped", workers=1)
    yield daemon
    daemon.discard()


def with_tables(daemon: Daemon, **tables: dict[str, Any]) -> Daemon:
    for name, table in tables.items():
        daemon.config.setdefault(name, {}).update(table)
    daemon.write_config()
    return daemon


def test_a_server_that_is_well_has_nothing_but_what_tests_need(running: Daemon) -> None:
    _, found = examined(running)
    assert found.keys() <= HERE | {"limits.udp_buffers"}
    shown = running.ctl_said("doctor", "--all")[1]
    for text in ("accepts connections", "has no damaged page", "the newest", "is the installed version"):
        assert text in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 100


def test_nothing_is_created(stopped: Daemon) -> None:
    before = sorted(path.name for path in stopped.root.iterdir())
    code, _ = examined(stopped)
    assert code in (0, 1)
    assert sorted(path.name for path in stopped.root.iterdir()) == before


def test_a_configuration_with_mistakes_is_shown_whole(stopped: Daemon) -> None:
    with_tables(stopped, limits={"conections": 1}, log={"level": "LOUD"})
    code, _, said = stopped.ctl_said("doctor")
    assert code == 78
    assert "conections" in said
    assert "log.level" in said


# ---------------------------------------------------------------- the server and its ports


def test_a_hung_worker(running: Daemon) -> None:
    pid = running.workers()[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(20, "it is noticed", lambda: "server.hung" in examined(running, "--fast")[1], 0.2)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_master_that_does_not_answer(running: Daemon) -> None:
    os.kill(running.pid, signal.SIGSTOP)
    try:
        code, found = examined(running, "--fast")
    finally:
        os.kill(running.pid, signal.SIGCONT)
    assert (code, "server.answers" in found) == (2, True)


@pytest.mark.parametrize("kind", ["tcp", "udp", "unix"])
def test_a_port_that_another_program_has(stopped: Daemon, kind: str, tmp_path: Path) -> None:
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as other:
        if kind == "unix":
            address, where = str(tmp_path / "x.sock"), f"unix:{tmp_path}/x.sock"
            other.bind(address)
        else:
            port = free_port()
            other.bind(("127.0.0.1", port))
            where = f"{kind}://127.0.0.1:{port}"
        if kind != "udp":
            other.listen()
        stopped.config["listen"] = [{"protocol": "mobileimsdk", "address": where}]
        stopped.write_config()
        code, found = examined(stopped)
        assert code == 2
        assert f"{where} is used by pid {os.getpid()} (" in found["ports.bound"][0]["text"]
        ended = subprocess.run(
            [*stopped_command(stopped)], cwd=stopped.root, env=stopped.env, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert ended.returncode == 71
        assert f"address already in use by pid {os.getpid()} (" in ended.stderr


def stopped_command(daemon: Daemon) -> list[str]:
    command = [sys.executable, "-m", "chatd", "-c", str(daemon.config_file)]
    return [*command, "--allow-root"] if os.geteuid() == 0 else command


def test_a_listener_that_is_not_served(running: Daemon) -> None:
    good = running.config_file.read_text()
    try:
        extra = f'\n[[listen]]\nprotocol = "echo"\naddress = "tcp://127.0.0.1:{free_port()}"\n'
        running.config_file.write_text(good + extra)
        code, found = examined(running, "--fast")
        assert code == 2
        assert "nobody listens on" in found["ports.bound"][0]["text"]
    finally:
        running.config_file.write_text(good)


def test_certificates_that_expire_or_cannot_be_read(stopped: Daemon, tmp_path: Path) -> None:
    certificate = Certificate(tmp_path / "tls")
    stopped.config["listen"] = [
        {"protocol": "echo", "address": f"tls://127.0.0.1:{free_port()}", "certificates": certificate.options()}
    ]
    stopped.write_config()
    assert not {"certificates.expiry", "certificates.usable"} & examined(stopped)[1].keys()
    make_short(certificate, days=3)
    code, found = examined(stopped)
    assert (code, "expires in" in found["certificates.expiry"][0]["text"]) == (1, True)
    Path(certificate.options()[0]["certificate"]).write_text("no certificate")
    code, found = examined(stopped)
    assert (code, "certificates.usable" in found) == (2, True)


def make_short(certificate: Certificate, days: int) -> None:
    files = certificate.options()[0]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
         str(days), "-subj", "/CN=chat", "-addext", "subjectAltName=DNS:chat.example", "-keyout", files["key"],
         "-out", files["certificate"]],
        check=True, capture_output=True,
    )  # fmt: skip


# ---------------------------------------------------------------- files and limits


def test_files_that_others_may_read_or_change(stopped: Daemon) -> None:
    stopped.config_file.chmod(0o666)
    code, found = examined(stopped)
    assert code == 2
    assert "mode 0666" in found["files.modes"][0]["text"]
    assert found["files.modes"][0]["advice"] == f"run: chmod o-w {stopped.config_file}"


@ROOT_ONLY
def test_a_directory_that_the_user_of_the_server_cannot_write(stopped: Daemon, tmp_path: Path) -> None:
    with_tables(stopped, server={"user": "nobody"})
    (stopped.root / "log").mkdir(mode=0o755)
    _, found = examined(stopped, prefix=("env",))
    assert "cannot be written by nobody" in found["files.directories"][0]["text"]


def test_too_few_descriptors(stopped: Daemon) -> None:
    with_tables(stopped, limits={"connections": 100_000})
    code, found = examined(stopped, prefix=("prlimit", "--nofile=4096:4096"))
    assert code == 2
    assert "4096 descriptors for each worker" in found["limits.descriptors"][0]["text"]


@ROOT_ONLY
def test_a_backlog_that_the_kernel_does_not_allow(stopped: Daemon) -> None:
    script = 'sysctl -qw net.core.somaxconn=128; ip link set lo up; exec "$@"'
    _, found = examined(stopped, prefix=("unshare", "-n", "sh", "-c", script, "-"))
    assert "net.core.somaxconn is 128" in found["limits.backlog"][0]["text"]


def test_small_buffers_for_datagrams(stopped: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "rmem_default"
    small.write_text("212992\n")
    monkeypatch.setattr(host, "RMEM_DEFAULT", small)
    installation = Installation(loaded=config_load.load(stopped.config_file), status=None, pid=0)
    assert [one.severity for one in host.udp_buffers(installation)] == ["warning"]
    small.write_text(f"{4 * host.LEAST_UDP_BYTES}\n")
    assert [one.severity for one in host.udp_buffers(installation)] == ["ok"]


def test_the_clock_says_whether_it_is_synchronised() -> None:
    assert host.is_synchronised() in (True, False)


@ROOT_ONLY
def test_a_disk_that_is_nearly_full(stopped: Daemon) -> None:
    small = stopped.root / "state"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", str(small)], check=True)
    try:
        (small / "filler").write_bytes(b"x" * 1_010_000)
        code, found = examined(stopped)
        assert code == 2
        assert str(small) in found["disk.room"][0]["text"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


# ---------------------------------------------------------------- configuration and versions


@pytest.mark.parametrize(
    ("tables", "key"),
    [
        ({"accounts": {"login": "open", "insecure_open_login": True}}, "accounts.insecure_open_login"),
        ({"penalties": {"enabled": False}}, "penalties.enabled"),
        ({"accounts": {"registration": "open"}}, "accounts.registration"),
        ({"bus": {"url": "redis://127.0.0.1:1/0", "insecure_unsigned": True}}, "bus.insecure_unsigned"),
    ],
)
def test_insecure_options_are_named(stopped: Daemon, tables: dict[str, Any], key: str) -> None:
    with_tables(stopped, **tables)
    _, found = examined(stopped)
    assert f"{key} lowers the protection" in [one["text"] for one in found["configuration.insecure"]]


def test_passwords_on_a_network_and_an_incomplete_trail(stopped: Daemon) -> None:
    stopped.config["listen"] = [{"protocol": "chatserver", "address": f"tcp://0.0.0.0:{free_port()}"}]
    with_tables(stopped, log={"level": "ERROR"}, accounts={"registration": True})
    _, found = examined(stopped)
    assert any("has no TLS" in one["text"] for one in found["configuration.insecure"])
    assert "configuration.log_level" in found
    assert "configuration.deprecated" in found


def test_what_this_host_lacks(stopped: Daemon) -> None:
    with_tables(stopped, server={"user": "nobody-of-this-name"})
    code, found = examined(stopped)
    assert code == 2
    assert "no such user" in found["configuration.host"][0]["text"]


def test_a_running_server_of_another_version(stopped: Daemon) -> None:
    loaded = config_load.load(stopped.config_file)
    found = list(versions.running(Installation(loaded=loaded, status=status(version="0.0.1"), pid=1)))
    assert [one.severity for one in found] == ["warning"]
    assert list(versions.running(Installation(loaded=loaded, status=None, pid=0))) == []


def test_a_library_that_is_too_old(stopped: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    installation = Installation(loaded=config_load.load(stopped.config_file), status=None, pid=0)
    assert [one.severity for one in versions.libraries(installation)] == ["ok"]
    real = versions.importlib.metadata.version
    monkeypatch.setattr(
        versions.importlib.metadata, "version", lambda name: "0.0.1" if name == "psutil" else real(name)
    )
    found = list(versions.libraries(installation))
    assert [one.text.partition(" is")[0] for one in found] == ["psutil 0.0.1"]


# ---------------------------------------------------------------- store and bus


def test_damaged_pages_and_an_old_schema(stopped: Daemon) -> None:
    path = stopped.root / "state" / "chatd.db"
    stopped.start()
    stopped.ctl("user", "add", "alice", input="a password\n")
    stopped.stop()
    assert not {"store.pages", "store.schema", "store.readable"} & examined(stopped)[1].keys()
    with contextlib.closing(sqlite3.connect(path)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute(f"PRAGMA user_version = {version - 1}")
    assert f"has schema {version - 1}" in examined(stopped)[1]["store.schema"][0]["text"]
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version + 1}")
    assert examined(stopped)[1]["store.schema"][0]["severity"] == "error"
    with path.open("r+b") as file:  # every page but the first, which has the schema
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    code, found = examined(stopped)
    assert code == 2
    assert {"store.pages", "store.readable"} & found.keys()
    assert not {"store.pages"} & examined(stopped, "--fast")[1].keys()


def test_pages_are_checked_beside_a_running_server(running: Daemon) -> None:
    shown = running.ctl_said("doctor", "--all")[1]
    assert "has no damaged page" in " ".join(shown.split())
    owner = (running.root / "state").stat().st_uid
    assert {path.stat().st_uid for path in (running.root / "state").iterdir()} == {owner}


def test_redis_that_is_away_or_wrong(stopped: Daemon, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        with_tables(stopped, bus={"url": server.url, "insecure_unsigned": True})
        assert not {"bus.usable", "clock.bus"} & examined(stopped)[1].keys()
    server.kill()
    code, found = examined(stopped)
    assert code == 2
    assert "cannot be used" in found["bus.usable"][0]["text"]


def test_mysql_that_is_away(stopped: Daemon) -> None:
    with_tables(stopped, store={"url": f"mysql://chatd:hush@127.0.0.1:{free_port()}/chatd"})
    stopped.config_file.chmod(0o600)
    code, found = examined(stopped)
    assert (code, "store.readable" in found) == (2, True)
    assert "hush" not in json.dumps(found)


def test_mysql_is_read_and_its_clock_compared(stopped: Daemon, mariadb: MariaDB) -> None:
    with_tables(stopped, store={"url": mariadb.url()})
    stopped.config_file.chmod(0o600)
    assert "store.readable" in examined(stopped)[1], "there are no tables yet"
    stopped.start()
    _, out, _ = stopped.ctl_said("doctor", "--json")
    found = {one["check"]: one for one in json.loads(out)["findings"]}
    assert found["store.schema"]["severity"] == found["clock.store"]["severity"] == "ok"


@pytest.mark.parametrize(("ahead_s", "severity"), [(0.2, "ok"), (40.0, "warning"), (-40.0, "warning")])
def test_clocks_that_do_not_agree(ahead_s: float, severity: str) -> None:
    assert [one.severity for one in skew("clock.bus", "redis", ahead_s)] == [severity]
