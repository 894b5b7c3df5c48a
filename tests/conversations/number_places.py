"""Every place of every operation in which a number may stand.

Owns: requests_with_a_number(), made of the table of operations, so that no operation is forgotten.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import inspect

from chatd.core.requests.operations import described

_NUMBER = "<number>"


def requests_with_a_number() -> list[str]:
    """Requests in JSON, each with one `%s`."""
    found = []
    for op, operation in described().items():
        fields = inspect.type_info(operation.arguments).fields  # type: ignore[attr-defined]
        needed = {field.encode_name: _sensible(field.type) for field in fields if field.required}
        for field in fields:
            for value in _with_number(field.type):
                body = json.dumps({"op": op, "ref": 1, **needed, field.encode_name: value})
                found.append(body.replace("%", "%%").replace(f'"{_NUMBER}"', "%s"))
    return found


def _with_number(kind: msgspec.inspect.Type) -> list[Any]:
    """Values of this type that have the number in them."""
    match kind:
        case inspect.IntType():
            return [_NUMBER]
        case inspect.ListType():
            return [[value] for value in _with_number(kind.item_type)]
        case inspect.DictType():
            return [{"#1": value} for value in _with_number(kind.value_type)]
        case inspect.UnionType():
            return [value for one in kind.types for value in _with_number(one)]
    return []


def _sensible(kind: msgspec.inspect.Type) -> Any:
    match kind:
        case inspect.IntType():
            return 1
        case inspect.StrType():
            return "#1"
        case inspect.BoolType():
            return True
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.ListType():
            return [_sensible(kind.item_type)]
        case inspect.UnionType():
            return _sensible(kind.types[0])
    raise AssertionError(kind)
