"""Requests to the server and to the master, and names, that make sense, nearly make sense, or make none."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec

from chatd.core.requests.dispatch import OperationTable
from tests.wire.test_fuzz import mutate

STRANGE: list[Any] = [
    None, True, 0, -1, 1, 7, 2**31, 2**53, 2**62 - 1, 2**62, 2**64, -(2**63), 10**30, 1.5, 1e308, "", " ", "0", "-1",
    "#", "#1", "#2", "#0", "#01", "#99999999999999999999", "²", "\0", "😀" * 20, "x" * 65, "x" * 500, "\1" * 300,
    '"\\' * 100, [], {}, [[]], [None], {"a": {"b": [1]}}, ["alice"] * 101,
]  # fmt: skip
NONE = ["", "hello", "[]", "null", '{"op":null}', "{" * 2000, "[" * 4000, '{"op":' * 600, '{"op":1}']
LINES = ["", "hello", "é😀", '"\\\n\1', "x" * 150]
ALPHABETS = [
    "abcXYZ 019._-", "\u03b1\u03b2\u03b3\u0430\u0431\u0432Oo0Il1", "\u05d0\u05d1\u05d2\u0627\u0628\u062c12",
    "日本語한글ㄅㄆ", "\u200b\u200c\u200d\u200e\u202e\u2066\ufe0f",
    "é\u0301\u0302\u0303😀🏴\U000e0067\U000e007f", "\0\n\r\t\x1b\x7f\x85\u2028\ud800\udfff\ue000\u0378\ufdfa",
]  # fmt: skip
CONTROL = [
    {"cmd": "status"}, {"cmd": "penalties"}, {"cmd": "sessions", "user_id": 7}, {"cmd": "reload"},
    {"cmd": "stop", "fast": True}, {"cmd": "clear-penalties", "subject": "192.0.2.1"}, {"cmd": "config"},
    {"cmd": "clear-penalties", "everything": True},
    {"cmd": "kick", "user": "alice", "reason": "é😀", "credentials": 3}, {"cmd": "log-level", "level": "DEBUG"},
    {"cmd": "scale", "step": 1, "force": False}, {"cmd": "config-diff"}, {"cmd": "reopen"},
    {"cmd": "record", "event": "account_locked", "name": "alice", "user": 7, "detail": "x", "uid": 0, "by": "root"},
]  # fmt: skip
CONTROL_LINES = [json.dumps({"v": 1, **one}, ensure_ascii=False).encode() for one in CONTROL]


def some_text(rng: random.Random) -> str:
    alphabet = "".join(rng.sample(ALPHABETS, rng.randint(1, 2)))
    return "".join(rng.choices(alphabet, k=rng.choice([0, 1, 3, 10, 300])))


class Writer:
    """people and groups: whom a request that makes sense may name."""

    def __init__(self, table: OperationTable, people: list[str]) -> None:
        self.fields = {name: msgspec.inspect.type_info(op.arguments) for name, op in table.items()}
        self.people = people
        self.groups = [1, 2]

    def text(self, rng: random.Random) -> str:
        kind = rng.random()
        if kind < 0.05:
            return rng.choice(NONE)
        text = json.dumps(self.request(rng, wild=kind > 0.6), ensure_ascii=rng.random() < 0.5)
        if kind > 0.9:
            text = mutate(text.encode(errors="replace"), rng).decode(errors="replace")
        return text

    def request(self, rng: random.Random, wild: bool) -> dict[str, Any]:
        op = rng.choice([*self.fields])
        made: dict[str, Any] = {"op": op, "ref": rng.choice([1, "r", None, '"' * 64, "\1"])}
        for field in self.fields[op].fields:  # type: ignore[attr-defined]
            if field.required or rng.random() < 0.4:
                made[field.encode_name] = self.value(rng, field.type)
        if wild:
            for _ in range(rng.randint(1, 3)):
                made[rng.choice([*made, "more", "ref"])] = rng.choice(STRANGE)
            if rng.random() < 0.2:
                del made[rng.choice([*made])]
        return made

    def value(self, rng: random.Random, kind: msgspec.inspect.Type) -> Any:
        inspect = msgspec.inspect
        match kind:
            case inspect.StrType():
                place = rng.choice([*self.people, *(f"#{number}" for number in self.groups)])
                return place if kind.min_length else rng.choice(LINES)
            case inspect.IntType():
                return rng.choice([*self.groups, *self.groups, 0, 1, 3, 50, 200])
            case inspect.BoolType():
                return rng.random() < 0.5
            case inspect.LiteralType():
                return rng.choice(kind.values)
            case inspect.ListType():
                return [self.value(rng, kind.item_type) for _ in range(rng.randint(1, 4))]
            case inspect.DictType():
                return {rng.choice(self.people): rng.randint(0, 5)}
            case inspect.UnionType():
                return rng.choice([*self.people, 1, 2, 3])
        raise AssertionError(kind)
