"""How long a refusal takes does not tell which names are accounts, also in a store with hashes of different cost."""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import argon2

from chatd.core.stand_in_hashes import cost_of
from chatd.store.sqlite.tables import open_tables
from tests.credentials.planted import CHEAPEST, DEAREST
from tests.harness import chatserver
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.peer import NulPeer
from tests.store.steps import done

CHEAP_KIB, DEAR_KIB = 256, 24 * 1024
"""Hashes of the second kind take many times as long."""
EACH = 12
"""Accounts of each cost. As many names as these have no account."""
TIMES = 3
"""Each name is tried so often; the quickest answer counts: an attacker too would rule out a busy server like this."""
KEY = "5a" * 32
"""Of the stand-ins: which names are cheap is the same at every run."""
SECRET = "open sesame"
SHARE = (0.25, 0.75)
"""Bounds for the share of cheap names. Half of the accounts are cheap."""
ALIKE = 3.0
"""The medians of what costs the same differ by a smaller factor."""


class Found(NamedTuple):
    """What an attacker measures, in seconds: of accounts of each kind, and of names without an account."""

    cheap: list[float]
    dear: list[float]
    unknown: list[float]

    def tell(self) -> list[str]:
        """By what names without an account can be told from accounts; [] = by nothing."""
        cheap, dear = statistics.median(self.cheap), statistics.median(self.dear)
        assert dear > 2 * ALIKE * cheap, "the costs are too much alike on this machine to be told apart"
        between = (cheap * dear) ** 0.5
        low = [one for one in self.unknown if one < between]
        high = [one for one in self.unknown if one >= between]
        share = len(low) / len(self.unknown)
        told = [] if SHARE[0] < share < SHARE[1] else [f"{share:.0%} of the names are cheap"]
        for some, accounts in ((low, cheap), (high, dear)):
            if some and not 1 / ALIKE < statistics.median(some) / accounts < ALIKE:
                told.append(f"{statistics.median(some):.4f} s, but {accounts:.4f} s for accounts")
        return told


def mixed_store(daemon: Daemon) -> None:
    """Half of the accounts have not logged in since the cost was raised."""
    state = daemon.root / "state"
    state.mkdir(mode=0o750)
    with contextlib.closing(open_tables(state / "chatd.db", create=True)) as tables:
        done(tables, lambda inside: inside.accounts.set_stand_in_key(KEY))
        for kind, memory_kib in (("cheap", CHEAP_KIB), ("dear", DEAR_KIB)):
            hashed = argon2.PasswordHasher(1, memory_kib, 1).hash(SECRET)
            for name in (f"{kind}{number}" for number in range(EACH)):
                done(tables, lambda inside, name=name, hashed=hashed: inside.accounts.create(name, hashed, 1))


async def refused_after(daemon: Daemon, name: str) -> float:
    """The quickest refusal, in seconds."""
    quickest = 60.0
    peer = NulPeer()
    await peer.open(daemon.ports["chatserver"])
    for number in range(TIMES):
        began = time.monotonic()
        peer.put({"msgid": chatserver.LOGIN, "name": name, "password": f"wrong {number}"})
        assert (await peer.find(msgid=chatserver.LOGIN_ACK))["errno"] == 1
        quickest = min(quickest, time.monotonic() - began)
    peer.close()
    return quickest


async def measure(daemon: Daemon) -> Found:
    """All kinds by turns, so that a busy moment meets each of them."""
    found = Found([], [], [])
    for number in range(EACH):
        found.cheap.append(await refused_after(daemon, f"cheap{number}"))
        found.unknown.append(await refused_after(daemon, f"nobody{number}"))
        found.dear.append(await refused_after(daemon, f"dear{number}"))
        found.unknown.append(await refused_after(daemon, f"noone{number}"))
    return found


def test_names_without_an_account_cost_what_accounts_cost(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """And one stand-in for all of them, whatever it costs, is found."""
    switches = tmp_path / "switches"
    switches.mkdir()
    daemon = make_daemon(
        entry=("-m", "tests.credentials.planted", "one_stand_in"),
        env={"SWITCHES": str(switches)},
        accounts={"argon2_memory_kib": DEAR_KIB, "argon2_passes": 1},
    )
    mixed_store(daemon)
    daemon.start()
    assert run(measure(daemon)).tell() == []
    for bug in (CHEAPEST, DEAREST):
        (switches / bug).touch()
        assert run(measure(daemon)).tell() != []
        (switches / bug).unlink()


def test_a_good_login_raises_what_an_account_costs(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(accounts={"argon2_memory_kib": DEAR_KIB, "argon2_passes": 1})
    mixed_store(daemon)
    daemon.start()

    def costs(name: str) -> str:
        with contextlib.closing(sqlite3.connect(daemon.root / "state" / "chatd.db")) as db:
            ((hashed,),) = db.execute("SELECT password FROM user WHERE name = ?", (name,)).fetchall()
        return cost_of(hashed)

    async def story() -> None:
        dear = costs("dear0")
        for secret, errno in (("wrong", 1), (SECRET, 0)):
            assert costs("cheap0") != dear
            peer = NulPeer()
            await peer.open(daemon.ports["chatserver"])
            peer.put({"msgid": chatserver.LOGIN, "name": "cheap0", "password": secret})
            assert (await peer.find(msgid=chatserver.LOGIN_ACK))["errno"] == errno
            peer.close()
        await until(10, "the hash is upgraded", lambda: costs("cheap0") == dear)
        assert costs("cheap1") != dear

    run(story())
