"""`chatctl kick`, and the sessions of an account that `chatctl user del` deletes."""

from __future__ import annotations

import asyncio

import pytest

from chatd.errors import ErrorCode, Exit
from tests.harness.deadline import run, until
from tests.harness.link import LoginRefused
from tests.harness.mobileimsdk import content
from tests.harness.person import Town


async def ctl(town: Town, *arguments: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(town.daemon.ctl, *arguments)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def test_every_session_of_a_user_is_ended_with_the_reason(town: Town) -> None:
    async def story() -> None:
        name, other = await town.newcomer("alice"), await town.newcomer("bob")
        for who in (name.upper(), str(town.ids[name])):
            mobile, desk = await town.on_mobile(name), await town.errand(name)
            bystander = await town.on_mobile(other)
            assert await ctl(town, "kick", who, "--reason", "tea time ☕") == (0, "sessions ended: 2", "")
            packet = (await mobile.end())[-1]
            assert (packet["type"], content(packet)) == (54, {"code": 2, "reason": "tea time ☕"})
            frame = (await desk.end())[-1]
            assert (frame["msgid"], frame["errmsg"]) == (12, "tea time ☕")
            bystander.put({"type": 1})
            assert (await bystander.find(type=51))["from"] == "0"
            bystander.close()
            await bystander.gone.wait()
        await town.on_mobile(name)  # the account is as it was

    run(story())


def test_without_a_reason_and_without_a_session(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        assert await ctl(town, "kick", name) == (0, "sessions ended: 0", "")
        desk, mobile = await town.errand(name), await town.on_mobile(name)
        assert await ctl(town, "kick", name) == (0, "sessions ended: 2", "")
        frame = (await desk.end())[-1]
        assert (frame["msgid"], frame["errno"]) == (12, ErrorCode.NOT_ALLOWED)
        assert frame["errmsg"]
        assert content((await mobile.end())[-1]) == {"code": 2}

    run(story())


@pytest.mark.parametrize("who", ["nobody", "999999999", "#1"])
def test_nobody_is_not_kicked(town: Town, who: str) -> None:
    code, shown, why = run(ctl(town, "kick", who))
    assert (code, shown, why) == (1, "", f"chatctl: {who}: no such user")


def test_what_makes_no_sense_is_refused(town: Town) -> None:
    code, _, why = run(ctl(town, "kick", ""))
    assert (code, why) == (Exit.USAGE, "chatctl: kick needs a user or an address")
    code, _, why = run(ctl(town, "kick", "alice", "--reason", "r" * 201))
    assert code == Exit.USAGE
    assert "reason" in why


def test_a_deleted_account_has_no_session(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        mobile, desk = await town.on_mobile(name), await town.errand(name)
        code, output, said = await ctl(town, "user", "del", name)
        assert (code, output) == (0, "sessions ended: 2")
        assert said.startswith("chatctl: store: sqlite:")
        assert content((await mobile.end())[-1])["code"] == 2
        assert (await desk.end())[-1]["msgid"] == 12
        with pytest.raises(LoginRefused) as refused:
            await town.on_mobile(name)
        assert refused.value.code == ErrorCode.BAD_CREDENTIALS
        code, _, why = await ctl(town, "kick", name)
        assert (code, why) == (1, f"chatctl: {name}: no such user")

    run(story())


def test_kicks_while_people_come_and_go(town: Town) -> None:
    """Every client that was told that its session began is told how it ended; in the end nobody is left."""

    async def story() -> None:
        names = [await town.newcomer("user") for _ in range(4)]
        over = asyncio.Event()

        async def visit(name: str) -> int:
            kicked = 0
            while not over.is_set():
                try:
                    peer = await town.on_mobile(name)
                except LoginRefused:  # kicked while logging in
                    continue
                await until(30, "kicked or over", lambda peer=peer: peer.gone.is_set() or over.is_set())  # type: ignore[misc]
                kicked += peer.gone.is_set()
                peer.close()
            return kicked

        visitors = [asyncio.create_task(visit(name)) for name in names]
        for _ in range(3):
            for name in names:
                assert (await ctl(town, "kick", name))[0] == 0
        over.set()
        assert sum(await asyncio.gather(*visitors)) >= 8

    run(story())
