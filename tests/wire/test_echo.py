"""The echo wire."""

from __future__ import annotations

from chatd.errors import ErrorCode
from chatd.model import User
from chatd.protocol import Echo, Echoed, Failed, KeptAlive, LoginAccepted
from chatd.wire.echo import EchoCodec
from tests.wire.drive import hear


def test_every_read_is_one_echo_whatever_it_is() -> None:
    reads = [b"hello\r\n", b"\xff\x00", b'{"msgid":1}\0']
    assert hear(EchoCodec(), [*reads, b""]) == ([Echo(raw) for raw in reads], None)


def test_the_answer_has_the_server_s_mark() -> None:
    assert EchoCodec().encode(Echoed(b"hello\xff")) == b"hello\xff server[echo]"


def test_it_says_nothing_else() -> None:
    codec = EchoCodec()
    assert codec.encode(KeptAlive()) == b""
    assert codec.encode(Failed(ErrorCode.NOT_LOGGED_IN, "not logged in", Echo(b"x"))) == b""
    assert codec.encode_login(LoginAccepted(User(1, "alice"), 0)) == (b"", 0)
    assert codec.pace_ms == 0
