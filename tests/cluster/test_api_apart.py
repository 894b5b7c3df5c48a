"""The HTTP API on two hosts with one database and one Redis: keys, repeated requests and metrics."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.api import Answer, Api, path_of
from tests.harness.cluster import Cluster
from tests.harness.daemon import Daemon, free_port
from tests.harness.deadline import wait_until
from tests.harness.mariadb import MariaDB
from tests.harness.phone import Phone
from tests.harness.switches import switched_off, with_switches
from tests.http.test_keys import IN_FORCE_S
from tests.master.metrics.scraping import total

SECRET = "secret of a user"


class Hosts:
    """Two hosts with one worker each, whose answers can be held back (tests.cluster.planted_api). key: for everything.
    Names of users are new in each test."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.here, self.there = cluster.daemons
        self.key = self.ctl(self.here, "key", "add", "all", "--scope", "admin").split()[-1]
        for daemon in cluster.daemons:
            self.becomes(daemon, self.key, 200)
        self._users = 0

    def ctl(self, daemon: Daemon, *arguments: str) -> str:
        code, out, err = daemon.ctl_said(*arguments)
        assert code == 0, err
        return out

    def asked(self, daemon: Daemon, key: str) -> int:
        """The status of a request with this key."""
        api = Api(daemon.ports["http"], key)
        try:
            return api.get("/v1/users").status
        finally:
            api.close()

    def becomes(self, daemon: Daemon, key: str, status: int) -> None:
        """Soon a request with this key is answered so."""
        wait_until(IN_FORCE_S, f"the answer is {status}", lambda: self.asked(daemon, key) == status)

    def user(self) -> str:
        self._users += 1
        api = Api(self.here.ports["http"], self.key)
        assert api.put(path_of("users", f"user{self._users}"), {"password": SECRET}).status == 200
        api.close()
        return f"user{self._users}"

    def send(self, daemon: Daemon, to: str, text: str, repeat: str) -> Answer:
        api = Api(daemon.ports["http"], self.key)
        try:
            return api.post("/v1/messages", {"to": to, "text": text}, repeat=repeat)
        finally:
            api.close()

    def stored(self, name: str) -> list[str]:
        """Texts of the messages of the system to this user."""
        api = Api(self.there.ports["http"], self.key)
        try:
            (one,) = api.get(path_of("users", name, "conversations")).body["conversations"]
            found = api.get(path_of("conversations", one["id"], "messages"), limit=100).body["messages"]
            return [each["text"] for each in found]
        finally:
            api.close()


@pytest.fixture(scope="module")
def hosts(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    entry = ("-m", "tests.cluster.planted_api", "switches")
    cluster = Cluster(tmp_path_factory.mktemp("api"), database=mariadb, entry=entry)
    for daemon in cluster.daemons:
        daemon.ports["http"], daemon.ports["metrics"] = free_port(), free_port()
        daemon.config["listen"].append({"protocol": "http", "address": f"http://127.0.0.1:{daemon.ports['http']}"})
        daemon.config["metrics"] = {"address": f"tcp://127.0.0.1:{daemon.ports['metrics']}"}
        with_switches(daemon)
    try:
        yield Hosts(cluster.start())
    finally:
        complaints = cluster.discard()
    assert complaints == []


def test_a_key_that_is_made_rotated_and_revoked_on_one_host_is_so_on_the_other(hosts: Hosts) -> None:
    def becomes(key: str, status: int) -> None:
        for daemon in (hosts.there, hosts.here):
            hosts.becomes(daemon, key, status)

    first = hosts.ctl(hosts.here, "key", "add", "shop", "--scope", "users:read").split()[-1]
    becomes(first, 200)
    second = hosts.ctl(hosts.there, "key", "rotate", "shop").split()[-1]
    becomes(second, 200)
    becomes(first, 401)
    listed = json.loads(hosts.ctl(hosts.there, "key", "list", "--json"))["keys"]
    assert {one["state"] for one in listed if one["name"] == "shop"} == {"valid", "expired"}
    hosts.ctl(hosts.here, "key", "revoke", "shop")
    becomes(second, 401)


def test_a_host_that_keeps_revoked_keys_is_found(hosts: Hosts) -> None:
    """Although it learns the new ones."""
    key, more = (hosts.ctl(hosts.here, "key", "add", name, "--scope", "users:read").split()[-1] for name in "ab")
    for one in (key, more):
        hosts.becomes(hosts.there, one, 200)
    with switched_off("revoked_keys_are_kept", hosts.there):
        hosts.ctl(hosts.here, "key", "revoke", "a")
        hosts.becomes(hosts.here, key, 401)
        later = hosts.ctl(hosts.here, "key", "add", "c", "--scope", "users:read").split()[-1]
        hosts.becomes(hosts.there, later, 200)
        assert hosts.asked(hosts.there, key) == 200
    hosts.ctl(hosts.here, "key", "revoke", "b")
    for one in (key, more):
        hosts.becomes(hosts.there, one, 401)


def test_a_request_that_is_repeated_on_the_other_host_has_the_first_answer(hosts: Hosts) -> None:
    name = hosts.user()
    phone = Phone(hosts.there.ports["mobileimsdk"], name, SECRET)
    first = hosts.send(hosts.here, name, "once", "order 1")
    again = hosts.send(hosts.there, name, "once", "order 1")
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    other = hosts.send(hosts.there, name, "something else", "order 1")
    assert other.status == 422
    phone.message("once")
    hosts.send(hosts.here, name, "last", "order 2")
    phone.message("last")
    assert [one["dataContent"] for one in phone.heard if one["dataContent"] == "once"] == ["once"]
    phone.close()
    assert hosts.stored(name) == ["once", "last"]


def test_one_that_is_sent_to_both_hosts_at_once_is_stored_once(hosts: Hosts) -> None:
    name, answers = hosts.user(), list[Any]()
    for number in range(5):
        gate = threading.Barrier(6)

        def ask(daemon: Daemon, number: int = number, gate: threading.Barrier = gate) -> None:
            gate.wait()
            said = hosts.send(daemon, name, f"text {number}", f"raced {number}")
            answers.append((number, said.status, json.dumps(said.body, sort_keys=True)))

        threads = [threading.Thread(target=ask, args=(daemon,)) for daemon in hosts.cluster.daemons * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 30
    assert {status for _, status, _ in answers} == {201}
    assert len(set(answers)) == 5
    assert hosts.stored(name) == [f"text {number}" for number in range(5)]


def test_without_the_guard_it_is_stored_twice(hosts: Hosts) -> None:
    name = hosts.user()
    with switched_off("repetitions_are_new", *hosts.cluster.daemons):
        assert (
            hosts.send(hosts.here, name, "twice", "order 9").body
            != hosts.send(hosts.there, name, "twice", "order 9").body
        )
    assert hosts.stored(name) == ["twice", "twice"]


def test_metrics_of_each_host_count_what_that_host_did(hosts: Hosts) -> None:
    name = hosts.user()
    ports = [daemon.ports["metrics"] for daemon in hosts.cluster.daemons]

    def accepted() -> list[float]:
        return [total(port, "chatd_http_requests_total") for port in ports]

    before = accepted()
    for number in range(3):
        hosts.send(hosts.here, name, f"{number}", "")
    hosts.send(hosts.there, name, "there", "")
    wanted = [before[0] + 3, before[1] + 1]
    wait_until(5, "both have counted", lambda: accepted() == wanted)
    assert all(total(port, "chatd_ready") == 1 for port in ports)


def test_a_host_that_is_killed_between_storing_and_answering_has_stored_it_once(hosts: Hosts) -> None:
    """Its answer never comes. The application asks the other host before and after the death, and later the same one
    again."""
    name = hosts.user()
    with switched_off("answers_wait", hosts.here):
        connection = http.client.HTTPConnection("127.0.0.1", hosts.here.ports["http"], timeout=20)
        headers = {"Authorization": f"Bearer {hosts.key}", "Content-Type": "application/json", "Idempotency-Key": "k"}
        connection.request("POST", "/v1/messages", json.dumps({"to": name, "text": "once"}), headers)
        wait_until(10, "it is stored", (hosts.here.root / "switches" / "stored").exists)
        early = hosts.send(hosts.there, name, "once", "k")
        for pid in (hosts.here.pid, *hosts.here.workers()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with pytest.raises((http.client.HTTPException, OSError)):
            connection.getresponse()
        connection.close()
    hosts.here.kill_all()
    answer = hosts.send(hosts.there, name, "once", "k")
    assert (early.status, early.body["seq"]) == (201, 1)
    assert (answer.status, answer.body) == (201, early.body)
    hosts.here.start()
    began = time.monotonic()
    while (again := hosts.send(hosts.here, name, "once", "k")).status != 201:
        assert time.monotonic() - began < 20, again
    assert again.body == answer.body
    assert hosts.stored(name) == ["once"]
