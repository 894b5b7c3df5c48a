"""What the chatserver page says about the fragile old client, bad input, and delivery by the kernel's word."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import pytest

from chatd.errors import ErrorCode
from tests.conversations.player import SETTLED_S
from tests.conversations.test_chatserver_rows import old_client, silence, two
from tests.harness.chatserver import OldLink, chat
from tests.harness.deadline import run, until, within
from tests.harness.peer import Frame, NulPeer
from tests.harness.person import Town

# ---------------------------------------------------------------- the fragile old client


def test_every_frame_to_an_old_client_fits_its_buffer(town: Town) -> None:
    """Many friends, groups and waiting messages, and long texts: it reads them all, and each frame alone."""

    async def story() -> None:
        alice = await town.newcomer("alice")
        sender = await town.newcomer("sender")
        peer = await town.errand(sender)
        groups = [await town.make_group("g" * 40 + str(index), [alice]) for index in range(12)]
        for group in groups[:2]:
            peer.put({"msgid": 10, "id": town.ids[sender], "groupid": group})
            await peer.find(msgid=14)
        for index in range(12):
            friend = await town.newcomer(f"friend{index}")
            other = await town.errand(friend)
            other.put({"msgid": 7, "id": town.ids[friend], "friendid": town.ids[alice]})
            await silence(other)
            await town.finish(other)
        long_text = "żółw 🙂 " * 280
        texts = [f"{index} " + ("short" if index % 3 else "x" * 900) for index in range(20)]
        for index, text in enumerate([*texts, long_text]):
            peer.put({**chat(town.ids[sender], sender, alice, town.ids[alice], text), "fp": f"fp{index}"})
            assert (await peer.find(msgid=13))["fp"] == f"fp{index}"
        peer.put({**chat(town.ids[sender], sender, f"#{groups[0]}", 0, "to the group"), "fp": "group"})
        await peer.find(msgid=13)

        client = await old_client(town, alice)
        await until(20, "all shown", lambda: len(client.shown) >= len(texts) + 2 or client.death)
        client.check()
        one_to_one = [frame["msg"] for frame in client.shown if frame["msgid"] == 6]
        assert one_to_one[: len(texts)] == [whole_or_cut(text, one_to_one[at]) for at, text in enumerate(texts)]
        cut = one_to_one[-1]
        assert cut.endswith("…")
        assert long_text.startswith(cut[:-1])
        assert len(cut) > 100
        assert [frame["msg"] for frame in client.shown if frame["msgid"] == 11] == ["to the group"]
        assert client.requests, "friend requests come first"
        client.close()

    run(story())


def test_what_a_full_login_answer_keeps(town: Town) -> None:
    """Friends and groups before members of groups, and those before waiting messages, which follow one by one."""

    async def story() -> None:
        alice = await town.newcomer("alice")
        friends = [await town.newcomer(f"friend{index}") for index in range(3)]
        mine = await town.errand(alice)
        for friend in friends:
            peer = await town.errand(friend)
            mine.put({"msgid": 7, "id": town.ids[alice], "friendid": town.ids[friend]})
            await peer.find(msgid=7)
            peer.put({"msgid": 8, "id": town.ids[friend], "friendid": town.ids[alice], "flag": True})
            await mine.find(msgid=8)
            await town.finish(peer)
        await town.finish(mine)
        groups = [await town.make_group(f"group{index}", [alice, *friends]) for index in range(3)]
        sender = await town.errand(friends[0])
        for index in range(10):
            sender.put({"msgid": 6, "toid": town.ids[alice], "msg": f"{index} " + "x" * 100, "fp": str(index)})
            await sender.find(msgid=13, fp=str(index))
        client = await old_client(town, alice)
        assert [friend["name"] for friend in client.friends] == friends
        assert {friend["name"]: friend["state"] for friend in client.friends}[friends[0]] == "online"
        assert [group["id"] for group in client.groups] == groups
        assert len(client.groups[0]["users"]) >= 1, "members as they fit"
        assert len(client.groups[-1]["users"]) < 4, "not all of them fit"
        await until(20, "all shown", lambda: len(client.shown) == 10 or client.death)
        client.check()
        assert [frame["msg"].split()[0] for frame in client.shown] == [str(index) for index in range(10)]
        client.close()

    run(story())


def whole_or_cut(text: str, shown: str) -> str:
    return shown if shown.endswith("…") and text.startswith(shown[:-1]) else text


def test_frames_to_an_old_client_are_paced_and_to_a_streaming_one_are_not(town: Town) -> None:
    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        sender = await town.errand(await town.newcomer("sender"))
        client = await old_client(town, alice)
        streaming = await town.errand(bob)
        for name in (alice, bob):
            for index in range(30):
                sender.put({"msgid": 6, "toid": town.ids[name], "msg": f"{index} " + "x" * 500})
        await until(20, "all shown", lambda: len(client.shown) == 30 or client.death)
        client.check()
        assert [frame["msg"].split()[0] for frame in client.shown] == [str(index) for index in range(30)]
        for index in range(30):
            assert (await streaming.take())["msg"].startswith(f"{index} ")

    run(story())


def test_a_streaming_client_gets_long_texts_whole(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        text = "żółw 🙂 " * 250
        one.put(chat(town.ids[alice], alice, bob, town.ids[bob], text))
        assert (await other.take())["msg"] == text

    run(story())


def test_a_text_over_the_servers_limit_is_refused(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, _ = await two(town)
        one.put({**chat(town.ids[alice], alice, bob, town.ids[bob], "x" * 7000), "fp": "long"})
        answer = await one.take()
        assert (answer["msgid"], answer["errno"], answer["ref"]) == (12, ErrorCode.TOO_LONG, 6)
        one.put({**chat(town.ids[alice], alice, bob, town.ids[bob], "x"), "fp": "f" * 500})
        assert (await one.take())["errno"] in (ErrorCode.TOO_LONG, ErrorCode.BAD_FIELD)

    run(story())


def test_the_old_client_meets_everything_new_and_lives(town: Town) -> None:
    """Errors, group and friend answers are frames it ignores."""

    async def story() -> None:
        alice = await town.newcomer("alice")
        client = await old_client(town, alice)
        client.put({"msgid": 9, "id": client.id, "groupname": "lunch", "groupdesc": "x"})
        client.put(chat(client.id, alice, "", 2_000_000_000, "nobody"))
        client.put({"msgid": 99})
        await until(10, "three answers ignored", lambda: len(client.ignored) == 3 or client.death)
        client.check()
        assert [frame["msgid"] for frame in client.ignored] == [14, 12, 12]
        client.close()

    run(story())


# ---------------------------------------------------------------- bad input

GARBAGE = {
    "not JSON": b"hello\0",
    "not an object": b"[1,2,3]\0",
    "a number": b"42\0",
    "cut short": b'{"msgid":1,"id":\0',
    "no msgid": b'{"id":1}\0',
    "msgid is a text": b'{"msgid":"1"}\0',
    "nested too deep": b'{"msgid":1,"x":' + b"[" * 17 + b"]" * 17 + b"}\0",
    "nested very deep": b'{"msgid":1,"x":' + b"[" * 30000,
    "over the limit": b'{"msgid":1,"x":"' + b"x" * 70000,
    "invalid UTF-8": b'{"msgid":6,"toid":1,"msg":"\xff\xfe"}\0',
    "NUL inside a text": b'{"msgid":6,"toid":1,"msg":"a\0b"}\0',
    "two msgids": b'{"msgid":3,"msgid":1}\0',
}


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("logged_in", [False, True], ids=["stranger", "logged-in"])
def test_garbage_is_answered_with_12_and_the_connection_is_closed(town: Town, name: str, logged_in: bool) -> None:
    async def story() -> None:
        peer = await town.errand(await town.newcomer()) if logged_in else await town.nul_peer()
        peer.put({"msgid": 77})  # a good frame before it is still answered
        frames = [await peer.take()]
        peer.write(GARBAGE[name])
        frames += await peer.end()
        assert [frame["msgid"] for frame in frames] == [12, 12]
        assert frames[0]["ref"] == 77
        assert frames[1]["errno"] in (ErrorCode.INVALID_PACKET, ErrorCode.TOO_LONG)

    run(story())


def test_an_unknown_msgid_or_a_bad_field_is_refused_and_the_connection_stays(town: Town) -> None:
    async def story() -> None:
        alice = await town.newcomer("alice")
        peer = await town.errand(alice)
        me = town.ids[alice]
        for frame in (
            {"msgid": 0},
            {"msgid": 12},
            {"msgid": -1},
            {"msgid": 10**9},
            {"msgid": 6, "id": me, "toid": "7", "msg": "x"},
            {"msgid": 6, "id": me, "toid": 7, "msg": None},
            {"msgid": 6, "id": me, "toid": 7},
            {"msgid": 6, "id": me, "msg": "to whom?"},
            {"msgid": 6, "id": "me", "toid": 7, "msg": "x"},
            {"msgid": 8, "id": me, "friendid": 7, "flag": "yes"},
            {"msgid": 9, "id": me, "groupname": 7, "groupdesc": ""},
            {"msgid": 10, "id": me, "groupid": 1.5},
            {"msgid": 11, "id": me, "groupid": [], "msg": "x"},
        ):
            peer.put(frame)
            answer = await peer.take()
            assert (answer["msgid"], answer["ref"]) == (12, frame["msgid"]), frame
            assert answer["errno"] in (ErrorCode.UNKNOWN_REQUEST, ErrorCode.BAD_FIELD, ErrorCode.UNKNOWN_RECIPIENT)
        await silence(peer)

    run(story())


def test_a_peer_that_says_half_a_frame_and_closes_disturbs_nobody(town: Town) -> None:
    async def story() -> None:
        alice, one, bob, other = await two(town)
        for raw in (b"", b"{", b'{"msgid":6,"toid":', b"\0\0\0"):
            peer = await town.nul_peer()
            peer.write(raw)
            peer.abort()
        one.put(chat(town.ids[alice], alice, bob, town.ids[bob], "undisturbed"))
        assert (await other.take())["msg"] == "undisturbed"

    run(story())


# ---------------------------------------------------------------- delivery by the kernel's word


def test_what_a_client_never_received_is_given_again(town: Town) -> None:
    """A client that stops reading, whose small buffers fill up, and that dies: nothing the kernel had not got is lost,
    and the order is kept."""

    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        sender = await town.errand(alice)
        reader = NulPeer()
        await reader.open(town.daemon.ports["chatserver"], receive_buffer=4096)
        reader.put({"msgid": 1, "id": town.ids[bob], "password": town.secret, "framing": "nul"})
        assert (await reader.take())["errno"] == 0
        assert reader.transport is not None
        reader.transport.pause_reading()
        count = 1500
        for index in range(count):
            sender.put({"msgid": 6, "toid": town.ids[bob], "msg": f"{index} " + "x" * 1000, "fp": str(index)})
            if index % 100 == 99:
                await sender.find(20, msgid=13, fp=str(index))

        def read_a_little(frame: Frame) -> None:
            reader.frames.append(frame)
            if len(reader.frames) == 20:
                reader.abort()

        reader.on_frame = read_a_little
        reader.transport.resume_reading()
        await within(10, "a few were read", reader.gone.wait())
        got = [int(frame["msg"].split()[0]) for frame in reader.frames]
        assert got == list(range(len(got)))
        assert len(got) < count

        seen = await waiting_after(town, bob, count)
        assert seen == list(range(seen[0], count)), "in order and without holes"
        read_by_kernel = 200
        assert seen[0] <= len(got) + read_by_kernel

    run(story(), 90)


STOPPED_CLIENT = """
import json, socket, sys
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
sock.connect(("127.0.0.1", int(sys.argv[1])))
sock.sendall(json.dumps({"msgid": 1, "id": int(sys.argv[2]), "password": sys.argv[3], "framing": "nul"}).encode())
while sock.recv(1024):
    print("read", flush=True)
"""


def test_a_client_process_that_is_stopped_and_killed_loses_only_what_its_kernel_had(town: Town) -> None:
    async def story() -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        sender = await town.errand(alice)
        arguments = [str(town.daemon.ports["chatserver"]), str(town.ids[bob]), town.secret]
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", STOPPED_CLIENT, *arguments, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert client.stdout is not None
            assert await within(10, "the login answer", client.stdout.readline()) == b"read\n"
            client.send_signal(signal.SIGSTOP)
            count = 300
            for index in range(count):
                sender.put({"msgid": 6, "toid": town.ids[bob], "msg": f"{index} " + "x" * 900, "fp": str(index)})
            await sender.find(20, msgid=13, fp=str(count - 1))
        finally:
            client.kill()
            await client.wait()
        seen = await waiting_after(town, bob, count)
        assert seen == list(range(seen[0], count)), "in order and without holes"
        assert seen[0] <= 100, "far more than a kernel's buffer of 4 KiB is missing"

    run(story())


async def waiting_after(town: Town, name: str, count: int) -> list[int]:
    """The numbers given to the next login, up to the last."""
    peer = await town.nul_peer()
    seen: list[int] = []
    while True:
        peer.put({"msgid": 1, "id": town.ids[name], "password": town.secret, "framing": "nul"})
        answer = await peer.take()
        if answer["errno"] == 0:
            break
        await asyncio.sleep(0.01)
    frames = [json.loads(text) for text in answer.get("offlinemsg", [])]
    while not frames or int(frames[-1]["msg"].split()[0]) < count - 1:
        frames.append(await peer.take(20))
    seen.extend(int(frame["msg"].split()[0]) for frame in frames)
    return seen


@pytest.mark.parametrize("end", ["closes at once", "resets later"])
def test_what_was_received_is_not_given_again(town: Town, end: str) -> None:
    """A client that closes the connection has read what came. After a reset only what was there for a while counts."""

    async def story() -> None:
        alice, one, bob, other = await two(town)
        one.put(chat(town.ids[alice], alice, bob, town.ids[bob], "once"))
        assert (await other.take())["msg"] == "once"
        if end == "closes at once":
            other.close()
        else:
            await asyncio.sleep(SETTLED_S)
            other.abort()
        await other.end()
        peer = await town.nul_peer()
        while True:
            peer.put({"msgid": 1, "id": town.ids[bob], "password": town.secret, "framing": "nul"})
            answer = await peer.take()
            if answer["errno"] == 0:
                break
            await asyncio.sleep(0.01)
        assert "offlinemsg" not in answer
        await silence(peer)

    run(story())


def test_old_link_is_the_old_client() -> None:
    """The model used everywhere dies as the deployed client does."""
    link = OldLink()
    for data in (b'{"msgid":6}', b"{broken\0", b'{"msgid":13}\0{"msgid":13}\0', b"[]\0"):
        with pytest.raises(AssertionError):
            link.parse(data)
    with pytest.raises(AssertionError):
        link.understand({"msgid": 6, "time": "", "id": "7", "name": "", "msg": ""})
    link.understand({"msgid": 99})
