"""Everything printed from the schema: the sample file, the manual page, and the effective configuration of `chatd -T`.

Owns: those texts, and masking what must not be printed. `python -m chatd.config.render sample|manual` writes
etc/chatd.toml and man/chatd.toml.5.
Elsewhere: the descriptions of options and how a value is written (config.schema).
Fails: never.
"""

from __future__ import annotations

import functools
import re
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import msgspec

from chatd.arguments import without_passwords
from chatd.config import urls
from chatd.config.load import Loaded
from chatd.config.options import Option, allowed_values, options_of, toml
from chatd.config.schema import ARRAYS, SECTIONS, Config, ListenerOptions
from chatd.errors import Exit

EFFECTS = {
    "live": "at a reload",
    "worker": "at a reload, in workers started after it",
    "restart": "at a restart",
}

_HEAD = """\
# chatd.toml: every option with its default. Generated from the schema, like `man chatd.toml`.
# `chatd -t` tests a changed file, `chatctl reload` applies it without ending a session.
# Changes take effect at the reload unless noted. store.url, bus.url, each of bus.keys, token_key.secret and public_key,
# login_http.secret, push.key, files.s3_settings, bridge.url and each of webhook.secrets may also be "env:NAME" or
# "file:PATH".
"""


def sample() -> str:
    """The text of etc/chatd.toml: a valid file with the built-in defaults."""
    parts = [_HEAD]
    for section, kind in SECTIONS.items():
        if section == "listen":
            parts += [_sample_listen(index, one) for index, one in enumerate(Config().listen)]
            parts += [_SAMPLE_UDP, _SAMPLE_HTTP]
            continue
        if section in _SAMPLE_ARRAYS:
            parts.append(_sample_array(section))
            continue
        lines = [f"[{section}]"]
        for option in options_of(kind):
            lines += [_comment(option), f"{option.name} = {toml(option.default)}"]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


_OPENS = """\
# Lets in {protocol} clients{way} on every address of this host ({host}). Where only this host or one network
# should reach it, write that address; delete the section to close it."""
_WAYS = {"tcp": "", "ws": " over WebSocket"}

_SAMPLE_UDP = """\
# MobileIMSDK clients over UDP; closed by default. Opening it means that stock clients, which have no token, can be
# impersonated by anybody who forges the address of their datagrams; clients of your own should ask for a token
# (docs/protocols/mobileimsdk.md).
# [[listen]]
# protocol = "mobileimsdk"
# address = "udp://0.0.0.0:7901"
"""


_SAMPLE_HTTP = """\
# The HTTP API for applications (docs/api.md); closed by default. Every request needs a key (chatctl key add). Other
# hosts should reach it over https:// only.
# [[listen]]
# protocol = "http"
# address = "http://127.0.0.1:8080"
"""


def _sample_listen(index: int, one: ListenerOptions) -> str:
    where = urls.parse(one.address)
    opens = _OPENS.format(protocol=one.protocol, way=_WAYS[where.transport], host=where.host)
    lines = [opens, "[[listen]]"]
    for option in options_of(SECTIONS["listen"]):
        required = option.default is msgspec.NODEFAULT
        if index == 0:
            lines.append(_comment(option))
        if required or index == 0:
            lines.append(f"{'' if required else '# '}{option.name} = {toml(getattr(one, option.name))}")
    return "\n".join(lines) + "\n"


_SAMPLE_ARRAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "hook": (
        "A plug-in; several are called in the order of this file. None by default (docs/hooks.md).",
        {"name": "echo", "fail": "open"},
    ),
    "token_key": (
        'A key of login tokens, for login = "token"; there may be several. None by default (docs/tokens.md).',
        {"kid": "2026", "algorithm": "HS256", "secret": "file:token.secret"},
    ),
    "webhook": (
        "A URL that is told what happens; there may be several. None by default (docs/webhooks.md).",
        {"name": "backend", "url": "https://backend.example/chat-events", "secrets": ("file:webhook.secret",)},
    ),
    "bridge": (
        "A MobileIMSDK server whose users and those of chatd reach each other, while you move them. None by default\n"
        "# (docs/bridges.md).",
        {"name": "java", "url": "file:bridge.url", "users": ("*",)},
    ),
}
"""By section: what it is, and the options of its example that differ from the defaults."""


def _sample_array(section: str) -> str:
    about, example = _SAMPLE_ARRAYS[section]
    lines = [f"# {about}", f"# [[{section}]]"]
    for option in options_of(SECTIONS[section]):
        value = example.get(option.name, option.default)
        lines += [_comment(option), f"# {option.name} = {toml(value)}"]
    return "\n".join(lines) + "\n"


def _comment(option: Option) -> str:
    when = "" if option.effect == "live" else f". Takes effect {EFFECTS[option.effect]}"
    text = f"{option.description} ({allowed_values(option)}){when}"
    return "\n".join(f"# {line}" for line in textwrap.wrap(text, 110))


_TITLES = {
    "listen": "[[listen]], one or more",
    "token_key": "[[token_key]], a key of login tokens",
    "hook": "[[hook]], a plug-in",
    "webhook": "[[webhook]], a URL that is told what happens",
    "bridge": "[[bridge]], a MobileIMSDK server that is reached over RabbitMQ",
}
_LOWER_CASE = ("tcp", "ws", "mysql", "redis", "chatserver", "mobileimsdk", "open = any password is right")
"""Names, with which a description may begin."""


def manual() -> str:
    """The text of man/chatd.toml.5."""
    parts = [
        '.TH CHATD.TOML 5 "" "chatd" "chatd"',
        ".SH NAME\nchatd.toml \\- configuration of the chatd instant-messaging server",
        ".SH DESCRIPTION",
        "The file is TOML. Every option may be left out; an unknown one is an error. Directories are relative to the",
        "file. \\fBchatd \\-t\\fR tests a file, \\fBchatd \\-T\\fR prints what is in effect, \\fBchatctl reload\\fR",
        "applies a change. All mistakes are reported at once, one line each.",
        ".PP",
        "store.url, bus.url, each of bus.keys, token_key.secret and public_key, login_http.secret, push.key,",
        'files.s3_settings, bridge.url, each of webhook.secrets may be "env:NAME" or "file:PATH", to keep a secret',
        "out of this file.",
        "If chatd is started as root, only root needs to be able to read a secret file: it is read before",
        "chatd becomes server.user. A reload can no longer read it, keeps the value and logs a warning. Under the",
        "systemd unit, which starts chatd as the user chatd, that user must be able to read it. The configuration",
        "file itself must be readable by server.user.",
        ".PP",
        "No other user of the host may be able to change this file, the files it names, server.state_dir, runtime_dir",
        "and log_dir, or a directory that leads to one of them; nor to read the database, a secret file, or this file",
        "if it holds a secret. Otherwise chatd does not start, and says what to do (\\fB\\-\\-no\\-strict\\fR skips",
        "this).",
    ]
    for section, kind in SECTIONS.items():
        title = _TITLES.get(section, f"[{section}]")
        parts.append(f".SH {title}")
        for option in options_of(kind):
            default = "" if option.default is msgspec.NODEFAULT else f" Default: {roff(toml(option.default))}."
            text = option.description
            text = text if text.split(":")[0].split(",")[0] in _LOWER_CASE else text[:1].upper() + text[1:]
            parts.append(
                f".TP\n\\fB{option.name}\\fR = {roff(allowed_values(option))}\n{roff(text)}."
                f"{default} Takes effect {EFFECTS[option.effect]}."
            )
    parts.append(".SH SEE ALSO\nchatd(8), chatctl(8)")
    return "\n".join(parts) + "\n"


def roff(text: str) -> str:
    """Text that roff prints as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped


def effective(loaded: Loaded) -> str:
    """The configuration in effect as TOML, passwords masked, each value with its source."""
    return f"# {loaded.name}\n" + sections(loaded.config, loaded.sources)


def sections(config: Config, sources: Mapping[str, str] | None = None) -> str:
    """`config` as TOML, passwords masked. sources: of each value, printed as a comment."""

    def comment(key: str) -> str:
        return "" if sources is None else f"  # {sources.get(key, 'default')}"

    lines: list[str] = []
    for section, kind in SECTIONS.items():
        is_array = section in ARRAYS
        for one in getattr(config, section) if is_array else [getattr(config, section)]:
            head = f"\n[[{section}]]{comment(section)}" if is_array else f"\n[{section}]"
            lines.append(head)
            for option in options_of(kind):
                suffix = "" if is_array else comment(f"{section}.{option.name}")
                lines.append(f"{option.name} = {toml(_shown(option, getattr(one, option.name)))}{suffix}")
    return "\n".join(lines) + "\n"


HIDDEN = "***"
_SECRET = re.compile("password|secret|token|key", re.IGNORECASE)


def _shown(option: Option, value: Any) -> Any:
    """What may be shown of the value of an option."""
    return hide(value) if option.secret else mask(value)


def hide(value: Any) -> Any:
    """As many stars as there are secrets."""
    return [hide(one) for one in value] if isinstance(value, list | tuple) else HIDDEN if value else value


@functools.cache
def _secret_options() -> frozenset[str]:
    """Not made when the module is loaded, as most commands of chatctl show no configuration."""
    return frozenset(
        f"{section}.{option.name}" for section, kind in SECTIONS.items() for option in options_of(kind) if option.secret
    )


_INDEX = re.compile(r"\[.*\]")


def mask_option(key: str, value: Any) -> Any:
    """What may be shown of the value of the option `section.option`, or of an array `section[INDEX].option`."""
    return hide(value) if _INDEX.sub("", key) in _secret_options() else mask(value)


def mask_config(config: Config) -> Config:
    """A copy whose every value may be shown."""
    tree = _mask_all(msgspec.to_builtins(config))
    for key in _secret_options():
        section, option = key.split(".")
        for table in tree[section] if section in ARRAYS else [tree[section]]:
            table[option] = hide(table[option])
    return msgspec.convert(tree, Config)


def holds_secret(loaded: Loaded) -> bool:
    """Whether the file itself holds a password or a key, which file: or env: would keep out of it."""
    config = loaded.config
    written = {key: one.value for key, one in loaded.secrets.items()}
    urls = [(key, url) for key, url in (("store.url", config.store.url), ("bus.url", config.bus.url))]
    if any(key not in written and mask(url) != url for key, url in urls):
        return True
    if any(f"bus.keys[{at}]" not in written for at in range(len(config.bus.keys))):
        return True
    if any(one.secret and f"token_key[{at}].secret" not in written for at, one in enumerate(config.token_key)):
        return True
    secrets = {
        "login_http.secret": config.login_http.secret,
        "files.s3_settings": config.files.s3_settings,
        "push.key": config.push.key,
    }
    if any(value and key not in written for key, value in secrets.items()):
        return True
    webhooks = [
        f"webhook[{at}].secrets[{of}]" for at, one in enumerate(config.webhook) for of in range(len(one.secrets))
    ]
    if any(key not in written for key in webhooks):
        return True
    if any(f"bridge[{at}].url" not in written for at in range(len(config.bridge))):
        return True
    return any(mask(one.options) != one.options for one in config.hook)


def _mask_all(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _mask_all(one) if key != "options" else mask(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_mask_all(one) for one in value]
    return mask(value)


def mask(value: Any) -> Any:
    """A URL without its password, a table without what its names call secret; anything else unchanged."""
    if isinstance(value, dict):
        return {key: "***" if _SECRET.search(key) else mask(one) for key, one in value.items()}
    if not isinstance(value, str):
        return value
    return without_passwords(value)


def main(arguments: list[str]) -> int:
    texts = {"sample": sample, "manual": manual}
    if len(arguments) != 1 or arguments[0] not in texts:
        sys.stderr.write("usage: python -m chatd.config.render sample|manual\n")
        return Exit.USAGE
    sys.stdout.write(texts[arguments[0]]())
    return Exit.OK


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
