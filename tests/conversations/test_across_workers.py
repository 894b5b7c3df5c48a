"""The same promises when the two ends, or two logins of one user, are certainly on different workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

from tests.conversations.asking import Client
from tests.conversations.test_chatserver_rows import silence
from tests.harness.chatserver import chat
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.mobileimsdk import MobilePeer, content
from tests.harness.peer import NulPeer, Peer
from tests.harness.person import Town


@pytest.fixture(scope="module")
def pair_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    daemon = Daemon(tmp_path_factory.mktemp("pair"), workers=2)
    try:
        yield Town(daemon.start())
    finally:
        complaints = daemon.discard()
    assert not complaints, complaints


def worker_of(daemon: Daemon, peer: Peer) -> int:
    """0 while no worker has accepted it."""
    assert peer.transport is not None
    port = peer.transport.get_extra_info("sockname")[1]
    for pid in daemon.workers():
        for connection in psutil.Process(pid).net_connections("tcp"):
            if connection.raddr and connection.raddr.port == port:
                return pid
    return 0


@contextlib.asynccontextmanager
async def one_on_each(town: Town, kind: type[Peer], pairs: int = 1) -> AsyncIterator[list[tuple[Peer, Peer]]]:
    """Fresh connections, the two of a pair on different workers. What is opened meanwhile stays open to the end, so
    that the accept gate fills the other worker."""
    port = town.daemon.ports["mobileimsdk" if kind is MobilePeer else "chatserver"]
    by_worker: dict[int, list[Peer]] = {pid: [] for pid in town.daemon.workers()}
    opened: list[Peer] = []
    try:
        while min(map(len, by_worker.values())) < pairs:
            assert len(opened) < 60, f"all on one worker: {by_worker}"
            peer = kind()
            await peer.open(port)
            opened.append(peer)
            pid = await until(5, "accepted", lambda one=peer: worker_of(town.daemon, one))
            by_worker[pid].append(peer)
        first, second = by_worker.values()
        yield list(zip(first[:pairs], second[:pairs], strict=True))
    finally:
        for peer in opened:
            peer.close()


def fp() -> str:
    return str(uuid.uuid4())


@pytest.mark.parametrize("swap", [False, True], ids=["first to second", "second to first"])
def test_kick_out_rules(pair_town: Town, swap: bool) -> None:
    async def story() -> None:
        name = await pair_town.newcomer("alice")
        async with one_on_each(pair_town, MobilePeer, 3) as pairs:
            (old, new), (same, _), (_, older) = [pair[::-1] if swap else pair for pair in pairs]
            assert isinstance(old, MobilePeer)
            assert isinstance(new, MobilePeer)
            assert isinstance(same, MobilePeer)
            assert isinstance(older, MobilePeer)
            first = await old.log_in(name, pair_town.secret)
            second = await new.log_in(name, pair_town.secret, first + 10)  # newer: the old one goes
            (kick,) = await old.end()
            assert (kick["type"], content(kick)["code"]) == (54, 1)
            assert await same.log_in(name, pair_town.secret, second) == second  # a reconnect: replaces silently
            assert await new.end() == []
            older.put(older.login_packet(name, pair_town.secret, first))  # older: goes itself
            packets = await older.end()
            assert packets[-1]["type"] == 54
            same.put({"type": 1})
            assert (await same.take())["type"] == 51

    run(story())


def test_errno_2_until_the_other_has_left(pair_town: Town) -> None:
    async def story() -> None:
        name = await pair_town.newcomer("alice")
        login = {"msgid": 1, "id": pair_town.ids[name], "password": pair_town.secret}
        async with one_on_each(pair_town, NulPeer) as ((here, there),):
            here.put(login)
            assert (await here.take())["errno"] == 0
            there.put(login)
            assert (await there.take())["errno"] == 2
            here.put({"msgid": 3, "id": pair_town.ids[name]})
            here.put({"msgid": 99})
            assert (await here.take())["msgid"] == 12  # the logout before it is done
            for _ in range(200):
                there.put(login)
                if (await there.take())["errno"] == 0:
                    break
                await asyncio.sleep(0.01)
            else:
                raise AssertionError("still errno 2 after the logout")
            here.put(login)
            assert (await here.take())["errno"] == 2

    run(story())


def test_a_message_sent_again_on_the_other_worker_is_stored_once(pair_town: Town) -> None:
    """Before and after a reconnect, and from two sessions of one user on two wires at the same moment."""

    async def story() -> None:
        alice, bob = await pair_town.newcomer("alice"), await pair_town.newcomer("bob")
        other = await pair_town.errand(bob)
        async with one_on_each(pair_town, MobilePeer, 5) as pairs:
            seqs = []
            for number, pair in enumerate(pairs):
                one_fp = f"{number}-{fp()}"
                for peer in pair:
                    assert isinstance(peer, MobilePeer)
                    await peer.log_in(alice, pair_town.secret)
                    peer.say(alice, bob, f"once {number}", one_fp)
                    assert (await peer.find(type=4))["dataContent"] == one_fp
                frame = await other.take()
                assert frame["msg"] == f"once {number}"
                seqs.append(frame["seq"])
            assert seqs == [1, 2, 3, 4, 5]
            await silence(other)

    run(story())


def test_one_user_on_two_wires_is_given_each_message_on_both(pair_town: Town) -> None:
    async def story() -> None:
        alice, bob = await pair_town.newcomer("alice"), await pair_town.newcomer("bob")
        mobile, streaming = await pair_town.on_mobile(bob), await pair_town.errand(bob)
        sender = await pair_town.errand(alice)
        for number in range(20):
            sender.put(chat(pair_town.ids[alice], alice, "", pair_town.ids[bob], str(number)))
        assert [(await streaming.take())["msg"] for _ in range(20)] == [str(number) for number in range(20)]
        assert [(await mobile.take())["dataContent"] for _ in range(20)] == [str(number) for number in range(20)]

    run(story())


class AtDesk:
    """A user on chatserver. Reads, and so acknowledges, everything."""

    def __init__(self, town: Town, name: str, peer: NulPeer) -> None:
        self.town, self.name, self.peer = town, name, peer
        self.texts: list[str] = []

    async def arrive(self) -> None:
        self.peer.put({"msgid": 1, "name": self.name, "password": self.town.secret, "framing": "nul"})
        answer = await self.peer.take()
        assert answer["errno"] == 0
        self.texts += [json.loads(text)["msg"] for text in answer.get("offlinemsg", [])]

    async def has(self, *texts: str) -> None:
        """These, and no others before the last of them."""
        while len(self.texts) < len(texts):
            self.texts.append((await self.peer.take())["msg"])
        assert self.texts == [*texts]

    async def leave(self) -> None:
        await self.town.finish(self.peer)


class OnMobile:
    """A user on mobileimsdk."""

    def __init__(self, town: Town, name: str) -> None:
        self.client = Client(town, name)

    async def arrive(self) -> None:
        await self.client.arrive()

    async def has(self, *texts: str) -> None:
        def told() -> list[str]:
            return [text for _, _, text in self.client.messages]

        await until(10, f"{texts} on the mobile", lambda: len(told()) >= len(texts))
        assert told() == [*texts]

    async def leave(self) -> None:
        self.client.leave()


async def delivered(town: Town, name: str, seq: int) -> None:
    """The user, who is in one conversation, has everything up to here, as the store knows it."""
    with contextlib.closing(sqlite3.connect(f"file:{town.daemon.root}/state/chatd.db?mode=ro", uri=True)) as db:

        def found() -> int:
            return int(
                db.execute("SELECT max(delivered) FROM cursor WHERE user_id = ?", (town.ids[name],)).fetchone()[0]
            )

        await until(10, f"{seq} delivered", lambda: found() >= seq)
        assert found() == seq


@pytest.mark.parametrize("first", ["mobile", "desk"])
def test_what_one_session_acknowledged_is_delivered_to_the_user(pair_town: Town, first: str) -> None:
    """Live sessions are given everything. A later session is given, once, what none of them has acknowledged."""

    async def story() -> None:
        alice, bob = await pair_town.newcomer("alice"), await pair_town.newcomer("bob")
        sender = await pair_town.errand(alice)

        async def says(*texts: str) -> None:
            for text in texts:
                sender.put({**chat(pair_town.ids[alice], alice, "", pair_town.ids[bob], text), "fp": fp()})
                await sender.find(msgid=13)

        mobile = OnMobile(pair_town, bob)
        await mobile.arrive()
        await says("0")
        await delivered(pair_town, bob, 1)
        async with one_on_each(pair_town, NulPeer) as (pair,):
            mine = worker_of(pair_town.daemon, mobile.client.peer)
            (apart,) = [peer for peer in pair if worker_of(pair_town.daemon, peer) != mine]
            assert isinstance(apart, NulPeer)
            desk = AtDesk(pair_town, bob, apart)
            await desk.arrive()
            await says("1", "2")
            await desk.has("1", "2")
            await mobile.has("0", "1", "2")
            await delivered(pair_town, bob, 3)
            mobile.client.acknowledging = False
            await says("3")
            await desk.has("1", "2", "3")
            await mobile.has("0", "1", "2", "3")
            await delivered(pair_town, bob, 4)
            await desk.leave()
        await says("4", "5")
        await mobile.has("0", "1", "2", "3", "4", "5")
        await mobile.leave()
        await says("6")
        await delivered(pair_town, bob, 4)

        comers: list[AtDesk | OnMobile] = [OnMobile(pair_town, bob), AtDesk(pair_town, bob, await pair_town.nul_peer())]
        comer, last = comers if first == "mobile" else comers[::-1]
        await comer.arrive()
        await comer.has("4", "5", "6")
        await says("7")
        await comer.has("4", "5", "6", "7")
        await delivered(pair_town, bob, 8)
        await comer.leave()
        await last.arrive()
        await says("8")
        await last.has("8")
        await last.leave()

    run(story())


def test_order_and_numbers_are_the_same_for_every_member_on_every_worker(pair_town: Town) -> None:
    """Four members on two workers write to a group at once; all see one order."""

    async def story() -> None:
        names = [await pair_town.newcomer("member") for _ in range(4)]
        group = await pair_town.make_group("order", names)
        async with one_on_each(pair_town, NulPeer, 2) as pairs:
            members = [peer for pair in pairs for peer in pair]
            for name, peer in zip(names, members, strict=True):
                peer.put({"msgid": 1, "name": name, "password": pair_town.secret, "framing": "nul"})
                assert (await peer.take())["errno"] == 0
            each = 100
            for number in range(each):
                for name, peer in zip(names, members, strict=True):
                    peer.put(
                        {**chat(0, name, f"#{group}", 0, f"{name} {number}"), "id": pair_town.ids[name], "fp": fp()}
                    )
            orders: list[dict[int, str]] = []
            for peer in members:
                seen: dict[int, str] = {}
                acknowledged = last = 0
                while len(seen) < 3 * each or acknowledged < each:
                    frame = await peer.take()
                    if frame["msgid"] == 13:
                        acknowledged += 1
                        continue
                    assert frame["seq"] > last, "out of order"
                    last = frame["seq"]
                    seen[last] = frame["msg"]
                orders.append(seen)
            whole = {seq: text for seen in orders for seq, text in seen.items()}
            assert sorted(whole) == list(range(1, 4 * each + 1))
            assert all(whole[seq] == text for seen in orders for seq, text in seen.items())

    run(story())


def test_friends_and_groups_across_workers(pair_town: Town) -> None:
    async def story() -> None:
        alice, bob = await pair_town.newcomer("alice"), await pair_town.newcomer("bob")
        ids = pair_town.ids
        async with one_on_each(pair_town, NulPeer) as ((here, there),):
            for name, peer in ((alice, here), (bob, there)):
                peer.put({"msgid": 1, "name": name, "password": pair_town.secret, "framing": "nul"})
                assert (await peer.take())["errno"] == 0
            here.put({"msgid": 7, "id": ids[alice], "friendid": ids[bob]})
            assert (await there.find(msgid=7))["from"] == ids[alice]
            there.put({"msgid": 8, "id": ids[bob], "friendid": ids[alice], "flag": True})
            assert (await here.find(msgid=8))["from"] == ids[bob]
            here.put({"msgid": 9, "id": ids[alice], "groupname": "both", "groupdesc": ""})
            group = (await here.find(msgid=14))["groupid"]
            there.put({"msgid": 10, "id": ids[bob], "groupid": group})
            await there.find(msgid=14)
            here.put(chat(ids[alice], alice, f"#{group}", 0, "welcome"))
            assert (await there.find(msgid=11))["msg"] == "welcome"
            there.put({"msgid": 3, "id": ids[bob]})
            there.put({"msgid": 1, "name": bob, "password": pair_town.secret, "framing": "nul"})
            answer = await there.find(msgid=2)
            assert [json.loads(text)["state"] for text in answer["friends"]] == ["online"]
            users = [json.loads(user) for text in answer["groups"] for user in json.loads(text)["users"]]
            assert {user["name"]: user["state"] for user in users} == {alice: "online", bob: "online"}

    run(story())


def test_what_was_given_here_and_not_acknowledged_is_given_there(pair_town: Town) -> None:
    async def story() -> None:
        alice, bob = await pair_town.newcomer("alice"), await pair_town.newcomer("bob")
        sender = await pair_town.on_mobile(alice)
        fps = [fp() for _ in range(4)]
        async with one_on_each(pair_town, MobilePeer, 2) as ((here, there), (here_again, there_again)):
            for number, one_fp in enumerate(fps):
                sender.say(alice, bob, str(number), one_fp)
            await sender.find(type=4, dataContent=fps[-1])
            left = fps
            for peer in (here, there, here_again, there_again):
                assert isinstance(peer, MobilePeer)
                await peer.log_in(bob, pair_town.secret)
                packets = [await peer.take() for _ in left]
                assert [packet["fp"] for packet in packets] == left
                peer.acknowledge(packets[0])
                peer.put({"type": 1})
                assert (await peer.find(type=51))["from"] == "0"
                left = left[1:]

    run(story())
