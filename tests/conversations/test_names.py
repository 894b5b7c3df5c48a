"""Attacks with names and texts on a real daemon, over both wires: names that look like another user's or like the
operator's, names that are numbers, control characters in what others see."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode
from tests.conversations.asking import Client, befriend, clients, new_group
from tests.conversations.stages import on_every_stage
from tests.harness import chatserver
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.link import LoginRefused
from tests.harness.mobileimsdk import MobilePeer, content
from tests.harness.peer import Frame
from tests.harness.person import Town

OPEN = {"login": "open", "insecure_open_login": True}
ESCAPES = "\x1b]0;owned\x07\x1b[2J"
OVERRIDE = "gnp.exe\u202e"
NUMBERS = itertools.count(random.randrange(10**6))


async def register(town: Town, name: str) -> Frame:
    """The answer to a registration."""
    peer = await town.nul_peer()
    peer.put({"msgid": chatserver.REGISTER, "name": name, "password": town.secret})
    answer = await peer.find(msgid=chatserver.REGISTER_ACK)
    peer.close()
    return answer


async def names(town: Town) -> set[str]:
    shown = await asyncio.to_thread(town.daemon.ctl, "user", "list")
    return {line.split(maxsplit=1)[1].rsplit("  ", 1)[0].strip() for line in shown.stdout.splitlines()[1:]}


# ---------------------------------------------------------------- names of accounts


BAD_NAMES = [
    "admin", "ADMIN", "adm1n", "ADMlN", "\uff41\uff44\uff4d\uff49\uff4e", "a.d.m.i.n", "Sys Admin", "r00t", "0", "-1",
    "O", "7", "\uff17", "l0", "#1", "bad\u202eeman", "a\u200bb", "a\u00adb", ESCAPES, "a\nb", " a", "m\u0456xed",
    "\ue000", "Z" + "\u0301" * 20, "x" * 51, "ADM\u0130N", "admi\u0307n",
]  # fmt: skip


def test_a_bad_name_cannot_be_registered(town: Town) -> None:
    async def story() -> None:
        for name in BAD_NAMES:
            answer = await register(town, name)
            assert answer["errno"] == 1, (ascii(name), answer)
            assert answer["errmsg"].isprintable()
        assert not await names(town) & set(BAD_NAMES)

    run(story())


@on_every_stage
def test_a_name_that_looks_like_another_users_is_taken(town: Town) -> None:
    async def story() -> None:
        number = next(NUMBERS)
        victim = f"scope{number}"
        user_id = await town.register(victim)
        for name in (
            victim.upper(),
            f"\uff33cope{number}",
            f"\u0455\u0441\u043e\u0440\u0435{number}",
            f"sc0pe{number}",
            f"sc\u043epe{number}",
            f"scope\u200b{number}",
        ):
            assert (await register(town, name))["errno"] == 1, ascii(name)
        # The victim is found by the name in any spelling, as before, and nobody else is.
        for spelling in (victim, victim.upper(), f"\uff33cope{number}"):
            peer = await town.nul_peer()
            peer.put({"msgid": chatserver.LOGIN, "name": spelling, "password": town.secret})
            assert (await peer.find(msgid=chatserver.LOGIN_ACK))["id"] == user_id
            await town.finish(peer)
        # The look of a deleted account is free again.
        assert (await asyncio.to_thread(town.daemon.ctl, "user", "del", victim)).returncode == 0
        assert (await register(town, f"sc0pe{number}"))["errno"] == 0

    run(story())


@on_every_stage
def test_a_small_letter_that_looks_like_the_capital_of_another_is_taken(town: Town) -> None:
    """ivan is Ivan, and lvan, with a small L, looks like that; so does a dotted i with one more dot."""

    async def story() -> None:
        number = next(NUMBERS)
        await town.register(f"ivan{number}")
        for name in (f"lvan{number}", f"i\u0307van{number}", f"\u0130VAN{number}"):
            assert (await register(town, name))["errno"] == 1, ascii(name)
        await town.register(f"lynn{number}")
        assert (await register(town, f"Iynn{number}"))["errno"] == 1
        assert (await register(town, f"iynn{number}"))["errno"] == 1
        assert (await register(town, f"\u00edvan{number}"))["errno"] == 0, "an accent can be seen"

    run(story())


@pytest.mark.parametrize("town", ["2-workers", "2-workers-mysql"], indirect=True, scope="session")
def test_of_two_who_register_names_that_look_the_same_at_once_one_succeeds(town: Town) -> None:
    """On two workers, whose transactions have no unique key in common."""

    async def story() -> None:
        for _ in range(8):
            number = next(NUMBERS)
            spellings = [f"cope{number}", f"c0pe{number}", f"\u0441\u043e\u0440\u0435{number}", f"cOpe{number}"]
            answers = await asyncio.gather(*(register(town, one) for one in spellings))
            assert sorted(answer["errno"] for answer in answers) == [0, 1, 1, 1], answers

    run(story(), 60)


def test_an_operator_may_create_a_reserved_name(town: Town) -> None:
    async def ctl(*arguments: str) -> int:
        done = await asyncio.to_thread(town.daemon.ctl, *arguments, input=f"{town.secret}\n")
        return done.returncode

    async def story() -> None:
        assert await ctl("user", "add", "Postmaster") == 1
        assert await ctl("user", "add", "--reserved", "Postmaster") == 0
        assert await ctl("user", "add", "--reserved", "-1") != 0
        peer = await town.nul_peer()
        peer.put({"msgid": chatserver.LOGIN, "name": "postmaster", "password": town.secret})
        assert (await peer.find(msgid=chatserver.LOGIN_ACK))["name"] == "Postmaster"
        peer.close()

    run(story())


def test_open_login_gives_no_bad_name_either(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(accounts=OPEN).start()
    town = Town(daemon)

    async def story() -> None:
        await town.on_mobile("scope")
        for name in ("Admin", "a\u202eb", "sc\u200bope", "\u0455\u0441\u043e\u0440\u0435", "0", "sc0pe", ESCAPES):
            with pytest.raises(LoginRefused) as refused:
                await (await town.mobile_peer()).log_in(name, "")
            assert refused.value.code in (ErrorCode.NAME_NOT_ALLOWED, ErrorCode.NAME_TAKEN)
        assert await names(town) == {"scope"}

    run(story())


# ---------------------------------------------------------------- names that are numbers


def test_a_name_of_digits_is_never_taken_for_the_number_of_another_account(make_daemon: Callable[..., Daemon]) -> None:
    """Only open login gives such names. The account so named goes first, everywhere where a text names a user."""
    daemon = make_daemon(accounts=OPEN).start()
    town = Town(daemon, secret="")

    async def client(name: str) -> Client:
        return await Client(town, name).arrive()

    async def story() -> None:
        alice, digits, carol = await client("alice"), await client("3"), await client("carol")  # 1, 2 and 3
        assert (await carol.ask("whoami"))["id"] == 3
        assert (await digits.ask("whoami"))["id"] == 2
        await alice.says("3", "to the name")
        await digits.sees("alice", "3", "to the name")
        assert (await alice.ask("friend.request", user="3"))["user"] == {"id": 2, "name": "3"}
        assert (await alice.ask("friend.request", user=3))["user"] == {"id": 3, "name": "carol"}
        group = await new_group(alice, digits, carol)
        assert (await alice.ask("profile.get", user="3"))["user"]["id"] == 2
        assert (await alice.ask("group.kick", group=group, user="3"))["user"]["id"] == 2
        desk = await town.nul_peer()
        desk.put({"msgid": chatserver.LOGIN, "id": 1, "password": "", "framing": "nul"})
        await desk.find(msgid=chatserver.LOGIN_ACK)
        desk.put({"msgid": chatserver.ONE_CHAT, "id": 1, "toname": "3", "msg": "by name"})
        await digits.sees("alice", "3", "by name")
        desk.put({"msgid": chatserver.ONE_CHAT, "id": 1, "toid": 3, "msg": "by number"})
        await carol.sees("alice", "carol", "by number")
        kicked = await asyncio.to_thread(daemon.ctl, "kick", "3")
        assert kicked.stdout.strip() == "sessions ended: 1"
        await digits.peer.gone.wait()
        assert not carol.peer.gone.is_set()
        await carol.is_up_to_date()
        assert [text for _, _, text in carol.messages] == ["by number"]

    run(story())


# ---------------------------------------------------------------- other texts that people see


@pytest.mark.parametrize("text", [ESCAPES, OVERRIDE, "a\u200bb", "Z" + "\u0301" * 20])
def test_names_and_descriptions_carry_nothing_hidden(town: Town, text: str) -> None:
    async def story() -> None:
        alice, bob = await clients(town, "alice", "bob")
        group = await new_group(alice, bob, name="clean")
        for op, arguments in [
            ("group.create", {"name": text}),
            ("group.create", {"name": "team", "description": text}),
            ("group.rename", {"group": group, "name": text}),
            ("group.rename", {"group": group, "name": "team", "description": text}),
            *(("profile.set", {field: text}) for field in ("nickname", "status", "about", "avatar")),
        ]:
            assert await alice.refused(op, **arguments) is ErrorCode.BAD_FIELD, (op, arguments)
        desk = await town.errand(alice.name)
        for frame in ({"groupname": text, "groupdesc": ""}, {"groupname": "team", "groupdesc": text}):
            desk.put({"msgid": chatserver.CREATE_GROUP, "id": town.ids[alice.name], **frame})
            error = await desk.find(msgid=12)
            assert (error["errno"], error["ref"]) == (ErrorCode.BAD_FIELD, chatserver.CREATE_GROUP)
            assert error["errmsg"].isprintable()
        (only,) = (await alice.ask("group.list"))["groups"]
        assert (only["name"], only["description"]) == ("clean", "")
        await befriend(alice, bob)
        assert (await bob.ask("profile.get", user=alice.name))["profile"] == {}
        for order in (("kick", bob.name, "--reason", text), ("invite", "add", "--note", text)):
            refused = await asyncio.to_thread(town.daemon.ctl, *order)
            assert refused.returncode == 64, refused
        assert not bob.peer.gone.is_set()
        await alice.says(bob.name, text)  # the text of a message is the users' own
        await bob.sees(alice.name, bob.name, text)

    run(story())


def test_what_people_write_is_stored_in_one_form(town: Town) -> None:
    async def story() -> None:
        (alice,) = await clients(town, "alice")
        made = await alice.ask(
            "group.create", name=" Cafe\u0301 \U0001f468\u200d\U0001f469\u200d\U0001f467 ", description="a\r\nb"
        )
        assert made["group"]["name"] == "Caf\u00e9 \U0001f468\u200d\U0001f469\u200d\U0001f467"
        assert made["group"]["description"] == "a\nb"
        await alice.ask("profile.set", nickname="\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", about="1\n2")
        await alice.ask("profile.set", nickname="")
        assert (await alice.ask("profile.get"))["profile"] == {"about": "1\n2"}

    run(story())


# ---------------------------------------------------------------- the same, with the guards off

SHOWN = {
    "no_look_alike_check": "a name that looks like another one was given",
    "no_filter_of_descriptions": "a description with terminal escapes was accepted",
}


async def attack(town: Town) -> set[str]:
    """Which of the bugs show themselves."""
    await town.register("scope")
    found = set()
    if (await register(town, "\u0455\u0441\u043e\u0440\u0435"))["errno"] == 0:
        found.add("no_look_alike_check")
    desk: MobilePeer = await town.on_mobile("scope")
    desk.say("scope", "0", '{"op":"group.create","ref":1,"name":"team","description":"\\u001b[2J"}', "fp")
    answer = await desk.find(type=2)
    if content(answer)["ok"]:
        found.add("no_filter_of_descriptions")
    desk.close()
    return found


@pytest.mark.parametrize("bug", [*SHOWN, ""])
def test_a_guard_that_is_off_is_noticed(make_daemon: Callable[..., Daemon], bug: str) -> None:
    entry = ("-m", "tests.conversations.planted_names", bug) if bug else ("-m", "chatd")
    daemon = make_daemon(entry=entry).start()
    assert run(attack(Town(daemon))) == ({bug} if bug else set())
