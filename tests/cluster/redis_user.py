"""Somebody who may use the Redis of a cluster but has no key, and what they try with it.

Owns: RedisUser, who records and publishes, and attacks(), which says what they achieved.
Elsewhere: that nothing is achieved (test_forged_bus), and that all of it is where nothing is verified
(test_planted_bugs).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

import redis

from chatd.bus.contract import EVERYBODY, topic_of_user
from chatd.bus.redis.envelope import Sealer
from chatd.bus.redis.keyring import Keyring
from chatd.bus.redis.keys import RedisKeys
from chatd.core import bus_messages
from chatd.core.bus_messages import BusMessage, KickAsked, MessageStored, SessionChallenge, SessionEnded
from chatd.model import Message, Protocol
from tests.conversations.test_kick import ctl
from tests.harness.cluster import Cluster
from tests.harness.deadline import until
from tests.harness.mobileimsdk import DATA, MobilePeer
from tests.harness.person import Town

LIMIT_S = 10.0


class RedisUser:
    def __init__(self, cluster: Cluster) -> None:
        self._client = redis.Redis.from_url(cluster.redis.url)
        self._keys = RedisKeys("chatd")
        self._listener = self._client.pubsub()
        self._listener.psubscribe("chatd:*")
        self._recorded: list[tuple[bytes, bytes]] = []

    def close(self) -> None:
        self._listener.close()
        self._client.close()

    def forge(self, topic: int, message: BusMessage) -> None:
        """As a worker that has just started would say it, which has no key."""
        channel = self._keys.topic(topic)
        stranger = Sealer(uuid.uuid4().bytes[:8], Keyring())
        self._client.publish(channel, stranger.message(channel, bus_messages.encode(message)))

    def record(self) -> list[tuple[bytes, bytes]]:
        """Everything published on topics until now, with what was recorded before."""
        while (one := self._listener.get_message(timeout=0.2)) is not None:
            if one["type"] == "pmessage" and one["channel"].rpartition(b":")[2][:1] in b"ugpa":
                self._recorded.append((one["channel"], one["data"]))
        return self._recorded

    def replay(self) -> None:
        for channel, raw in self.record():
            self._client.publish(channel, raw)


async def attacks(cluster: Cluster) -> set[str]:
    """The attacks that succeeded. Every victim is a session on the second host."""
    town = Town(cluster.daemons[0])
    there = Town(cluster.daemons[1], town.ids, town.secret, town.suffixes)
    attacker = RedisUser(cluster)
    try:
        return {attack.__name__ for attack in ATTACKS if await attack(attacker, town, there)}
    finally:
        attacker.close()


async def victim_of(town: Town, there: Town) -> tuple[str, int, MobilePeer]:
    name = await town.newcomer("victim")
    return name, town.ids[name], await there.on_mobile(name)


async def harmed(town: Town, name: str, peer: MobilePeer) -> str:
    """What happened to the victim before a genuine message arrived; "" = nothing."""
    friend = await town.newcomer("friend")
    sender = await town.on_mobile(friend)
    sender.say(friend, name, "genuine", str(uuid.uuid4()))
    forged: list[str] = []

    def settled() -> bool:
        while peer.frames:
            packet = peer.frames.popleft()
            if packet.get("type") == DATA and packet["from"] != "0":
                forged.append(f"{packet['from']}: {packet['dataContent']}")
        return peer.gone.is_set() or f"{friend}: genuine" in forged

    await until(LIMIT_S, "a genuine message, or the end", settled)
    sender.close()
    if peer.gone.is_set():
        return "its session was ended"
    peer.close()
    forged.remove(f"{friend}: genuine")
    return ", ".join(forged)


async def forge_message(attacker: RedisUser, town: Town, there: Town) -> str:
    """In the name of another user, who never wrote it."""
    name, number, peer = await victim_of(town, there)
    boss = await town.newcomer("boss")
    message = Message(
        conversation=1 << 40, seq=1, sender_id=town.ids[boss], sender_name=boss, to_id=number, to_name=name, group_id=0,
        body="send me the password", fp="forged", qos=True, typeu=-1, sent_at_ms=int(time.time() * 1000),
    )  # fmt: skip
    attacker.forge(topic_of_user(number), MessageStored(message))
    return await harmed(town, name, peer)


async def forge_kick(attacker: RedisUser, town: Town, there: Town) -> str:
    name, number, peer = await victim_of(town, there)
    attacker.forge(EVERYBODY, KickAsked(number, "forged", 1))
    return await harmed(town, name, peer)


async def forge_challenge(attacker: RedisUser, town: Town, there: Town) -> str:
    """The victim seems to log in elsewhere."""
    name, number, peer = await victim_of(town, there)
    challenge = SessionChallenge(number, int(Protocol.MOBILEIMSDK), 0, 1, 0, True)
    attacker.forge(topic_of_user(number), challenge)
    return await harmed(town, name, peer)


async def forge_end(attacker: RedisUser, town: Town, there: Town) -> str:
    name, number, peer = await victim_of(town, there)
    attacker.forge(topic_of_user(number), SessionEnded(number, 0))
    return await harmed(town, name, peer)


async def replay_kick(attacker: RedisUser, town: Town, there: Town) -> str:
    """An operator's genuine order is repeated after the user has come back. The order is given on the first host."""
    name, _, peer = await victim_of(town, there)
    attacker.record()
    code, shown, _ = await ctl(town, "kick", name)
    assert (code, shown) == (0, "sessions ended: 1")
    await peer.end()
    peer = await there.on_mobile(name)
    await asyncio.sleep(0.1)  # older than the order was when it was given
    attacker.replay()
    return await harmed(town, name, peer)


async def replay_challenge(attacker: RedisUser, town: Town, there: Town) -> str:
    """The user has once moved from the second host to the first, and has come back."""
    name, _, peer = await victim_of(town, there)
    moved = await town.on_mobile(name)
    await peer.end()
    attacker.record()
    peer = await there.on_mobile(name)
    await moved.end()
    attacker.replay()
    return await harmed(town, name, peer)


ATTACKS: tuple[Callable[[RedisUser, Town, Town], Awaitable[str]], ...] = (
    forge_message, forge_kick, forge_challenge, forge_end, replay_kick, replay_challenge,
)  # fmt: skip
