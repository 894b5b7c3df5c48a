"""A client over UDP with a token: what comes from its address without it does nothing. With a small core, datagram by
datagram."""

from __future__ import annotations

import asyncio
import json

from chatd.errors import Disconnect
from chatd.protocol import Kicked, Login, SendMessage
from tests.harness.deadline import until
from tests.net.datagram_stage import Client, Stage, played, stage

KEEP_ALIVE = b'{"type":1,"dataContent":"{}"}'


def login(name: str = "alice", secret: str = "yes", *, asks: bool = True) -> bytes:
    body = {"loginUserId": name, "loginToken": secret, "firstLoginTime": 0}
    body |= {"datagramToken": True} if asks else {}
    return json.dumps({"type": 0, "dataContent": json.dumps(body), "from": name, "to": "0"}).encode()


async def token_of(client: Client) -> bytes:
    """Of the login answer that comes next."""
    packet = await client.take()
    assert packet["type"] == 50, packet
    body = json.loads(packet["dataContent"])
    assert body["code"] == 0
    return str(body.get("datagramToken", "")).encode()


async def with_token(on: Stage, name: str = "alice") -> tuple[Client, bytes]:
    client = on.client()
    client.sock.send(login(name))
    token = await token_of(client)
    assert len(token) == 24
    return client, token


def refused(on: Stage) -> int:
    """Datagrams that were dropped."""
    return on.listener.dropped


def test_the_token_opens_the_session_and_nothing_else_does() -> None:
    async def story() -> None:
        async with stage() as on:
            client, token = await with_token(on)
            for wrong in (b"", b"x" * 24, token[:-1] + b"*", token[1:], b" " + token):
                client.sock.send(wrong + KEEP_ALIVE)
            await until(5, "they are dropped", lambda: refused(on) == 5)
            assert client.heard() == []
            client.sock.send(token + KEEP_ALIVE)
            assert (await client.take())["type"] == 51

    played(story)


def test_every_session_has_another_token() -> None:
    async def story() -> None:
        async with stage() as on:
            tokens = {(await with_token(on, f"u{number}"))[1] for number in range(20)}
            assert len(tokens) == 20

    played(story)


def test_stock_clients_are_told_no_token_and_need_none() -> None:
    async def story() -> None:
        async with stage() as on:
            client = on.client()
            client.sock.send(login(asks=False))
            assert await token_of(client) == b""
            client.sock.send(KEEP_ALIVE)
            assert (await client.take())["type"] == 51

    played(story)


def test_a_forged_login_cannot_make_a_stock_client_need_a_token() -> None:
    async def story() -> None:
        async with stage() as on:
            client = on.client()
            client.sock.send(login(asks=False))
            assert await token_of(client) == b""
            client.sock.send(login())  # to the same account: in the small core the session stays
            client.sock.send(KEEP_ALIVE)
            while (packet := await client.take())["type"] != 51:
                assert packet["type"] == 50
            assert on.peer().token == b""

    played(story)


def test_a_forged_keep_alive_does_not_keep_a_session_alive() -> None:
    async def story() -> None:
        async with stage() as on:
            client, _ = await with_token(on)
            peer = on.peer()
            heard = peer.heard
            client.sock.send(KEEP_ALIVE)
            client.sock.send(login("mallory"))
            await until(5, "both are dropped", lambda: refused(on) == 2)
            assert peer.heard == heard
            on.listener.round(heard + 11)
            assert on.connections.ends == [("alice", Disconnect.SILENT)]

    played(story)


def test_a_login_to_another_account_needs_the_token() -> None:
    async def story() -> None:
        async with stage() as on:
            client, token = await with_token(on)
            client.sock.send(login("mallory"))
            await until(5, "dropped", lambda: refused(on) == 1)
            assert on.peer().session is not None
            client.sock.send(token + login("bob"))
            second = await token_of(client)
            assert second != token
            assert on.connections.ends == [("alice", Disconnect.REPLACED)]
            client.sock.send(second + KEEP_ALIVE)
            assert (await client.take())["type"] == 51

    played(story)


def test_who_lost_the_token_gets_the_same_one_for_the_password() -> None:
    async def story() -> None:
        async with stage() as on:
            client, token = await with_token(on)
            client.sock.send(login(secret="no"))
            await until(
                5, "it is tried", lambda: on.core.handled[-1:] == [Login("alice", 0, "no", 0, wants_token=True)]
            )
            await until(5, "and over", lambda: not on.listener.logging_in)
            assert client.heard() == [], "the client at this address did not ask"
            client.sock.send(login(asks=False))
            await until(5, "dropped: it could not be answered with a token", lambda: refused(on) == 1)
            client.sock.send(login())
            assert await token_of(client) == token
            client.sock.send(token + KEEP_ALIVE)
            assert (await client.take())["type"] == 51

    played(story)


def test_while_it_logs_in_again_its_old_session_says_no_goodbye() -> None:
    """The client would take it for the end of the new one."""

    async def story() -> None:
        async with stage() as on:
            client, token = await with_token(on)
            before = on.peer()
            on.core.gate.clear()
            client.sock.send(login())
            await until(5, "under way", lambda: on.listener.logging_in)
            before.push(Kicked(False, "logged in elsewhere"))
            before.close(Disconnect.KICKED_DUPLICATE)
            on.core.gate.set()
            assert await token_of(client) == token
            on.peer().push(Kicked(False, "really"))
            assert (await client.take())["type"] == 54

    played(story)


def test_from_an_unknown_address_a_token_means_nothing() -> None:
    async def story() -> None:
        async with stage() as on:
            _, token = await with_token(on)
            other = on.client()
            message = json.dumps({"type": 2, "to": "bob", "dataContent": "x" * 100, "fp": "f", "QoS": True}).encode()
            other.sock.send(token + message)
            packet = await other.take()
            assert json.loads(packet["dataContent"])["errorCode"] == 301
            assert not any(isinstance(command, SendMessage) for command in on.core.handled)
            other.sock.send(token + login("bob"))
            assert await token_of(other) not in (b"", token)

    played(story)


def test_what_waits_for_a_slow_command_is_served_without_its_tokens() -> None:
    async def story() -> None:
        async with stage() as on:
            client, token = await with_token(on)
            on.core.gate.clear()
            slow = json.dumps({"type": 2, "to": "slow", "dataContent": "x", "fp": "f", "QoS": True}).encode()
            client.sock.send(token + slow)
            client.sock.send(token + KEEP_ALIVE)
            await asyncio.sleep(0)
            on.core.gate.set()
            assert [(await client.take())["type"] for _ in range(2)] == [4, 51]

    played(story)
