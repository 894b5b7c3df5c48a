"""Control messages: what the buses of a cluster tell each other, apart from what they publish for the chat.

    hello   a worker is here, or has other connections now: what it says about itself (RegisteredWorker)
    bye     a worker leaves: its token
    gone    a worker was found lost: token, epoch, whether it is known to be dead
    gap     publishes of the sender may have been lost: number, whether this goes on
    canary  to the sender itself: number

Owns: their form, sending them, and acting on those received.
Elsewhere: the envelope around them (bus.redis.envelope).
Fails: a message that is not understood raises in ControlReceiver.receive(). Unknown words are ignored: they come from a
later version.

Each is a MessagePack array of the word and its values, to which later versions may append. They go over plain channels
through every server, because any of them may be failing; so each message may arrive more than once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from chatd.bus.redis.canary import Canary
from chatd.bus.redis.envelope import TOKEN, Opener, Sealer
from chatd.bus.redis.gaps import GapReporter
from chatd.bus.redis.keys import RedisKeys
from chatd.bus.redis.membership import ClusterMembership, RegisteredWorker
from chatd.bus.redis.topology import Topology, is_whole

_GAP_SENDERS = 10_000
"""Maximum senders whose last gap number is remembered."""


class ControlSender:
    def __init__(self, topology: Topology, keys: RedisKeys, token: bytes, sealer: Sealer) -> None:
        """token: this worker's. sealer: makes its messages."""
        self._topology = topology
        self._keys = keys
        self._token = token.hex()
        self._sealer = sealer
        self._gap_numbers = itertools.count(1)

    def hello(self, worker: RegisteredWorker) -> None:
        self._announce("hello", msgspec.to_builtins(worker))

    def bye(self) -> None:
        self._announce("bye", self._token)

    def gone(self, worker: RegisteredWorker, dead: bool) -> None:
        self._announce("gone", worker.token, worker.epoch, dead)

    def gap(self) -> bool:
        """False: no server can be reached now."""
        if not any(node.is_connected for node in self._topology.all()):
            return False
        self._announce("gap", next(self._gap_numbers), not is_whole(self._topology))
        return True

    def canary(self, canary: Canary) -> None:
        """Through each server in turn; not at all while none is up."""
        if up := [node for node in self._topology.all() if node.is_up]:
            number = canary.next()
            channel = self._keys.worker(self._token)
            up[number % len(up)].publish(self._framed(channel, "canary", number))

    def _announce(self, word: str, *values: Any) -> None:
        framed = self._framed(self._keys.all_workers, word, *values)
        for node in self._topology.all():
            if node.is_connected:
                node.publish(framed)

    def _framed(self, channel: bytes, word: str, *values: Any) -> bytes:
        data = msgspec.msgpack.encode((word, *values))
        return self._sealer.command(b"PUBLISH", channel, data)


class ControlReceiver:
    def __init__(
        self, membership: ClusterMembership, gaps: GapReporter, canary: Canary, token: bytes, opener: Opener
    ) -> None:
        """token: this worker's. opener: checks the messages, from whichever server they come."""
        self._membership = membership
        self._gaps = gaps
        self._canary = canary
        self._own_token = token
        self._opener = opener
        self._last_gaps: dict[bytes, int] = {}
        """The number of the last gap of each sender."""

    def receive(self, channel: bytes, raw: bytes) -> None:
        """Act on one message, whose envelope is still around it.

        Raises:
            envelope.Forged: it is to be dropped; a copy that came through another server before is REPLAYED.
            envelope.TooNew: it must not be read by this version.
            ValueError, TypeError, RecursionError: it is not a control message.
        """
        word, *values = msgspec.msgpack.decode(self._opener.content(channel, raw))
        handler = _HANDLERS.get(word)
        if handler is not None:
            handler(self, raw[TOKEN], *values)

    def _on_hello(self, sender: bytes, worker: Any, *_: Any) -> None:
        self._membership.add(msgspec.convert(worker, RegisteredWorker))

    def _on_bye(self, sender: bytes, token: str, *_: Any) -> None:
        self._membership.remove(token)

    def _on_gone(self, sender: bytes, token: str, epoch: int, dead: bool = False, *_: Any) -> None:
        self._membership.lose(token, epoch, dead)

    def _on_gap(self, sender: bytes, number: int, lasting: bool = False, *_: Any) -> None:
        if sender != self._own_token and self._last_gaps.get(sender, 0) < number:
            if len(self._last_gaps) > _GAP_SENDERS:
                self._last_gaps.clear()
            self._last_gaps[sender] = number
            self._gaps.report(lasting)

    def _on_canary(self, sender: bytes, number: int, *_: Any) -> None:
        self._canary.received(number)


_HANDLERS: dict[str, Callable[..., None]] = {
    "hello": ControlReceiver._on_hello,
    "bye": ControlReceiver._on_bye,
    "gone": ControlReceiver._on_gone,
    "gap": ControlReceiver._on_gap,
    "canary": ControlReceiver._on_canary,
}
