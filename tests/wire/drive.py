"""How codecs are driven in tests: whole, byte by byte, with the next frame glued on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from chatd.errors import WireError
from chatd.protocol import Command
from chatd.wire.contract import Codec

Heard = tuple[list[Command], WireError | None]
Make = Callable[[], Codec]


def hear(codec: Codec, reads: Iterable[bytes]) -> Heard:
    """The commands in `reads`, and the WireError that ended them."""
    commands: list[Command] = []
    try:
        for data in reads:
            for command in codec.receive(data):
                commands.append(without_packet(command))
    except WireError as error:
        return commands, error
    return commands, None


def without_packet(command: Command) -> Command:
    """The packet that is kept for a refusal before the login is what was received; tests of refusals look at it."""
    return msgspec.structs.replace(command, packet=b"") if getattr(command, "packet", b"") else command


def one_byte_each(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def three_ways(make: Make, frame: bytes, command: Command, following: tuple[bytes, Command]) -> None:
    """`frame` means `command`: alone, byte by byte, and glued between others, itself cut or not."""
    next_frame, next_command = following
    assert hear(make(), [frame]) == ([command], None)
    assert hear(make(), one_byte_each(frame)) == ([command], None)
    assert hear(make(), [next_frame + frame + next_frame]) == ([next_command, command, next_command], None)
    for cut in range(1, len(frame)):
        glued = [frame[:cut], frame[cut:] + next_frame]
        assert hear(make(), glued) == ([command, next_command], None), f"cut at {cut}"


def objects(value: str) -> dict[str, Any]:
    """A JSON text inside a string."""
    found: dict[str, Any] = json.loads(value)
    return found


def told(error: WireError | None) -> tuple[int, int] | None:
    return None if error is None else (int(error.code), error.ref)
