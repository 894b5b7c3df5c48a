"""Everything printed from the schema: the sample file, the manual page, and the effective configuration of `-T`.

Owns: those texts. `python -m chatd.config.render sample|manual` writes etc/chatd.toml and man/chatd.toml.5.
"""

from __future__ import annotations

import re
import sys
import textwrap
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from chatd.config.load import Loaded
from chatd.config.schema import ARRAYS, SECTIONS, Config, Option, options_of
from chatd.errors import Exit

EFFECTS = {
    "live": "at reload",
    "worker": "at reload, in workers started from then on",
    "restart": "at a restart",
}

_HEAD = """\
# chatd.toml: every option with its default. Generated from the schema; `man chatd.toml` says the same.
# After a change: `chatd -t` tests it, `chatctl reload` applies it without ending a session.
# Where the effect is not said, it comes with the reload. store.url and bus.url may be "env:NAME" or "file:PATH".
"""


def sample() -> str:
    """The text of etc/chatd.toml: a valid file that says what the built-in defaults say."""
    parts = [_HEAD]
    for section, kind in SECTIONS.items():
        if section == "listen":
            parts += [_sample_listen(index, one) for index, one in enumerate(Config().listen)]
            continue
        if section == "hook":
            parts.append(_sample_hook())
            continue
        lines = [f"[{section}]"]
        for option in options_of(kind):
            lines += [_comment(option), f"{option.name} = {toml(option.default)}"]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _sample_listen(index: int, one: Any) -> str:
    lines = ["[[listen]]"]
    for option in options_of(SECTIONS["listen"]):
        required = option.default is msgspec.NODEFAULT
        if index == 0:
            lines.append(_comment(option))
        if required or index == 0:
            lines.append(f"{'' if required else '# '}{option.name} = {toml(getattr(one, option.name))}")
    return "\n".join(lines) + "\n"


def _sample_hook() -> str:
    lines = ["# A plug-in, in the order in which they are asked; none by default (docs/hooks.md).", "# [[hook]]"]
    for option in options_of(SECTIONS["hook"]):
        value = "echo" if option.default is msgspec.NODEFAULT else option.default
        lines += [_comment(option), f"# {option.name} = {toml(value)}"]
    return "\n".join(lines) + "\n"


def _comment(option: Option) -> str:
    when = "" if option.effect == "live" else f". Takes effect {EFFECTS[option.effect]}"
    text = f"{option.description} ({values(option)}){when}"
    return "\n".join(f"# {line}" for line in textwrap.wrap(text, 110))


def toml(value: Any) -> str:
    """`value` as TOML writes it."""
    if isinstance(value, dict):
        inside = ", ".join(f"{toml(key)} = {toml(one)}" for key, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(one) for one in value)}]"
    return msgspec.json.encode(value).decode()


def values(option: Option) -> str:
    """What may be written, in words: `integer 1..256`, `"a" or "b"`."""
    return _kind(option.kind, option.ge, option.le)


def _kind(kind: Any, low: float | None, high: float | None) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(toml(value) for value in get_args(kind))
    if origin is Annotated:
        meta = kind.__metadata__[-1]
        return _kind(kind.__origin__, meta.ge, meta.le)
    if origin is dict:
        return "table"
    if origin is tuple:
        return f"list of {_kind(get_args(kind)[0], low, high)}s"
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part, low, high) for part in get_args(kind))
    name = {int: "integer", float: "number", str: "text", bool: "true or false"}[kind]
    if low is None and high is None:
        return name
    if high is None:
        return f"{name}, at least {low:g}"
    return f"{name} {low:.10g}..{high:.10g}"


_TITLES = {"listen": "[[listen]], one or more", "hook": "[[hook]], a plug-in"}


def manual() -> str:
    """The text of man/chatd.toml.5."""
    parts = [
        '.TH CHATD.TOML 5 "" "chatd" "chatd"',
        ".SH NAME\nchatd.toml \\- configuration of the chatd instant-messaging server",
        ".SH DESCRIPTION\nTOML. Every option may be left out. An unknown one is an error.",
        "Directories are relative to the file. \\fBchatd \\-t\\fR tests a file, \\fBchatd \\-T\\fR prints what is in",
        "effect, \\fBchatctl reload\\fR applies a change.",
        'store.url and bus.url may be "env:NAME" or "file:PATH", to keep a password out of this file.',
    ]
    for section, kind in SECTIONS.items():
        title = _TITLES.get(section, f"[{section}]")
        parts.append(f".SH {title}")
        for option in options_of(kind):
            default = "" if option.default is msgspec.NODEFAULT else f" Default: {roff(toml(option.default))}."
            text = option.description[:1].upper() + option.description[1:]
            parts.append(
                f".TP\n\\fB{option.name}\\fR = {roff(values(option))}\n{roff(text)}."
                f"{default} Takes effect {EFFECTS[option.effect]}."
            )
    parts.append(".SH SEE ALSO\nchatd(8), chatctl(8)")
    return "\n".join(parts) + "\n"


def roff(text: str) -> str:
    """Text that roff prints as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped


def effective(loaded: Loaded) -> str:
    """The configuration in effect as TOML, each value with where it comes from, passwords masked."""
    return f"# {loaded.name}\n" + sections(loaded.config, loaded.sources)


def sections(config: Config, sources: Mapping[str, str] | None = None) -> str:
    """`config` as TOML, passwords masked. sources: where each value comes from, as a comment."""

    def comment(key: str) -> str:
        return "" if sources is None else f"  # {sources.get(key, 'default')}"

    lines: list[str] = []
    for section, kind in SECTIONS.items():
        is_array = section in ARRAYS
        for one in getattr(config, section) if is_array else [getattr(config, section)]:
            head = f"\n[[{section}]]{comment(section)}" if is_array else f"\n[{section}]"
            lines.append(head)
            for option in options_of(kind):
                tail = "" if is_array else comment(f"{section}.{option.name}")
                lines.append(f"{option.name} = {toml(mask(getattr(one, option.name)))}{tail}")
    return "\n".join(lines) + "\n"


_SECRET = re.compile("password|secret|token|key", re.IGNORECASE)


def mask(value: Any) -> Any:
    """A URL without its password, a table without what its names call secret; anything else as it is."""
    if isinstance(value, dict):
        return {key: "***" if _SECRET.search(key) else mask(one) for key, one in value.items()}
    if not isinstance(value, str):
        return value
    value = re.sub(r"(://[^/@:]*):[^@]*@", r"\1:***@", value)
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1***", value)


def main(arguments: list[str]) -> int:
    texts = {"sample": sample, "manual": manual}
    if len(arguments) != 1 or arguments[0] not in texts:
        sys.stderr.write("usage: python -m chatd.config_text sample|manual\n")
        return Exit.USAGE
    sys.stdout.write(texts[arguments[0]]())
    return Exit.OK


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
