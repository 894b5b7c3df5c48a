"""Orders and answers: every one survives the socket, and anything else is refused without harm."""

from __future__ import annotations

import msgspec
import pytest

from chatd import orders
from chatd.config.schema import Config, LogOptions
from chatd.tls.certificates import Certificate

ORDERS = [
    orders.ReloadOrder(2, Config(log=LogOptions(level="DEBUG"))),
    orders.DrainOrder(4.0),
    orders.HandOverOrder(successor=3, within_s=4.0),
    orders.LogLevelOrder("ERROR"),
    orders.KickOrder(ref=1, user="alice", user_id=0, reason="why"),
    orders.ClearPenaltiesOrder(ref=1, subject="192.0.2.1"),
    orders.SessionsOrder(ref=1, user_id=7),
    orders.CertificatesOrder("tls://127.0.0.1:1", (Certificate(pem=b"pem", names=("a.example",), expires_at=1.0),)),
]
ANSWERS = [
    orders.ReloadDone(2),
    orders.ReloadRefused(2, "no"),
    orders.KickDone(ref=1, sessions=2, known=True, unanswered={"1": "b", "2": "c"}, cut_off=True, user_id=7),
    orders.CannotStart("no store"),
    orders.NotUnderstood("no such order"),
    orders.WorkerReady(),
    orders.CertificatesRefused("tls://127.0.0.1:1", "no"),
    orders.PenaltiesCleared(1, 3),
    orders.SessionsDone(
        ref=1,
        sessions=(orders.ShownSession("mobileimsdk", 5, "192.0.2.1:7", "a", 0),),
        complete=True,
    ),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: type(order).__name__)
def test_an_order_survives_the_socket(order: orders.Order) -> None:
    assert orders.decode_order(orders.encode(order)) == order


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_an_answer_survives_the_socket(answer: orders.Answer) -> None:
    assert orders.decode_answer(orders.encode(answer)) == answer


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"order": "explode"}',
        b'{"order": "drain"}',
        b'{"order": "drain", "within_s": "soon"}',
        b'{"order": "log", "level": "LOUD"}',
        b'{"order": "reload", "generation": 2, "config": {"log": {"level": "LOUD"}}}',
        orders.encode(ORDERS[0])[:-1],
        b'{"x": ' + b"[" * 30_000,
    ],
)
def test_anything_else_is_malformed(data: bytes) -> None:
    with pytest.raises(orders.MalformedMessage):
        orders.decode_order(data)
    with pytest.raises(orders.MalformedMessage):
        orders.decode_answer(data)


def test_an_answer_is_no_order() -> None:
    with pytest.raises(orders.MalformedMessage):
        orders.decode_order(orders.encode(ANSWERS[0]))


def test_the_largest_configuration_fits() -> None:
    """A hundred listeners with a hundred balancers each."""
    listener = msgspec.structs.replace(
        Config().listen[0], proxy_from=tuple(f"2001:db8:1234:5678::{number:x}/128" for number in range(50))
    )
    data = orders.encode(orders.ReloadOrder(1, Config(listen=(listener,) * 100)))
    assert len(data) <= orders.MAX_BYTES
