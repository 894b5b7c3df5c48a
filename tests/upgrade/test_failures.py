"""An upgrade that fails leaves a server that serves, says why, and can be upgraded later."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon
from tests.harness.deadline import wait_until
from tests.upgrade.conftest import NEW, OLD
from tests.upgrade.installation import Installation, upgrade_of, versions
from tests.upgrade.test_versions import say

Made = Callable[..., Daemon]
STOPPING = str(Path(__file__).with_name("stopping.py"))


@pytest.fixture
def daemon(make_daemon: Made, installation: Installation) -> Daemon:
    """Of the older version; can be stopped at any phase of an upgrade."""
    made = installation.daemon(make_daemon(workers=2), STOPPING)
    stops = made.root / "stops"
    stops.mkdir()
    made.env["STOPS"] = str(stops)
    made.expect_error("the upgrade failed")
    return made.start()


@contextmanager
def stopped_at(daemon: Daemon, phase: str) -> Iterator[subprocess.Popen[str]]:
    """In the body an upgrade has reached this phase, and waits."""
    stop = Path(daemon.env["STOPS"], phase)
    stop.touch()
    asking = subprocess.Popen(
        [daemon.python, "-m", "chatd.chatctl", "-c", str(daemon.config_file), "upgrade"],
        cwd=daemon.root, env=daemon.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(60, f"{phase} is reached", stop.with_name(f"{phase}.reached").exists)
        yield asking
    finally:
        stop.unlink(missing_ok=True)
        stop.with_name(f"{phase}.reached").unlink(missing_ok=True)
        if asking.poll() is None:
            asking.wait(60)
        for pipe in (asking.stdout, asking.stderr):
            if pipe is not None:
                pipe.close()


def append(file: Path, text: str) -> None:
    with file.open("a") as opened:
        opened.write(text)


@pytest.mark.slow
def test_what_the_preflight_refuses_changes_nothing(
    daemon: Daemon, installation: Installation, wheels: dict[str, Path]
) -> None:
    """One after the other: a configuration that is wrong, that needs files which are not there, that others may write,
    a schema that needs a migration or is unknown, a state that is not understood, a plug-in that does not load. Each
    with its own exit code and line."""
    installation.install(wheels[NEW])
    pid, workers = daemon.pid, daemon.workers()

    def refused(code: int, *texts: str) -> None:
        answer = upgrade_of(daemon)
        assert answer.returncode == code, answer
        for text in texts:
            assert text in answer.stderr, answer.stderr
        status = daemon.status()
        assert (status["pid"], status["state"], daemon.workers()) == (pid, "running", workers)
        assert texts[0] in status["upgrade"]["failure"]
        assert versions(status) == {OLD}
        assert OLD in say(daemon)

    good = daemon.config_file.read_text()
    daemon.config_file.write_text(good.replace("[limits]", "[limits]\nconections = 1"))
    refused(78, "limits.conections: unknown option")
    daemon.config_file.write_text(good + '\n[[hook]]\nname = "none"\nentry_point = "not_installed"\n')
    refused(78, "no plug-in not_installed is installed")
    secure = '\n[[listen]]\nprotocol = "chatserver"\naddress = "tls://127.0.0.1:0"\n'
    secure += 'certificates = [{ certificate = "none.pem" }]\n'
    daemon.config_file.write_text(good + secure)  # which only a restart would use
    refused(78, "none.pem")
    daemon.config_file.write_text(good)
    mode = daemon.config_file.stat().st_mode
    daemon.config_file.chmod(0o666)
    refused(78, "mode 0666, writable by others")
    daemon.config_file.chmod(mode)
    schema = installation.package / "store" / "sqlite" / "schema.py"
    before = schema.read_text()
    append(schema, '\nMIGRATIONS = (*MIGRATIONS, ("CREATE TABLE more (id INTEGER PRIMARY KEY)",))\n')
    refused(78, "restart needed: stop the server, run chatctl migrate")
    schema.write_text(before + "\nMIGRATIONS = MIGRATIONS[:-1]\n")
    refused(78, "is newer than this chatd knows")
    schema.write_text(before)
    state = installation.package / "master" / "upgrade" / "state.py"
    before = state.read_text()
    # Of another size, or bytecode of the same second would be taken for that of the file that is put back.
    state.write_text(before.replace("FORMAT = 1\n", "FORMAT = 2  # another\n"))
    refused(78, "without a restart", "format 1")
    state.write_text(before)
    done = upgrade_of(daemon)
    assert done.returncode == 0, done
    assert versions(daemon.status()) == {NEW}


def test_a_program_that_cannot_be_executed_leaves_the_old_one(
    daemon: Daemon, installation: Installation, wheels: dict[str, Path]
) -> None:
    """The interpreter vanishes between the preflight and the change."""
    installation.install(wheels[NEW])
    pid, workers = daemon.pid, daemon.workers()
    hidden = installation.python.with_name("hidden")
    with stopped_at(daemon, "waiting") as asking:
        installation.python.rename(hidden)
        Path(daemon.env["STOPS"], "waiting").unlink()
        _, said = asking.communicate(timeout=60)
        hidden.rename(installation.python)
    assert asking.returncode == 71, said
    assert "cannot change the program" in said
    status = daemon.status()
    assert (status["pid"], status["state"], daemon.workers()) == (pid, "running", workers)
    assert OLD in say(daemon)
    os.kill(daemon.pid, signal.SIGHUP)  # signals are heard again
    wait_until(10, "it reloads", lambda: daemon.status()["reloads"] == 1)
    assert upgrade_of(daemon).returncode == 0
    assert versions(daemon.status()) == {NEW}


def test_new_workers_that_cannot_start_leave_the_old_ones(
    daemon: Daemon, installation: Installation, wheels: dict[str, Path]
) -> None:
    """The new program supervises the workers of the old one: the state is degraded, and says why. When the cause is
    gone, the upgrade succeeds."""
    daemon.expect_error("a successor could not start")
    daemon.expect_error("worker died")
    installation.install(wheels[NEW])
    worker = installation.package / "worker.py"
    before = worker.read_text()
    worker.write_text(
        before.replace(
            "    sys.setswitchinterval",
            '    raise BootError("no new workers today", Exit.UNAVAILABLE)\n    sys.setswitchinterval',
            1,
        )
    )
    pid, workers = daemon.pid, daemon.workers()
    answer = upgrade_of(daemon)
    assert answer.returncode == 75, answer
    assert "no new workers today" in answer.stderr
    assert f"2 workers of version {OLD} serve on" in answer.stderr
    status = daemon.status()
    assert (status["pid"], status["state"], status["version"]) == (pid, "degraded", NEW)
    assert [one["version"] for one in status["workers"]] == [OLD, OLD]
    assert status["upgrade"]["old_workers"] == 2
    assert daemon.workers() == workers
    assert OLD in say(daemon)
    assert "the upgrade is incomplete" in " ".join(daemon.ctl("status").stdout.split())
    assert daemon.ctl("check").returncode == 1
    assert daemon.ctl("reload").returncode == 0, "the new program gives orders to the old workers"
    worker.write_text(before)
    done = upgrade_of(daemon)
    assert done.returncode == 0, done
    assert versions(daemon.status()) == {NEW}
    assert daemon.status()["state"] == "running"


def test_a_new_program_that_fails_before_its_loop_ends_like_any_master(
    daemon: Daemon, installation: Installation, wheels: dict[str, Path]
) -> None:
    """There is no way back by then. The workers drain, and a plain start works."""
    for text in ("the new program cannot take over", "the master is gone"):
        daemon.expect_error(text)
    daemon.expect_error("Traceback")
    installation.install(wheels[NEW])
    fails = Path(daemon.env["STOPS"], "loading.fails")
    fails.touch()
    with socket.create_connection(("127.0.0.1", daemon.ports["echo"]), 20) as client:
        answer = upgrade_of(daemon)
        assert answer.returncode == 69, answer
        assert daemon.wait_gone() == 70
        client.settimeout(20)
        assert client.recv(1000) == b"", "its worker drains, so the connection ends in order"
    wait_until(30, "the workers have left", lambda: not daemon.processes())
    assert sum(record["event"] == "worker leaves" for record in daemon.records()) == 2
    fails.unlink()
    daemon.start()
    assert versions(daemon.status()) == {NEW}


@pytest.mark.slow
def test_nobody_who_asks_meanwhile_is_refused(
    daemon: Daemon, installation: Installation, wheels: dict[str, Path]
) -> None:
    """Neither on the control socket, nor at a listener, nor by signals: those that come while the program changes take
    effect in the new one."""
    installation.install(wheels[NEW])
    over = threading.Event()
    refusals: list[str] = []
    asked = [0]

    def ask() -> None:
        while not over.is_set():
            try:
                assert daemon.status()["workers"]
                assert "server[echo]" in say(daemon)
            except (AssertionError, OSError) as error:
                refusals.append(repr(error))
            asked[0] += 1
            time.sleep(0.05)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with stopped_at(daemon, "changing") as first:
            os.kill(daemon.pid, signal.SIGHUP)
            os.kill(daemon.pid, signal.SIGTTIN)
            second = subprocess.Popen(
                [daemon.python, "-m", "chatd.chatctl", "-c", str(daemon.config_file), "upgrade", "--json"],
                cwd=daemon.root, env=daemon.env, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            Path(daemon.env["STOPS"], "changing").unlink()
            first.communicate(timeout=60)
            assert first.returncode == 0
            second.communicate(timeout=60)
        wait_until(20, "three workers", lambda: len(daemon.workers()) == 3)
        wait_until(20, "reloaded", lambda: daemon.status()["reloads"] == 1)
    finally:
        over.set()
        asking.join()
    assert refusals == []
    assert asked[0] > 1
    assert versions(daemon.status()) == {NEW}
