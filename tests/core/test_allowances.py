"""What users may still do: spent, topped up, shared by workers, refused in words, and forgotten when it is full."""

from __future__ import annotations

import asyncio
import math
import random
from pathlib import Path
from typing import ClassVar

import pytest

from chatd.config.schema import Config, LimitOptions
from chatd.core import allowances as allowances_module
from chatd.core.allowance import CREATE_GROUP, Cost
from chatd.core.allowances import HOUR_S, KEEP_ALIVES, WINDOW_S, Allowances
from chatd.core.bus_messages import AllowanceSpent
from chatd.core.sessions.hub import Hub
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import Protocol, User
from chatd.protocol import Failed, KeepAlive, KeptAlive, Malformed
from chatd.rates import UNLIMITED, Rate, averaged
from chatd.scoreboard import ROW_BYTES, Row
from tests.core.asking import ask, refused
from tests.core.exchange import Exchange
from tests.core.stage import Peer, Stage, play
from tests.harness.deadline import run

RATES = {"commands_per_s": 5, "recipients_per_s": 100, "changes_per_hour": 20}


def codes(peer: Peer) -> list[int]:
    return [event.code for event in peer.told(Failed)]


async def nonsense(peer: Peer, times: int) -> None:
    """Commands that cost 1 and do nothing."""
    for _ in range(times):
        await peer.do(Malformed(ErrorCode.BAD_FIELD, ""))


# ---------------------------------------------------------------- commands


def test_commands_are_refused_beyond_a_rate_and_come_back(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(**RATES)
        worker = await stage.worker()
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        await nonsense(alice, 55)
        assert codes(alice) == [ErrorCode.BAD_FIELD] * 50 + [ErrorCode.TOO_FAST] * 5
        assert "too many commands: the limit is 5 per second, try again in 1 s" in alice.told(Failed)[-1].text
        assert worker.row.rate_refused == 5
        worker.core.round()
        await nonsense(alice, 6)
        assert codes(alice)[55:] == [ErrorCode.BAD_FIELD] * 5 + [ErrorCode.TOO_FAST]
        await nonsense(bob, 50)
        assert codes(bob) == [ErrorCode.BAD_FIELD] * 50, "everybody has an allowance of their own"
        for _ in range(20):
            worker.core.round()
        await nonsense(alice, 55)
        assert codes(alice)[61:] == [ErrorCode.BAD_FIELD] * 50 + [ErrorCode.TOO_FAST] * 5, "no more than at first"

    play(tmp_path, story)


def test_the_sessions_of_a_user_share_it_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(**RATES)
        worker = await stage.worker()
        desk, mobile = await worker.desk("alice"), await worker.mobile("alice")
        await nonsense(desk, 30)
        await nonsense(mobile, 30)
        assert codes(desk) == [ErrorCode.BAD_FIELD] * 30
        assert codes(mobile) == [ErrorCode.BAD_FIELD] * 20 + [ErrorCode.TOO_FAST] * 10
        desk.leave()
        mobile.leave()
        again = await worker.mobile("alice")
        await nonsense(again, 1)
        assert codes(again) == [ErrorCode.TOO_FAST]

    play(tmp_path, story)


def test_keep_alives_have_a_reserve(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(**RATES)
        worker = await stage.worker()
        alice = await worker.mobile("alice")
        await nonsense(alice, 60)
        for _ in range(KEEP_ALIVES + 5):
            await alice.do(KeepAlive())
        assert len(alice.told(KeptAlive)) == KEEP_ALIVES
        worker.core.round()
        await nonsense(alice, 1)
        assert codes(alice)[-1] == ErrorCode.TOO_FAST, "what was borrowed is paid back first"

    play(tmp_path, story)


def test_a_reload_changes_rates(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice = await worker.mobile("alice")
        await nonsense(alice, 500)
        stage.limit(commands_per_s=1)
        worker.core.round()
        await nonsense(alice, 15)
        assert codes(alice) == [ErrorCode.BAD_FIELD] * 510 + [ErrorCode.TOO_FAST] * 5
        stage.limit(commands_per_s=0)
        worker.core.round()
        await nonsense(alice, 500)
        assert codes(alice)[515:] == [ErrorCode.BAD_FIELD] * 500

    play(tmp_path, story)


# ---------------------------------------------------------------- operations


def test_a_request_costs_what_its_table_says(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(commands_per_s=1)
        worker = await stage.worker()
        alice = await worker.mobile("alice")
        await ask(alice, "group.list")
        await ask(alice, "group.list")
        assert await refused(alice, "group.list") == ErrorCode.TOO_FAST
        await ask(alice, "whoami")

    play(tmp_path, story)


def test_changes_are_few_and_shared_by_workers(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(**RATES)
        here, there = await stage.worker(), await stage.worker()
        alice = await here.mobile("alice")
        await alice.make_group("one")
        await ask(alice, "group.create", name="two")
        assert await refused(alice, "group.create", name="three") == ErrorCode.TOO_FAST
        elsewhere = await there.desk("alice")
        with pytest.raises(IndexError):
            await elsewhere.make_group("three")
        assert codes(elsewhere) == [ErrorCode.TOO_FAST]
        assert "20 per hour" in elsewhere.told(Failed)[-1].text
        for _ in range(HOUR_S // 2):
            there.core.allowances.round()
        await elsewhere.make_group("three")

    play(tmp_path, story)


def test_a_repeated_request_is_not_paid_twice(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(changes_per_hour=CREATE_GROUP.changes)
        alice = await (await stage.worker()).mobile("alice")
        first = await ask(alice, "group.create", fp="same", name="one")
        assert await ask(alice, "group.create", fp="same", name="one") == first
        assert await refused(alice, "group.create", fp="other", name="two") == ErrorCode.TOO_FAST

    play(tmp_path, story)


# ---------------------------------------------------------------- recipients


def test_a_message_to_a_group_costs_its_members(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(recipients_per_s=1)
        worker = await stage.worker()
        alice, *others = [await worker.mobile(name) for name in ("alice", "bob", "carol", "dave")]
        group = await alice.make_group()
        for other in others:
            await other.join(group)
        for number in range(9):
            alice.send(group, "x", f"fp{number}")
            await worker.core.store.settle()
        refusals = [code for code in codes(alice) if code == ErrorCode.TOO_FAST]
        assert len(refusals) == 7, "ten recipients, four for each message"
        assert "recipients" in alice.told(Failed)[-1].text

    play(tmp_path, story)


def test_a_group_larger_than_the_budget_can_be_written_to(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(recipients_per_s=1)
        worker = await stage.worker()
        alice = await worker.mobile("alice")
        group = await alice.make_group()
        local = worker.core.hub.group(group)
        assert local is not None
        local.member_count = 500
        alice.send(group, "x", "one")
        alice.send(group, "x", "two")
        assert codes(alice) == [ErrorCode.TOO_FAST]
        for _ in range(WINDOW_S):
            worker.core.round()
        local.member_count = 500
        alice.send(group, "x", "three")
        await worker.core.store.settle()
        assert codes(alice) == [ErrorCode.TOO_FAST]

    play(tmp_path, story)


# ---------------------------------------------------------------- the rate itself


def test_a_rate() -> None:
    rate = averaged(20, 1, 10)
    assert rate == Rate(200, 20)
    assert (rate.topped_up(0), rate.topped_up(190), rate.topped_up(500), rate.topped_up(-30)) == (20, 200, 200, -10)
    assert (rate.earned_back(0), rate.earned_back(30), rate.earned_back(900)) == (0, 10, 180)
    assert (rate.wait_s(0, 1), rate.wait_s(-20, 4), rate.wait_s(0, 1000)) == (1, 2, 10)
    assert averaged(0, 1, 10) is UNLIMITED
    assert UNLIMITED.topped_up(5) == UNLIMITED.budget


# ---------------------------------------------------------------- any order of everything


class Nowhere:
    """A peer of users who do nothing but spend."""

    protocol = Protocol.CHATSERVER
    remote = "nowhere:0"
    lossy = False

    def __init__(self) -> None:
        self.session: Session | None = None
        self.traits = type("Traits", (), {"acknowledges": False})


class Comparison:
    """The allowances beside a model: nobody ever spends more than the budget and what has come back since, and nobody
    is refused who has not."""

    budgets: ClassVar = {"commands": 30.0, "changes": 120.0}
    per_s: ClassVar = {"commands": 3.0, "changes": 2.0}

    def __init__(self, rng: random.Random, loop: asyncio.AbstractEventLoop) -> None:
        self.rng = rng
        config = Config(limits=LimitOptions(commands_per_s=3, recipients_per_s=50, changes_per_hour=120))
        bus = Exchange().bus()
        self.row = Row(memoryview(bytearray(ROW_BYTES)).cast("q"))
        self.allowances = Allowances(lambda: config, Hub(bus), bus, self.row, loop)
        self.left: dict[tuple[int, str], float] = {}
        self.sessions: dict[int, list[Session]] = {1: [], 2: [], 3: []}

    def model(self, user: int, name: str) -> float:
        return self.left.get((user, name), self.budgets[name])

    def spend(self, user: int, name: str, amount: float) -> None:
        self.left[user, name] = self.model(user, name) - amount

    def session(self, user: int) -> Session:
        if not self.sessions[user] or self.rng.random() < 0.1:
            session = Session(User(user, f"user{user}"), Nowhere(), 0)  # type: ignore[arg-type]
            session.allowance = self.allowances.of(user)
            self.sessions[user].append(session)
        return self.rng.choice(self.sessions[user])

    def send(self, user: int) -> None:
        cost = self.rng.randrange(1, 40)
        may = self.model(user, "commands") >= cost
        assert self.allowances.take(self.session(user), cost) is may
        if may:
            self.spend(user, "commands", cost)

    def operate(self, user: int) -> None:
        """Both are spent, or neither."""
        cost = Cost(self.rng.randrange(1, 12), self.rng.randrange(60))
        prices = {"commands": cost.commands - 1, "changes": cost.changes}
        may = all(not price or self.model(user, name) >= price for name, price in prices.items())
        if may:
            self.allowances.spend(self.session(user), cost)
            self.spend(user, "commands", cost.commands - 1)
            self.spend(user, "changes", cost.changes)
        else:
            with pytest.raises(Refused, match="try again in"):
                self.allowances.spend(self.session(user), cost)

    def hear(self, user: int) -> None:
        changes = self.rng.randrange(1, 200)
        self.allowances.spent_elsewhere(AllowanceSpent(user, changes))
        self.left[user, "changes"] = max(self.model(user, "changes") - changes, -self.budgets["changes"])

    def wait(self, user: int) -> None:
        for _ in range(self.rng.randrange(1, 20)):
            self.allowances.round()
            for (one, name), left in self.left.items():
                self.left[one, name] = min(self.budgets[name], left + self.per_s[name])

    def step(self) -> None:
        user = self.rng.randrange(1, 4)
        self.rng.choice([self.send, self.send, self.operate, self.hear, self.wait])(user)
        for user, sessions in self.sessions.items():
            for session in sessions:
                assert math.isclose(session.allowance.commands, self.model(user, "commands"), abs_tol=1e-6)
                assert math.isclose(session.allowance.changes, self.model(user, "changes"), abs_tol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_any_order_of_everything(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(allowances_module, "HOUR_S", 60)  # an hour that passes soon
    monkeypatch.setattr(allowances_module, "_PURGE_ROUNDS", 1 << 60)

    async def story() -> None:
        comparison = Comparison(random.Random(seed), asyncio.get_running_loop())
        for _ in range(300):
            comparison.step()
        assert comparison.row.rate_refused > 0

    run(story())


def test_what_is_full_is_not_remembered(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(**RATES)
        worker = await stage.worker()
        alice = await worker.mobile("alice")
        await alice.make_group()
        alice.leave()
        await worker.core.store.settle()
        for _ in range(HOUR_S // 4):
            worker.core.allowances.round()
        assert len(worker.core.allowances) == 1
        for _ in range(HOUR_S // 2):
            worker.core.allowances.round()
        assert len(worker.core.allowances) == 0

    play(tmp_path, story)


def test_of_absent_users_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(allowances_module, "MOST", 10)

    async def story(stage: Stage) -> None:
        stage.limit(**RATES)
        worker = await stage.worker()
        allowances = worker.core.allowances
        present = await worker.mobile("alice")
        await nonsense(present, 60)
        for user in range(1000, 1100):
            allowances.spent_elsewhere(AllowanceSpent(user, 20))
        for _ in range(60):
            allowances.round()
        assert len(allowances) == 10 + 1
        assert allowances.of(1099).changes < 20, "the oldest are forgotten first"

    play(tmp_path, story)
