"""A drained host: its workers leave, connects are refused at once, and its addresses stay its own."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.master.conftest import say, wait_for

UNIX = '[[listen]]\nprotocol = "echo"\naddress = "unix:{root}/chat.sock"\n'


def connects(where):
    """Whether a connect succeeds. It is answered at once in either case."""
    family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(2)
        try:
            client.connect(where)
        except ConnectionRefusedError:
            return False
        return True


def state(server):
    return server.status()["state"]


def test_connects_are_refused_from_drain_to_undrain(make):
    server = make()
    server.listen += UNIX.format(root=server.root)
    server.write()
    server.start()
    places = ("127.0.0.1", server.port()), f"{server.root}/chat.sock"
    before = set(server.pids())
    for _ in range(2):
        assert all(connects(place) for place in places)
        assert server.ctl("drain").returncode == 0
        assert state(server) == "drained"
        assert server.pids() == []
        assert not any(connects(place) for place in places)
        assert server.ctl("drain", "--host").returncode == 0, "it is drained already"
        checked = server.ctl("check")
        assert (checked.returncode, "drained" in checked.stdout) == (1, True)
        assert server.ctl("undrain").returncode == 0
        assert state(server) == "running"
        assert len(server.pids()) == 2
        assert not before & set(server.pids())
        assert {("127.0.0.1", server.port()), f"{server.root}/chat.sock"} == set(places)
    with server.connect() as client:
        assert say(client, "hello")
    assert server.events("error.log") == []


def test_an_address_that_another_program_takes_meanwhile_is_served_when_it_is_free(make):
    server = make().start()
    assert server.ctl("drain").returncode == 0
    port = server.port()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        told = server.ctl("undrain")
        assert (told.returncode, f"127.0.0.1:{port}" in told.stderr, "in use" in told.stderr) == (75, True, True)
        assert "cannot listen again" in server.events("error.log")

    def served():
        with contextlib.suppress(OSError), server.connect() as client:
            return say(client, "hello")

    wait_for("it is served", served)


def test_clients_have_their_time_while_new_ones_are_refused(make):
    server = make(tables="[timeouts]\ndrain_s = 20").start()
    port = server.port()
    with server.connect() as client:
        pid = say(client, "hello")[1]
        asked = threading.Thread(target=server.ctl, args=("drain",))
        asked.start()
        wait_for("draining", lambda: state(server) == "draining")
        assert not connects(("127.0.0.1", port))
        assert say(client, "hello")[1] == pid
        assert asked.is_alive()
    asked.join()
    assert state(server) == "drained"


def test_undrain_does_not_wait_for_workers_that_are_leaving(make):
    server = make(workers=1, tables="[timeouts]\ndrain_s = 20").start()
    with server.connect() as client:
        old = say(client, "hello")[1]
        given_up = []
        asked = threading.Thread(target=lambda: given_up.append(server.ctl("drain")))
        asked.start()
        wait_for("draining", lambda: state(server) == "draining")
        assert server.ctl("undrain").returncode == 0
        asked.join()
        assert (given_up[0].returncode, "serve again" in given_up[0].stderr) == (75, True)
        with server.connect() as other:
            assert say(other, "hello")[1] != old
        assert say(client, "hello")[1] == old


def test_workers_of_two_drains_at_most_are_leaving(make):
    """A third generation waits until the first has left: nobody can fill the host with workers that drain."""
    server = make(workers=1, tables="[timeouts]\ndrain_s = 20").start()
    held = []
    for _ in range(2):
        held.append(server.connect())
        say(held[-1], "hello")
        threading.Thread(target=server.ctl, args=("drain",)).start()
        wait_for("draining", lambda: state(server) == "draining")
        if len(held) == 1:
            assert server.ctl("undrain").returncode == 0
    asked = threading.Thread(target=server.ctl, args=("undrain",))
    asked.start()
    until = time.monotonic() + 1
    while time.monotonic() < until:
        assert [one["state"] for one in server.status()["workers"]] == ["draining", "draining"]
    held[0].close()
    asked.join()
    assert sorted(one["state"] for one in server.status()["workers"]) == ["draining", "ready"]
    held[1].close()


def test_signals_drain_and_undrain(make):
    server = make().start()
    server.signal(signal.SIGWINCH)
    wait_for("drained", lambda: state(server) == "drained")
    server.signal(signal.SIGTTIN)
    wait_for("running", lambda: state(server) == "running")
    assert server.status()["workers_wanted"] == 2, "TTIN adds no worker here"


def test_a_terminal_that_changes_its_size_drains_nothing(make):
    """It sends WINCH to whatever runs in its foreground."""
    server = make()
    inside = f"import pty, sys; sys.exit(pty.spawn({server.command()!r}))"
    leader, follower = pty.openpty()
    server.process = subprocess.Popen(
        [sys.executable, "-c", inside], env=server.environment, stdin=follower, stdout=follower, stderr=follower
    )
    try:
        wait_for("ready", lambda: state(server) == "running")
        os.kill(server.status()["pid"], signal.SIGWINCH)
        wait_for("a warning", lambda: any(event.startswith("WINCH is ignored") for event in server.events()))
        assert state(server) == "running"
        assert server.ctl("stop").returncode == 0
    finally:
        os.close(leader)
        os.close(follower)


@pytest.mark.parametrize("while_draining", [True, False])
def test_a_drained_server_can_be_stopped(make, *, while_draining):
    server = make(tables="[timeouts]\ndrain_s = 20").start()
    if while_draining:
        with server.connect() as client:
            say(client, "hello")
            asked = threading.Thread(target=server.ctl, args=("drain",))
            asked.start()
            wait_for("draining", lambda: state(server) == "draining")
            assert server.ctl("stop", "--fast").returncode == 0
        asked.join()
    else:
        assert server.ctl("drain").returncode == 0
        began = time.monotonic()
        assert server.ctl("stop").returncode == 0
        assert time.monotonic() - began < 5
    assert server.wait() == 0


def test_a_drained_host_takes_a_reload_but_no_other_number_of_workers_by_scale(make):
    server = make().start()
    assert server.ctl("drain").returncode == 0
    assert server.ctl("scale", "+1").returncode == 75
    assert server.ctl("restart-workers").returncode == 75
    server.write(workers=3)
    assert server.ctl("reload").returncode == 0
    assert state(server) == "drained"
    assert server.ctl("undrain").returncode == 0
    assert len(server.pids()) == 3


def test_a_stop_refuses_connects_at_once(make):
    server = make(tables="[timeouts]\ndrain_s = 20").start()
    port = server.port()
    with server.connect() as client:
        say(client, "hello")
        server.signal(signal.SIGTERM)
        wait_for("stopping", lambda: state(server) == "stopping")
        assert not connects(("127.0.0.1", port))
        assert say(client, "hello")
    assert server.wait() == 0


def test_nobody_accepting_is_never_left_to_back_off(make):
    """Both workers die again and again; the one that is due first does not wait for its back-off."""
    server = make().start()
    for _ in range(6):
        for pid in server.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for("one that serves", lambda: any(one["state"] == "ready" for one in server.status()["workers"]), 4)
