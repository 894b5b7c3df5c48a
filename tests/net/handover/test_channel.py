"""The socket between a worker and its successor."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine
from typing import Any

from chatd.net.handover.channel import Channel
from chatd.net.handover.messages import Arrived, HandoverMessage, Hello, Prepared
from tests.harness.deadline import run, until

MEGABYTE = 1024 * 1024


class End:
    """One end, and what came to it."""

    def __init__(self, sock: socket.socket) -> None:
        self.messages: list[HandoverMessage] = []
        self.descriptors: list[int] = []
        self.ends = 0
        self.channel = Channel(asyncio.get_running_loop(), sock, self._take, self._ended)

    def _take(self, message: HandoverMessage, descriptors: list[int]) -> None:
        self.messages.append(message)
        self.descriptors += descriptors

    def _ended(self) -> None:
        self.ends += 1


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def play(story: Coroutine[Any, Any, None]) -> None:
    run(story, 30.0)


def test_messages_of_any_size_arrive_in_order() -> None:
    """Far more than the kernel's buffer holds."""

    async def story() -> None:
        one, other = (End(sock) for sock in pair())
        sent = [
            Hello(version=number, lock_name=bytes(size)) for number, size in enumerate([0, 1, 49_000, 3 * MEGABYTE])
        ]
        for _ in range(3):
            for message in sent:
                one.channel.send(message)
        assert one.channel.queued
        await until(10, "everything is there", lambda: len(other.messages) == 3 * len(sent))
        assert other.messages == sent * 3
        one.channel.close()
        await until(5, "the end", lambda: other.ends)

    play(story())


def test_descriptors_come_with_their_message_and_are_closed_here() -> None:
    async def story() -> None:
        one, other = (End(sock) for sock in pair())
        read, write = os.pipe()
        one.channel.send(Hello(version=1, lock_name=bytes(MEGABYTE)), [write])
        await until(5, "it is there", lambda: other.messages)
        (received,) = other.descriptors
        assert not os.get_inheritable(received)
        os.write(received, b"x")
        os.close(received)
        assert os.read(read, 2) == b"x"
        assert os.read(read, 1) == b"", "another copy is open"
        os.close(read)
        one.channel.close()
        other.channel.close()

    play(story())


def test_descriptors_that_cannot_be_sent_are_closed() -> None:
    async def story() -> None:
        ours, theirs = pair()
        one = End(ours)
        for _ in range(50):
            one.channel.send(Hello(version=1, lock_name=bytes(MEGABYTE)))
        read, write = os.pipe()
        one.channel.send(Arrived(ref=1), [write])
        one.channel.close()
        assert os.read(read, 1) == b""
        read_2, write_2 = os.pipe()
        one.channel.send(Arrived(ref=1), [write_2])
        assert os.read(read_2, 1) == b""
        os.close(read)
        os.close(read_2)
        theirs.close()

    play(story())


def test_what_is_not_a_message_ends_the_channel_on_both_sides() -> None:
    async def story() -> None:
        ours, theirs = pair()
        one, descriptor = End(ours), theirs.dup()
        descriptor.send(b"\0this is no message")
        await until(5, "the end", lambda: one.ends)
        assert one.channel.closed
        assert not one.messages
        assert descriptor.recv(10) == b""
        descriptor.close()
        theirs.close()

    play(story())


def test_the_end_is_told_once_and_not_to_the_one_that_closes() -> None:
    async def story() -> None:
        one, other = (End(sock) for sock in pair())
        one.channel.send(Prepared(offers=1, refs=(1, 2)))
        one.channel.close()
        one.channel.close()
        await until(5, "the end", lambda: other.ends)
        assert other.messages == [Prepared(offers=1, refs=(1, 2))]
        other.channel.send(Arrived(ref=1))
        assert (one.ends, other.ends) == (0, 1)

    play(story())
