"""Logins by token: whom it lets in, which account is made, what else the secret may be, and until when it lasts."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import msgspec
import pytest

from chatd.config.schema import PluginOptions
from chatd.config.token_options import TokenKeyOptions, TokenOptions
from chatd.core.plugins.contract import FailedLogin
from chatd.errors import Disconnect, ErrorCode
from chatd.model import Protocol
from chatd.protocol import Kicked, Login, LoginAccepted, ServerMessage, ServerRequest
from chatd.store.contract import Tables
from tests.core.stage import Stage, play
from tests.core.vouching import all_names, attempts, configure, log_in, names_only, register, user_of
from tests.tokens.keys import SECRET, claims, hs256, raw

# ---------------------------------------------------------------- accounts


def test_the_first_login_makes_the_account(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure(stage, login=("password", "token"))
        worker = await stage.worker(names_only)
        first = await log_in(worker, "Alice", hs256("Alice"))
        user = user_of(first)
        assert user.name == "Alice"
        first.leave()
        for name, sub in (("alice", "ALICE"), ("Alice", "alice")):
            again = await log_in(worker, name, hs256(sub))
            assert user_of(again) == user
            again.leave()
        by_number = await log_in(worker, user.id, hs256("alice"), Protocol.CHATSERVER)
        assert user_of(by_number) == user
        for secret in ("", "Alice", "alice's guess"):
            assert (await log_in(worker, "Alice", secret)).failures == [ErrorCode.BAD_CREDENTIALS], "it has no password"

    play(tmp_path, story)


NUMBERS = ("0", "-1", "12", "\u0662", "\u00b2", " 2", "l0", "#1")
UNPRINTABLE = ("a\nb", "a\tb", "a\x1b[2Jb", "a\x7fb", "a\0b", "\0", "a\u202eb", "a\u200bb", "a\ufeffb", "a/../b\x85")


def test_a_token_makes_no_account_that_could_not_be_registered(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure(stage)
        worker = await stage.worker(names_only)
        for name in (*NUMBERS, *UNPRINTABLE, "admin", "", "x" * 65, "x" * 5000):
            peer = await log_in(worker, name or "x", hs256(name or "x", sub=name))
            assert peer.failures in ([ErrorCode.NAME_NOT_ALLOWED], [ErrorCode.BAD_CREDENTIALS]), name
        assert await all_names(worker) == []

    play(tmp_path, story)


def test_look_alikes_and_spellings(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure(stage)
        worker = await stage.worker(names_only)
        (await log_in(worker, "scope", hs256("scope"))).leave()
        cyrillic = "\u0455\u0441\u043e\u0440\u0435"
        assert (await log_in(worker, cyrillic, hs256(cyrillic))).failures == [ErrorCode.NAME_TAKEN]
        wide = "\uff53\uff43\uff4f\uff50\uff45"
        assert user_of(await log_in(worker, wide, hs256(wide))).name == "scope"
        assert await all_names(worker) == ["scope"]

    play(tmp_path, story)


def test_two_first_logins_at_once_make_one_account(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure(stage)
        workers = [await stage.worker(names_only), await stage.worker(names_only)]
        protocols = (Protocol.MOBILEIMSDK, Protocol.CHATSERVER)
        peers = await asyncio.gather(
            *(
                log_in(worker, "twin", hs256("twin"), protocol)
                for worker, protocol in zip(workers, protocols, strict=True)
            )
        )
        assert len({user_of(peer) for peer in peers}) == 1
        assert await all_names(workers[0]) == ["twin"]

    play(tmp_path, story)


def test_accounts_may_have_to_exist(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure(stage, login=("password", "token"), new_at_login=False)
        worker = await stage.worker(names_only)
        assert (await log_in(worker, "nobody", hs256("nobody"))).failures == [ErrorCode.BAD_CREDENTIALS]
        await register(worker, "somebody", "a password")
        assert user_of(await log_in(worker, "somebody", hs256("somebody"))).name == "somebody"

    play(tmp_path, story)


def test_a_token_lets_nobody_else_in(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure(stage)
        worker = await stage.worker(names_only)
        alice = user_of(await log_in(worker, "alice", hs256("alice")))
        for name in ("bob", alice.id, "alice2", 999):
            for sub in ("mallory", "alice\0", "alice\ud800", "\ud800", "alice ", str(alice.id)):
                refused = await log_in(worker, name, hs256("mallory", sub=sub))
                assert refused.failures == [ErrorCode.BAD_CREDENTIALS], (name, sub)
        assert await all_names(worker) == ["alice"]

    play(tmp_path, story)


# ---------------------------------------------------------------- a user named "2"


def test_a_user_named_as_a_number_is_not_the_account_with_it(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure(stage, login=("password", "token"), number_names=True)
        worker = await stage.worker(names_only)
        victim = await register(worker, "victim", "a password")
        owner = await log_in(worker, "victim", "a password")
        number = str(victim.id)
        assert (await log_in(worker, number, "a password")).failures == [ErrorCode.BAD_CREDENTIALS]
        assert (await log_in(worker, victim.id, hs256(number))).failures == [ErrorCode.BAD_CREDENTIALS]
        other = await log_in(worker, number, hs256(number))
        assert user_of(other).name == number
        assert user_of(other).id != victim.id
        other.send(number, "to myself", "fp1")
        other.send("999", "to nobody", "fp2")
        await stage.settled()
        assert other.failures == [ErrorCode.UNKNOWN_RECIPIENT]
        assert owner.bodies == []
        other.leave()
        later = await log_in(worker, number, hs256(number))
        assert user_of(later) == user_of(other)

    play(tmp_path, story)


@pytest.mark.parametrize("number_names", [True, False])
def test_what_is_sent_to_a_number_before_its_user_came_reaches_nobody(tmp_path: Path, number_names: bool) -> None:
    async def story(stage: Stage) -> None:
        configure(stage, number_names=number_names)
        worker = await stage.worker(names_only)
        first = await log_in(worker, "first", hs256("first"))
        second = await log_in(worker, "second", hs256("second"))
        first.send(str(user_of(second).id), "for the application's user of this number", "fp")
        await stage.settled()
        assert first.failures == [ErrorCode.UNKNOWN_RECIPIENT]
        assert second.bodies == []

    play(tmp_path, story)


def test_without_such_logins_a_number_is_still_a_name(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.account(login="password", insecure_open_login=False, registration="open")
        worker = await stage.worker()
        alice = await register(worker, "alice", "a password")
        assert user_of(await log_in(worker, str(alice.id), "a password")) == alice

    play(tmp_path, story)


# ---------------------------------------------------------------- locked, deleted


def test_a_locked_account_stays_locked(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure(stage)
        worker = await stage.worker(names_only)
        user = user_of(await log_in(worker, "alice", hs256("alice")))
        await worker.core.store.write(lambda tables: tables.accounts.lock(user.id, "why", 1))
        assert (await log_in(worker, "alice", hs256("alice"))).failures == [ErrorCode.ACCOUNT_LOCKED]
        stranger = raw({"alg": "HS256"}, claims("alice"), "x" * 40)
        assert (await log_in(worker, "alice", stranger)).failures == [ErrorCode.BAD_CREDENTIALS]

    play(tmp_path, story)


@pytest.mark.parametrize("how", ["delete", "erase"])
def test_a_token_from_before_does_not_bring_a_deleted_account_back(tmp_path: Path, how: str) -> None:
    async def story(stage: Stage) -> None:
        stage.config = msgspec.structs.replace(stage.config, tokens=TokenOptions(leeway_s=0))
        configure(stage)
        worker = await stage.worker(names_only)
        tokens = [hs256("alice"), hs256("alice", iat=int(time.time()) - 60), hs256("alice", iat=None)]
        user = user_of(await log_in(worker, "alice", tokens[0]))

        def remove(tables: Tables) -> int:
            return tables.accounts.delete(user.id) if how == "delete" else tables.accounts.erase(user.id, 1)

        await worker.core.store.write(remove)
        for token in tokens:
            assert (await log_in(worker, "alice", token)).failures == [ErrorCode.TOKEN_EXPIRED]
        assert await all_names(worker) == []
        for _ in range(500):
            fresh = await log_in(worker, "alice", hs256("alice"))
            if fresh.logged_in:
                break
            await asyncio.sleep(0.01)
        assert user_of(fresh).id != user.id, "made after the deletion, the application says that there is an alice"

    play(tmp_path, story)


# ---------------------------------------------------------------- token or password


def test_a_password_in_the_form_of_a_token_is_a_password(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure(stage, login=("token", "password"))
        worker = await stage.worker(names_only)
        password = raw({"alg": "HS256"}, {"sub": "somebody else", "exp": 1}, "a key that is not ours, and long")
        alice = await register(worker, "alice", password)
        assert user_of(await log_in(worker, "alice", password)) == alice
        assert (await log_in(worker, "alice", password + "x")).failures == [ErrorCode.BAD_CREDENTIALS]

    play(tmp_path, story)


def test_kinds_that_are_not_accepted(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.account(login="password", insecure_open_login=False, registration="open")
        worker = await stage.worker()
        await register(worker, "alice", "a password")
        assert (await log_in(worker, "alice", hs256("alice"))).failures == [ErrorCode.BAD_CREDENTIALS]
        configure(stage, login="token")
        tokens_only = await stage.worker(names_only)
        assert (await log_in(tokens_only, "alice", "a password")).failures == [ErrorCode.BAD_CREDENTIALS]
        assert user_of(await log_in(tokens_only, "alice", hs256("alice"))).name == "alice"

    play(tmp_path, story)


def test_a_token_is_not_the_old_password_of_a_new_one(tmp_path: Path) -> None:
    """Otherwise whoever has a token for a minute would have the account for ever."""

    async def story(stage: Stage) -> None:
        configure(stage, login=("token", "password"))
        worker = await stage.worker(names_only)
        peer = await log_in(worker, "alice", hs256("alice"))
        body = {"op": "password.change", "ref": 1, "old": hs256("alice")[:1000], "new": "mine now"}
        await peer.do(ServerRequest(json.dumps(body)))
        (answer,) = peer.told(ServerMessage)
        assert json.loads(answer.body)["error"]["code"] == ErrorCode.BAD_CREDENTIALS
        account = await worker.core.store.read(lambda tables: tables.accounts.find("alice", 0))
        assert account is not None
        assert account.password == ""

    play(tmp_path, story)


def test_the_reason_is_told_to_operators_and_plug_ins_only(tmp_path: Path) -> None:
    class Watcher:
        def __init__(self) -> None:
            self.seen: list[str] = []

        async def login_failed(self, event: FailedLogin) -> None:
            self.seen.append(event.reason)

    async def story(stage: Stage) -> None:
        watcher = Watcher()
        key = TokenKeyOptions(kid="k", algorithm="HS256", secret=SECRET)
        stage.config = msgspec.structs.replace(stage.config, tokens=TokenOptions(audience=("chat",), issuer=("app",)))
        configure(stage, key)
        worker = await stage.worker(names_only, [(PluginOptions(name="watcher"), watcher)])
        good = {"aud": "chat", "iss": "app"}
        told = []
        for secret in (
            "no token",
            hs256("alice", kid="k", **{**good, "aud": "shop"}),
            hs256("alice", kid="k", **{**good, "iss": "shop"}),
            hs256("alice", -60, kid="k", **good),
            hs256("bob", kid="k", **good),
            hs256("alice", kid="other", **good),
            raw({"alg": "HS256", "kid": "k"}, claims("alice"), "x" * 40),
            hs256("alice", 10**6, kid="k", **good),
        ):
            told += (await log_in(worker, "alice", secret)).failures
        await worker.core.plugins.settle()
        assert watcher.seen == [
            "no_token",
            "token_for_another_audience",
            "token_of_another_issuer",
            "token_expired",
            "token_for_another_name",
            "token_of_unknown_key",
            "token_with_bad_signature",
            "token_lives_too_long",
        ]
        assert set(told) == {ErrorCode.BAD_CREDENTIALS, ErrorCode.TOKEN_EXPIRED}

    play(tmp_path, story)


# ---------------------------------------------------------------- penalties


def test_a_forged_token_is_a_failed_attempt_and_an_expired_one_is_not(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure(stage)
        worker = await stage.worker(names_only)
        assert set(await attempts(stage, worker, 12, hs256("alice", -100))) == {ErrorCode.TOKEN_EXPIRED}
        forged = raw({"alg": "HS256"}, claims("alice"), "a guess, as long as a real secret would be")
        assert (await attempts(stage, worker, 12, forged))[-1] == ErrorCode.TOO_MANY_ATTEMPTS

    play(tmp_path, story)


# ---------------------------------------------------------------- the end of a session


def test_a_session_ends_with_its_token(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure(stage, end_at_expiry=True)
        worker = await stage.worker(names_only)
        short = await log_in(worker, "alice", hs256("alice", exp=time.time() + 0.8))
        long = await log_in(worker, "bob", hs256("bob"))
        stage.tick()
        assert short.logged_in
        await stage.until("the session has ended", lambda: short.closed)
        assert short.reason is Disconnect.TOKEN_EXPIRED
        assert [(event.by_admin, event.reason) for event in short.told(Kicked)] == [
            (True, Disconnect.TOKEN_EXPIRED.text)
        ]
        assert long.logged_in

    play(tmp_path, story)


@pytest.mark.parametrize("protocol", [Protocol.MOBILEIMSDK, Protocol.CHATSERVER])
def test_a_fresh_token_renews_it(tmp_path: Path, protocol: Protocol) -> None:
    async def story(stage: Stage) -> None:
        configure(stage, end_at_expiry=True)
        worker = await stage.worker(names_only)
        ends_at = time.time() + 0.8
        peers = [await log_in(worker, name, hs256(name, exp=ends_at), protocol) for name in ("alice", "bob")]
        alice, bob = peers
        await alice.do(Login("alice", 0, hs256("bob")))
        await alice.do(Login("alice", 0, hs256("alice", -100)))
        assert bob.logged_in
        await bob.do(Login("bob", 0, hs256("bob")))
        assert len(bob.told(LoginAccepted)) == 2
        await stage.until("the session has ended", lambda: alice.closed)
        assert time.time() >= ends_at
        stage.tick()
        assert bob.logged_in

    play(tmp_path, story)


def test_without_the_option_it_does_not_end(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        configure(stage)
        worker = await stage.worker(names_only)
        peer = await log_in(worker, "alice", hs256("alice", exp=time.time() + 0.3))
        await asyncio.sleep(0.5)
        stage.tick()
        assert peer.logged_in

    play(tmp_path, story)
