"""The operator's page on two hosts with one MariaDB and one Redis: who is let in, and what ends a session, is the same
on both, at once; with Redis gone, too."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from chatd.errors import ErrorCode
from tests.harness.cluster import Cluster
from tests.harness.daemon import Daemon, free_port
from tests.harness.deadline import run, wait_until
from tests.harness.mariadb import MariaDB
from tests.harness.person import Town
from tests.harness.switches import stops, with_switches
from tests.http.admin.operator import ENTRY, PASSWORD, Codes, Operator

FAILURES = 5
GUESSER = "127.7.6.2"


class Seat(NamedTuple):
    """One host."""

    daemon: Daemon
    codes: dict[str, Codes]


class Hosts:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        codes: dict[str, Codes] = {}
        self.here, self.there = (Operator(Seat(daemon, codes)) for daemon in cluster.daemons)
        self.codes = codes
        self._made = 0

    def ctl(self, *arguments: str, given: str = "") -> str:
        """On the first host."""
        done = self.cluster.daemons[0].ctl(*arguments, input=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def administrator(self, role: str = "admin") -> str:
        name, self._made = f"root{self._made}", self._made + 1
        self.ctl("user", "add", name, given=f"{PASSWORD}\n")
        made = json.loads(self.ctl("admin", "add", name, "--role", role, "--json"))
        self.codes[name] = Codes(made["secret"])
        return name


@pytest.fixture(scope="module")
def hosts(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    penalties = {"failures": FAILURES, "delay_s": 0.0, "first_s": 30.0, "account_failures": 10_000}
    cluster = Cluster(tmp_path_factory.mktemp("admin"), database=mariadb, entry=ENTRY, penalties=penalties)
    for daemon in cluster.daemons:
        with_switches(daemon)
        daemon.ports["admin"] = free_port()
        address = f"http://127.0.0.1:{daemon.ports['admin']}"
        daemon.config["listen"].append({"protocol": "http", "serves": ["admin"], "address": address})
        daemon.write_config()
    try:
        yield Hosts(cluster.start())
    finally:
        complaints = cluster.discard()
    assert not complaints, complaints


def on_the_other(operator: Operator, hosts: Hosts) -> Operator:
    return hosts.there._replace(cookie=operator.cookie)


def test_a_session_is_one_on_both_hosts(hosts: Hosts) -> None:
    here = hosts.here.logged_in(hosts.administrator())
    there = on_the_other(here, hosts)
    assert there.get("me").json()["name"] == here.get("me").json()["name"]
    assert there.post("logout").status == 200
    assert here.get("users").code == ErrorCode.NOT_LOGGED_IN


def test_what_ends_a_session_ends_it_on_both_at_once(hosts: Hosts) -> None:
    for order, given in (
        ("admin revoke", ""),
        ("admin reset", ""),
        ("user lock", ""),
        ("user passwd", "second-secret-2\n"),
    ):
        name = hosts.administrator()
        there = on_the_other(hosts.here.logged_in(name), hosts)
        assert there.get("users").status == 200
        hosts.ctl(*order.split(), name, given=given)
        assert there.get("users").code == ErrorCode.NOT_LOGGED_IN, order


def attack_with_a_code_on_the_other_host(hosts: Hosts) -> None:
    """It was seen when it was typed on the first one."""
    name = hosts.administrator()
    code = hosts.codes[name].next()
    assert hosts.here.log_in(name, code).status == 200
    assert hosts.there.log_in(name, code).code == ErrorCode.BAD_CREDENTIALS


def test_a_code_counts_once_on_both(hosts: Hosts) -> None:
    stops("codes_count_twice", lambda: attack_with_a_code_on_the_other_host(hosts), *hosts.cluster.daemons)


def test_one_code_at_the_same_moment_lets_one_in(hosts: Hosts) -> None:
    name = hosts.administrator()
    code, answers, begin = hosts.codes[name].next(), [], threading.Barrier(6)

    def log_in(operator: Operator) -> None:
        begin.wait(20)
        answers.append(operator.log_in(name, code).status)

    threads = [threading.Thread(target=log_in, args=(one,)) for one in (hosts.here, hosts.there) * 3]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert sorted(answers) == [200, *[403] * 5]


def test_guesses_on_one_host_have_their_price_on_the_other(hosts: Hosts) -> None:
    name = hosts.administrator()
    codes = hosts.codes[name]
    here = hosts.here._replace(source=GUESSER)
    for _ in range(FAILURES + 1):
        here.log_in(name, codes.wrong())
    there = hosts.there._replace(source=GUESSER)
    wait_until(
        10, "told to the other host", lambda: there.log_in(name, codes.wrong()).code == ErrorCode.TOO_MANY_ATTEMPTS, 0.2
    )
    for daemon in hosts.cluster.daemons:
        daemon.ctl_said("penalties", "clear", "--all")


def test_an_order_reaches_people_on_the_other_host(hosts: Hosts) -> None:
    """Ending a session, and locking an account; what is done to the host itself is done to one."""
    here = hosts.here.logged_in(hosts.administrator())
    people = Town(hosts.cluster.daemons[1])

    async def story() -> None:
        name = await people.newcomer("alice")
        phone = await people.on_mobile(name)
        shown = here.get(f"v1/users/{name}/sessions").json()
        assert [one["host"] for one in shown["sessions"]] != [], shown
        ended = here.post("orders", cmd="kick", arguments={"user": name}).json()["reply"]
        assert ended["sessions"] == 1, ended
        await phone.gone.wait()

    run(story())
    generations = [one.get("config").json()["generation"] for one in (here, on_the_other(here, hosts))]
    assert here.post("orders", cmd="reload").json()["reply"]["ok"]
    after = [one.get("config").json()["generation"] for one in (here, on_the_other(here, hosts))]
    assert [new - old for new, old in zip(after, generations, strict=True)] == [1, 0]


def test_a_ban_is_in_force_on_both(hosts: Hosts) -> None:
    here = hosts.here.logged_in(hosts.administrator())
    source = "127.7.6.9"
    done = here.post("bans", network=source, force=True).json()
    assert done["unanswered"] == []
    with pytest.raises((ConnectionError, EOFError)):
        hosts.there._replace(source=source).get("me")
    assert here.post("bans/remove", network=source).json()["removed"]
    assert hosts.there._replace(source=source).get("me").status == 200


def test_without_redis_a_session_still_ends_on_both_at_once(hosts: Hosts) -> None:
    """The last one: Redis is gone for a while."""
    name = hosts.administrator()
    here = hosts.here.logged_in(name)
    there = on_the_other(here, hosts)
    hosts.cluster.expect_error("redis", "Redis", "bus")
    hosts.cluster.redis.kill()
    assert there.get("users").status == 200
    began = time.monotonic()
    assert here.post("logout").status == 200
    assert there.get("users").code == ErrorCode.NOT_LOGGED_IN
    assert time.monotonic() - began < 5
    hosts.cluster.redis.start()
