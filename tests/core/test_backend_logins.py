"""Logins that a backend decides: what it is asked, what its answers mean, and that a failure lets nobody in."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from chatd.config.token_options import TokenKeyOptions
from chatd.core.admission import Applicant
from chatd.core.backend_logins import SHARE, Question
from chatd.core.fetching import FetchFailed
from chatd.core.passwords import Hasher
from chatd.errors import ErrorCode
from chatd.model import Protocol
from chatd.penalty_table import PenaltyTable
from chatd.protocol import Login
from tests.core.stage import Peer, Stage, Worker, play
from tests.core.vouching import (
    Web,
    all_names,
    attempts,
    configure,
    configure_backend,
    log_in,
    names_only,
    register,
    user_of,
)
from tests.tokens.keys import SECRET, claims, hs256, raw

ALLOW, DENY = b'{"allow":true}', b'{"allow":false}'


def test_what_the_backend_is_asked(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        web = Web(ALLOW)
        configure_backend(stage, web, options={"secret": "of the server"})
        worker = await stage.worker(names_only)
        peer = worker.peer(Protocol.CHATSERVER)
        peer.remote = "192.0.2.7:5000"
        await peer.do(Login("Alice", 0, "a session cookie"))
        assert user_of(peer).name == "Alice"
        (asked,) = web.exchanges
        assert asked.url == "https://app.example/login"
        assert asked.headers["Authorization"] == "Bearer of the server"
        assert json.loads(asked.body or b"") == {
            "name": "Alice",
            "secret": "a session cookie",
            "wire": "chatserver",
            "address": "192.0.2.7",
        }
        assert "cookie" not in repr(Question(name="Alice", secret="a session cookie", wire="", address=""))

    play(tmp_path, story)


def test_a_number_is_asked_by_its_name(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        web = Web(ALLOW)
        configure_backend(stage, web)
        worker = await stage.worker(names_only)
        alice = user_of(await log_in(worker, "Alice", "x"))
        assert user_of(await log_in(worker, alice.id, "x", Protocol.CHATSERVER)) == alice
        assert json.loads(web.exchanges[-1].body or b"")["name"] == "Alice"
        assert (await log_in(worker, 99, "x", Protocol.CHATSERVER)).failures == [ErrorCode.BAD_CREDENTIALS]
        assert web.asked == 2
        assert (await log_in(worker, str(alice.id), "x")).failures == [ErrorCode.NAME_NOT_ALLOWED]

    play(tmp_path, story)


def test_the_backend_is_asked_about_the_account_that_would_be_made(tmp_path: Path) -> None:
    """Not about another of the application's users, whose name looks different there and is the same here."""

    async def story(stage: Stage) -> None:
        web = Web(DENY)
        configure_backend(stage, web)
        worker = await stage.worker(names_only)
        for name, asked in (
            ("\uff53\uff43\uff4f\uff50\uff45", "scope"),
            ("admin", "admin"),
            ("a\nb", "a\nb"),
            ("12", "12"),
        ):
            assert (await log_in(worker, name, "x")).failures == [ErrorCode.BAD_CREDENTIALS]
            assert json.loads(web.exchanges[-1].body or b"")["name"] == asked

    play(tmp_path, story)


def test_a_denial_is_a_failed_attempt(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure_backend(stage, Web(DENY))
        codes = await attempts(stage, await stage.worker(names_only), 12)
        assert codes[0] == ErrorCode.BAD_CREDENTIALS
        assert codes[-1] == ErrorCode.TOO_MANY_ATTEMPTS

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (FetchFailed("no answer within 3 s"), 200),
        (FetchFailed("its answer is longer than 4096 bytes, or breaks off"), 200),
        (ALLOW, 500),
        (ALLOW, 302),
        (ALLOW, 401),
        (ALLOW, 204),
        (b"", 200),
        (b"true", 200),
        (b'{"allow":"true"}', 200),
        (b'{"allow":1}', 200),
        (b'{"allowed":true}', 200),
        (b'{"allow":null}', 200),
        (b"<html>", 200),
        (b"[" * 4000, 200),
        (b'{"allow":true', 200),
        (b"\xff\xfe", 200),
    ],
)
def test_what_is_no_clear_answer_lets_nobody_in_and_is_nobodys_failure(tmp_path: Path, body: Any, status: int) -> None:
    async def story(stage: Stage) -> None:
        web = Web(body, status)
        configure_backend(stage, web)
        worker = await stage.worker(names_only)
        assert set(await attempts(stage, worker, 12)) == {ErrorCode.UNAVAILABLE}
        assert await all_names(worker) == []
        web.body, web.status = ALLOW, 200
        assert await attempts(stage, worker, 1) == []

    play(tmp_path, story)


def test_a_wrong_password_counts_while_the_backend_is_away(tmp_path: Path) -> None:
    """Or an outage would be the time to guess."""

    async def story(stage: Stage) -> None:
        configure_backend(stage, Web(FetchFailed("away")), login=("password", "http"))
        worker = await stage.worker(names_only)
        await register(worker, "alice", "a password")
        codes = await attempts(stage, worker, 12)
        assert codes[0] == ErrorCode.UNAVAILABLE
        assert codes[-1] == ErrorCode.TOO_MANY_ATTEMPTS

    play(tmp_path, story)


def test_a_granted_login_is_remembered_for_a_while(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        web = Web(ALLOW)
        configure_backend(stage, web, options={"cache_s": 30})
        worker = await stage.worker(names_only)
        alice = user_of(await log_in(worker, "alice", "s"))
        await log_in(worker, "alice", "s")
        assert web.asked == 2, "the first answer was for a name without an account"
        web.body = DENY
        for _ in range(3):
            assert (await log_in(worker, "alice", "s")).logged_in
        assert web.asked == 2
        for other in (("alice", "S"), ("bob", "s")):
            assert (await log_in(worker, *other)).failures == [ErrorCode.BAD_CREDENTIALS]
        assert (await log_in(worker, "alice", "s", Protocol.CHATSERVER)).failures == [ErrorCode.BAD_CREDENTIALS]
        stage.clock.ahead_s += 31
        assert (await log_in(worker, "alice", "s")).failures == [ErrorCode.BAD_CREDENTIALS]
        web.body = ALLOW
        assert (await log_in(worker, "alice", "s")).logged_in
        await worker.core.store.write(lambda tables: tables.accounts.lock(alice.id, "", 1))
        assert (await log_in(worker, "alice", "s")).failures == [ErrorCode.ACCOUNT_LOCKED]
        await worker.core.store.write(lambda tables: tables.accounts.unlock(alice.id))
        web.body = DENY
        assert (await log_in(worker, "alice", "s")).failures == [ErrorCode.BAD_CREDENTIALS], "what was granted before"
        web.body = ALLOW
        assert (await log_in(worker, "alice", "s")).logged_in
        await worker.core.store.write(lambda tables: tables.accounts.erase(alice.id, 1))
        web.body = DENY
        assert (await log_in(worker, "alice", "s")).failures == [ErrorCode.BAD_CREDENTIALS]

    play(tmp_path, story)


def test_without_a_cache_each_login_is_asked(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        web = Web(ALLOW)
        configure_backend(stage, web, options={"cache_s": 0})
        worker = await stage.worker(names_only)
        for _ in range(4):
            assert (await log_in(worker, "alice", "s")).logged_in
        assert web.asked == 4

    play(tmp_path, story)


def test_a_slow_backend_stalls_nobody_with_a_password(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        web = Web(ALLOW)
        options = {"at_once": 8, "time_limit_s": 0.6}
        configure_backend(stage, web, login=("password", "http"), options=options)
        worker = await stage.worker(names_only)
        await register(worker, "carol", "a password")
        web.gate.clear()
        waiting = [asyncio.ensure_future(log_in(worker, f"user{at}", "s")) for at in range(200)]
        await stage.until("the backend is asked", lambda: web.under_way == 8)
        assert (await log_in(worker, "carol", "a password")).logged_in
        assert web.under_way == 8
        peers = await asyncio.gather(*waiting[8:])
        assert {code for peer in peers for code in peer.failures} == {ErrorCode.BUSY, ErrorCode.UNAVAILABLE}
        web.gate.set()
        assert all(peer.logged_in for peer in await asyncio.gather(*waiting[:8]))
        assert web.most == 8
        assert (await log_in(worker, "user9", "s")).logged_in

    play(tmp_path, story)


def test_one_source_does_not_take_all_turns(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        web = Web(ALLOW)
        configure_backend(stage, web, options={"at_once": 8})
        worker = await stage.worker(names_only)
        web.gate.clear()

        async def comes(name: str, source: str) -> Peer:
            peer = worker.peer()
            peer.remote = f"{source}:5000"
            await peer.do(Login(name, 0, "s"))
            return peer

        flood = [asyncio.ensure_future(comes(f"flood{at}", "192.0.2.1")) for at in range(100)]
        await stage.until("its share is under way", lambda: web.under_way == 8 // SHARE)
        others = [asyncio.ensure_future(comes(f"other{at}", f"198.51.100.{at}")) for at in range(4)]
        await stage.until("the others are asked", lambda: web.under_way == 8 // SHARE + 4)
        web.gate.set()
        assert all(peer.logged_in for peer in await asyncio.gather(*others))
        codes = {code for peer in await asyncio.gather(*flood) for code in peer.failures}
        assert codes == {ErrorCode.BUSY}

    play(tmp_path, story)


def test_kinds_are_tried_in_their_order(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        web = Web(DENY)
        configure(stage, TokenKeyOptions(algorithm="HS256", secret=SECRET), web=web)
        configure_backend(stage, web, login=("token", "http", "password"))
        worker = await stage.worker(names_only)
        await register(worker, "carol", "a password")
        assert (await log_in(worker, "carol", "a password")).logged_in
        assert web.asked == 1
        assert (await log_in(worker, "alice", hs256("alice"))).logged_in
        assert (await log_in(worker, "alice", hs256("alice", -100))).failures == [ErrorCode.TOKEN_EXPIRED]
        assert web.asked == 1, "one of the keys has signed it"
        web.body = ALLOW
        of_the_application = raw({"alg": "HS256"}, claims(), "a key that only the application has")
        assert (await log_in(worker, "dave", of_the_application)).logged_in
        assert web.asked == 2

    play(tmp_path, story)


def test_what_each_of_three_kinds_costs_and_that_a_failure_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every order of accounts.login."""
    hashed: list[str] = []
    verify = Hasher.verify

    async def counted(self: Hasher, stored: str, secret: str, applicant: Applicant) -> bool:
        hashed.append(secret)
        return await verify(self, stored, secret, applicant)

    monkeypatch.setattr(Hasher, "verify", counted)
    forged = raw({"alg": "HS256"}, claims("alice"), "a guess, as long as a real secret would be")

    async def story(stage: Stage) -> None:
        free: dict[tuple[str, ...], list[ErrorCode]] = {}
        for number, order in enumerate([("password",), *itertools.permutations(("password", "token", "http"))]):
            web = Web(DENY)
            configure(stage, TokenKeyOptions(algorithm="HS256", secret=SECRET), web=web)
            configure_backend(stage, web, login=order)
            stage.penalty_table = PenaltyTable(sets=8)
            worker = await stage.worker(names_only)
            await register(worker, name := f"carol{number}", "a password")

            async def cost(name: str, secret: str, worker: Worker = worker, web: Web = web) -> tuple[bool, int, int]:
                """Whether it lets in, passwords hashed, and questions asked."""
                before = len(hashed), web.asked
                peer = await log_in(worker, name, secret)
                return peer.logged_in, len(hashed) - before[0], web.asked - before[1]

            free[order] = await attempts(stage, worker, 12, forged)
            if order == ("password",):
                continue
            password_first = order.index("password") < order.index("http")
            assert await cost(name, "a password") == (True, 1, 0 if password_first else 1)
            assert await cost(name, hs256(name)) == (True, 0, 0)
            assert await cost(name, hs256(name, aud="x", exp=1)) == (False, 0, 0)
            assert await cost(name, "wrong") == (False, 1, 1)
            assert await cost(name, forged) == (False, 1, 1)
            web.body = ALLOW
            assert await cost(name, "a cookie") == (True, 1 if password_first else 0, 1)
        assert len({tuple(codes) for codes in free.values()}) == 1, free
        assert free[("password",)].count(ErrorCode.BAD_CREDENTIALS) == 4, "three are free"

    play(tmp_path, story)
