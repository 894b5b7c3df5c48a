"""A host that nobody uses knows all the same whether its database and its Redis answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness.cluster import Cluster
from tests.harness.daemon import Daemon
from tests.harness.deadline import wait_until
from tests.harness.mariadb import MariaDB

SEEN_S = 12.0
"""A probe every 3 s, what it waits for an answer, and something for a busy machine."""


@pytest.mark.slow
def test_an_idle_host_tells_how_its_servers_are(make_cluster: Callable[..., Cluster], own_mariadb: MariaDB) -> None:
    cluster = make_cluster(database=own_mariadb, hosts=1, workers=2).start()
    daemon = cluster.daemons[0]
    tells(daemon, 0, "OK")
    own_mariadb.kill()
    tells(daemon, 1, "the store does not answer")
    own_mariadb.start()
    tells(daemon, 0, "OK")
    own_mariadb.pause()
    try:
        tells(daemon, 1, "the store does not answer")
    finally:
        own_mariadb.resume()
    tells(daemon, 0, "OK")
    cluster.redis.kill()
    tells(daemon, 1, "the bus is down")
    cluster.redis.start()
    tells(daemon, 0, "OK")


def tells(daemon: Daemon, code: int, words: str) -> None:
    """What `chatctl check` says, soon."""

    def told() -> bool:
        answer = daemon.ctl("check")
        return answer.returncode == code and words in answer.stdout

    wait_until(SEEN_S, f"check says {words!r}", told, 0.1)
