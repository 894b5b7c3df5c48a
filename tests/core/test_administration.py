"""What an operator does to accounts through a running server: two workers over one store."""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import Awaitable
from pathlib import Path

import msgspec
import pytest

from chatd.config.schema import ServerOptions
from chatd.core.administration import Wanted
from chatd.core.change import Change
from chatd.core.exports import Exports
from chatd.core.friends import Befriended, by_id
from chatd.errors import Disconnect, ErrorCode, Refused
from chatd.protocol import Kicked, Login, LoginAccepted
from tests.core.asking import ask, notices
from tests.core.stage import Peer, Stage, Worker, play

_SECRET, _OTHER = "first-secret-1", "second-secret-2"


async def refused(code: ErrorCode, work: Awaitable[object]) -> str:
    with pytest.raises(Refused) as caught:
        await work
    assert caught.value.code == code
    return caught.value.text


async def log_in(worker: Worker, name: str, secret: str) -> Peer:
    peer = worker.peer()
    await peer.do(Login(name, 0, secret))
    return peer


async def two(stage: Stage) -> tuple[Worker, Worker]:
    stage.account(login="password", insecure_open_login=False)
    return await stage.worker(), await stage.worker()


def test_an_account_that_is_put_again_as_it_is_stays_as_it_is(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        here, there = await two(stage)
        wanted = Wanted(name="Alice B", password=_SECRET, profile={"nickname": "Ally"})
        made = await here.core.administration.put(wanted)
        assert (made.user.name, made.is_new, made.ended) == ("Alice B", True, None)
        alice = await log_in(there, "alice b", _SECRET)
        assert alice.told(LoginAccepted)
        again = await here.core.administration.put(wanted)
        assert (again.user, again.is_new, again.ended) == (made.user, False, None)
        assert (await ask(alice, "profile.get"))["profile"] == {"nickname": "Ally"}
        await here.core.administration.put(Wanted(name="ALICE B", profile={"nickname": "", "status": "here"}))
        assert (await ask(alice, "profile.get"))["profile"] == {"status": "here"}
        assert alice.logged_in

    play(tmp_path, story)


def test_another_password_ends_the_sessions_on_every_worker(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        here, there = await two(stage)
        await here.core.administration.put(Wanted(name="alice", password=_SECRET))
        alice = await log_in(there, "alice", _SECRET)
        made = await here.core.administration.put(Wanted(name="alice", password=_OTHER))
        assert made.ended is not None
        assert made.ended.sessions == 1
        assert alice.reason is Disconnect.CREDENTIALS_CHANGED
        assert (await log_in(there, "alice", _SECRET)).failures == [ErrorCode.BAD_CREDENTIALS]
        again = await log_in(there, "alice", _OTHER)
        user, ended = await here.core.administration.set_password("alice", _SECRET)
        assert (user.name, ended.sessions) == ("alice", 1)
        assert again.reason is Disconnect.CREDENTIALS_CHANGED
        assert (await log_in(here, "alice", _SECRET)).logged_in

    play(tmp_path, story)


def test_many_who_put_the_same_account_at_once_make_one(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        workers = await two(stage)
        wanted = Wanted(name="alice", password=_SECRET)
        made = await asyncio.gather(*(worker.core.administration.put(wanted) for worker in workers * 3))
        assert len({one.user.id for one in made}) == 1
        assert sum(one.is_new for one in made) == 1
        assert (await log_in(workers[1], "alice", _SECRET)).logged_in

    play(tmp_path, story)


def test_an_account_without_a_password_cannot_be_logged_in_to(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        here, _ = await two(stage)
        await here.core.administration.put(Wanted(name="alice"))
        for secret in ("", _SECRET):
            assert (await log_in(here, "alice", secret)).failures == [ErrorCode.BAD_CREDENTIALS]

    play(tmp_path, story)


def test_the_rules_for_names_and_passwords_hold_for_the_operator_too(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.account(min_password_chars=8)
        here, _ = await two(stage)
        put = here.core.administration.put
        await put(Wanted(name="scope", password=_SECRET))
        await refused(ErrorCode.NAME_TAKEN, put(Wanted(name="sc0pe", password=_SECRET)))
        await refused(ErrorCode.NAME_NOT_ALLOWED, put(Wanted(name=" x", password=_SECRET)))
        await refused(ErrorCode.NAME_NOT_ALLOWED, put(Wanted(name="0", password=_SECRET)))
        await refused(ErrorCode.NAME_NOT_ALLOWED, put(Wanted(name="admin", password=_SECRET)))
        assert (await put(Wanted(name="admin", password=_SECRET, is_reserved=True))).is_new
        await refused(ErrorCode.PASSWORD_NOT_ALLOWED, put(Wanted(name="bob", password="short")))
        await refused(ErrorCode.PASSWORD_NOT_ALLOWED, put(Wanted(name="scope", password="short")))
        await refused(ErrorCode.PASSWORD_NOT_ALLOWED, here.core.administration.set_password("scope", "short"))

    play(tmp_path, story)


def test_a_user_called_2_is_not_account_2(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        here, _ = await two(stage)
        administration = here.core.administration
        await refused(ErrorCode.NAME_NOT_ALLOWED, administration.put(Wanted(name="77")))
        stage.account(number_names=True)
        await administration.put(Wanted(name="first", password=_SECRET))
        second = (await administration.put(Wanted(name="second", password=_SECRET))).user
        assert second.id == 2
        for change in (
            administration.lock("2", "", tell=False),
            administration.unlock("2"),
            administration.set_password("2", _OTHER),
            administration.delete("2"),
            administration.erase("2"),
            administration.change_profile("2", {"status": "taken over"}),
        ):
            await refused(ErrorCode.UNKNOWN_RECIPIENT, change)
        made = await administration.put(Wanted(name="2", password=_OTHER))
        assert made.is_new
        assert made.user.id != 2
        user, _ = await administration.lock("2", "", tell=False)
        assert user == made.user
        assert (await log_in(here, "second", _SECRET)).logged_in

    play(tmp_path, story)


def test_a_client_that_gives_the_number_of_a_user_does_not_reach_the_one_with_that_name(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.account(number_names=True)
        worker = await stage.worker()
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        alice.send("bob", "hello")
        await stage.settled()
        assert bob.session is not None
        bob_id = bob.session.user.id
        await worker.core.administration.put(Wanted(name=str(bob_id)))
        assert len((await ask(alice, "history", with_=bob_id))["messages"]) == 1
        assert (await ask(alice, "history", with_=str(bob_id)))["messages"] == []
        assert await ask(bob, "read", with_=1, seq=1) == {"seq": 1}
        assert (await ask(alice, "message.edit", with_=bob_id, seq=1, text="hullo"))["state"] == "edited"

    play(tmp_path, story)


def test_a_locked_account_is_out_everywhere_until_it_is_unlocked(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        here, there = await two(stage)
        administration = here.core.administration
        await administration.put(Wanted(name="alice", password=_SECRET))
        alice = await log_in(there, "alice", _SECRET)
        _, ended = await administration.lock("alice", "see the terms", tell=True)
        assert ended.sessions == 1
        assert alice.told(Kicked) == [Kicked(True, "this account is locked: see the terms")]
        assert (await log_in(there, "alice", _SECRET)).failures == [ErrorCode.ACCOUNT_LOCKED]
        assert [(await administration.unlock("alice"))[1] for _ in range(2)] == [True, False]
        silent = await log_in(there, "alice", _SECRET)
        await administration.lock("alice", "for our eyes", tell=False)
        assert silent.told(Kicked) == [Kicked(True, "this account is locked")]

    play(tmp_path, story)


@pytest.mark.parametrize("erased", [False, True])
def test_a_deleted_account_is_gone_and_its_name_is_free(tmp_path: Path, *, erased: bool) -> None:
    async def story(stage: Stage) -> None:
        here, there = await two(stage)
        administration = here.core.administration
        await administration.put(Wanted(name="alice", password=_SECRET))
        before = await log_in(there, "alice", _SECRET)
        user, ended = await (administration.erase if erased else administration.delete)("alice")
        assert ended.sessions == 1
        assert not before.logged_in
        assert bool(await here.core.store.read(lambda tables: tables.erasure.pending())) is erased
        await refused(ErrorCode.UNKNOWN_RECIPIENT, administration.delete("alice"))
        assert (await administration.put(Wanted(name="alice", password=_SECRET))).user.id != user.id

    play(tmp_path, story)


# ---------------------------------------------------------------- exports


async def exporting(stage: Stage, folder: Path) -> Worker:
    stage.config = msgspec.structs.replace(stage.config, server=ServerOptions(state_dir=str(folder)))
    return await stage.worker()


def test_an_archive_is_made_beside_the_chat_one_at_a_time(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        here = await exporting(stage, tmp_path)
        alice, bob = await here.mobile("alice"), await here.mobile("bob")
        for number in range(900):
            alice.send("bob", f"message {number}")
        await stage.settled()
        assert bob.session is not None
        exports = Exports(here.core.services)
        async with exports.archive_of(bob.session.user) as made:
            await refused(ErrorCode.BUSY, exports.archive_of(bob.session.user).__aenter__())
            assert made.exported.messages == 900
            archive = zipfile.ZipFile(made.file)
            (name,) = [one for one in archive.namelist() if one.startswith("conversations/")]
            texts = [json.loads(line)["text"] for line in archive.read(name).splitlines()]
            assert texts == [f"message {number}" for number in range(900)]
            assert json.loads(archive.read("account.json"))["name"] == "bob"
            assert made.size == made.file.seek(0, 2)
        async with exports.archive_of(bob.session.user):
            pass

    play(tmp_path, story)


def test_an_archive_that_nobody_waits_for_is_given_up(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        here = await exporting(stage, tmp_path)
        alice = await here.mobile("alice")
        assert alice.session is not None
        exports = Exports(here.core.services)
        reading = here.core.store.read
        reads = asyncio.Event()

        async def slow(work):  # type: ignore[no-untyped-def]
            reads.set()
            await asyncio.sleep(0.05)
            return await reading(work)

        here.core.store.read = slow  # type: ignore[method-assign]
        making = asyncio.ensure_future(exports.archive_of(alice.session.user).__aenter__())
        await reads.wait()
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        here.core.store.read = reading  # type: ignore[method-assign]
        async with exports.archive_of(alice.session.user) as made:
            assert made.exported.user == alice.session.user

    play(tmp_path, story)


# ---------------------------------------------------------------- friends


def test_two_users_whom_the_operator_makes_friends_are_both_told(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        here, there = await stage.worker(), await stage.worker()
        alice, bob = await here.mobile("alice"), await there.mobile("bob")
        assert alice.session is not None
        assert bob.session is not None
        ids = alice.session.user.id, bob.session.user.id

        def change() -> Change[Befriended]:
            return here.core.friends.befriending(*map(by_id, ids))

        for is_new in (True, False):
            assert (await change().apply(here.core.store)).is_new is is_new
        await stage.settled()
        for one, other in ((alice, "bob"), (bob, "alice")):
            (told,) = notices(one, "friend.accepted")
            assert told["from"]["name"] == other
            assert [friend["name"] for friend in (await ask(one, "friend.list"))["friends"]] == [other]

    play(tmp_path, story)
