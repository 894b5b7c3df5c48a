"""One option of the schema as data, for messages and documentation.

Owns: Option and options_of(), which read them from the structs of config.schema; a value and the allowed values in
words.
Elsewhere: the options themselves (config.schema).
Fails: never, except toml() for a value that no option takes.
"""

from __future__ import annotations

import functools
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from chatd.config.option import Effect


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One option, for messages and documentation. kind: its type without the limits; annotation: with them."""

    name: str
    kind: Any
    annotation: Any
    default: Any
    description: str
    effect: Effect
    ge: float | None
    le: float | None
    secret: bool


@functools.cache
def options_of(section: type[msgspec.Struct]) -> tuple[Option, ...]:
    """The options of one section, in the order of the schema. default: msgspec.NODEFAULT where one must be given."""
    hints = get_type_hints(section, include_extras=True)
    found = []
    for field in msgspec.structs.fields(section):
        meta = hints[field.name].__metadata__[-1]
        found.append(
            Option(
                name=field.name,
                kind=hints[field.name].__origin__,
                annotation=hints[field.name],
                default=field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory(),
                description=meta.description,
                effect=meta.extra["effect"],
                ge=meta.ge,
                le=meta.le,
                secret=meta.extra["secret"],
            )
        )
    return tuple(found)


def toml(value: Any) -> str:
    """`value` as TOML writes it. Raises TypeError for what has no such form here (dates)."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    if isinstance(value, dict):
        inside = ", ".join(f"{toml(key)} = {toml(one)}" for key, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(one) for one in value)}]"
    if isinstance(value, str | int | float | None):
        return msgspec.json.encode(value).decode()
    raise TypeError(type(value).__name__)


def allowed_values(option: Option) -> str:
    """The allowed values, in words: `integer 1..256`, `"a" or "b"`."""
    return _in_words(option.kind, option.ge, option.le)


def _in_words(kind: Any, low: float | None, high: float | None) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(toml(value) for value in get_args(kind))
    if origin is Annotated:
        meta = kind.__metadata__[-1]
        return _in_words(kind.__origin__, meta.ge, meta.le)
    if origin is dict:
        return "table"
    if origin is tuple and isinstance(get_args(kind)[0], type) and issubclass(get_args(kind)[0], msgspec.Struct):
        return f"list of tables {{ {', '.join(get_args(kind)[0].__struct_fields__)} }}"
    if origin is tuple and get_origin(get_args(kind)[0]) is Literal:
        return f"list of {_in_words(get_args(kind)[0], low, high)}"
    if origin is tuple:
        return f"list of {_in_words(get_args(kind)[0], low, high)}s"
    if origin in (Union, types.UnionType):
        return " or ".join(_in_words(part, low, high) for part in get_args(kind))
    name = {int: "integer", float: "number", str: "text", bool: "true or false"}[kind]
    if low is None and high is None:
        return name
    if high is None:
        return f"{name}, at least {low:g}"
    return f"{name} {low:.10g}..{high:.10g}"
