"""Read a configuration file and refuse what cannot work.

Owns: TOML -> Config: unknown keys, types, secrets from files and the environment, absolute paths, what options mean
together, what this host must have. The schema is config; printing is config_text.
Fails: ConfigError, one line `file: key: what`. Nothing is created, opened for writing or bound here.
"""

from __future__ import annotations

import difflib
import grp
import importlib.metadata
import importlib.util
import ipaddress
import math
import os
import pwd
import re
import resource
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from chatd.config import urls
from chatd.config.schema import ARRAYS, SECTIONS, Config, ListenerOptions, PluginOptions
from chatd.errors import ConfigError

DEFAULT_FILE = Path("/etc/chatd/chatd.toml")
BUILT_IN = "built-in defaults"

# What this version can do. A transport, store or bus is added here the day it works.
TRANSPORTS = ("tcp", "udp", "unix", "ws")
STORES = ("sqlite", "mysql")
BUSES = ("local", *urls.REDIS_SCHEMES)

DESCRIPTORS_BESIDES_CLIENTS = 160
"""Of one worker: 64 files of marks, the store, logs, order and life sockets, other workers, and what net.acceptor keeps
free to say busy with."""

HOOK_GROUP = "chatd.hooks"
"""Entry points (of any installed distribution) that are plug-ins."""

SECRET_KEYS = ("store.url", "bus.url")


@dataclass(frozen=True, slots=True)
class Loaded:
    """file: None = the built-in defaults. sources: `section.option` -> "file", "env:NAME" or "file:PATH"; a key that is
    not in it has its default."""

    config: Config
    file: Path | None
    sources: Mapping[str, str]

    @property
    def name(self) -> str:
        return str(self.file) if self.file else BUILT_IN


def load(file: str | Path | None) -> Loaded:
    """The configuration in `file`. None = the default file, or the built-in defaults if that does not exist.

    Raises ConfigError. Whether users exist and descriptors suffice is check_host's to say.
    """
    if file is None and not DEFAULT_FILE.exists():
        config = _absolute(Config(), Path("/"))
        _check(config, BUILT_IN)
        return Loaded(config, None, {})
    path = Path(file or DEFAULT_FILE).absolute()
    tree = _read(path)
    _check_keys(tree, path)
    sources = {f"{section}.{key}": "file" for section, value in tree.items() if section not in ARRAYS for key in value}
    sources |= {section: "file" for section in ARRAYS if section in tree}
    sources |= _resolve_secrets(tree, path)
    config = _absolute(_convert(tree, path), path.parent)
    _check(config, str(path))
    return Loaded(config, path, sources)


def workers_of(config: Config) -> int:
    """How many workers `server.workers` means on this machine."""
    if config.server.workers == "auto":
        return max(1, len(os.sched_getaffinity(0)))
    return config.server.workers


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: -: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: -: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: -: is not TOML: {error}") from None


def _check_keys(tree: dict[str, Any], path: Path) -> None:
    for section, value in tree.items():
        if section not in SECTIONS:
            raise ConfigError(f"{path}: {section}: unknown section{_nearest(section, SECTIONS)}")
        tables = value if section in ARRAYS else [value]
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            form = f"[[{section}]]" if section in ARRAYS else f"[{section}]"
            raise ConfigError(f"{path}: {section}: must be written as {form}")
        known = SECTIONS[section].__struct_fields__
        for table in tables:
            for key in table:
                if key not in known:
                    raise ConfigError(f"{path}: {section}.{key}: unknown option{_nearest(key, known)}")


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f', did you mean "{close[0]}"?' if close else ""


def _resolve_secrets(tree: dict[str, Any], path: Path) -> dict[str, str]:
    """Replace "env:NAME" and "file:PATH" in the options that may hold a password."""
    sources = {}
    for key in SECRET_KEYS:
        section, option = key.split(".")
        text = tree.get(section, {}).get(option)
        if not isinstance(text, str) or not text.startswith(("env:", "file:")):
            continue
        tree[section][option] = secret(text, f"{path}: {key}", path.parent)
        sources[key] = text
    return sources


def secret(text: str, label: str, folder: Path = Path()) -> str:
    """What "env:NAME" or "file:PATH" stands for; any other text is itself."""
    kind, _, where = text.partition(":")
    if kind == "env":
        if where not in os.environ:
            raise ConfigError(f"{label}: the environment has no {where}")
        return os.environ[where].strip()
    if kind != "file":
        return text
    try:
        return (folder / where).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{label}: cannot read {where}: {error}") from None


def _convert(tree: dict[str, Any], path: Path) -> Config:
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        key = where.rstrip("`").lstrip(".") or "-"
        raise ConfigError(f"{path}: {key}: {what[:1].lower()}{what[1:]}") from None


def _absolute(config: Config, folder: Path) -> Config:
    """Directories against the file's folder, the database against state_dir, Unix sockets against runtime_dir."""
    replace = msgspec.structs.replace
    old = config.server
    server = replace(
        old,
        state_dir=os.path.normpath(folder / old.state_dir),
        runtime_dir=os.path.normpath(folder / old.runtime_dir),
        log_dir="-" if old.log_dir == "-" else os.path.normpath(folder / old.log_dir),
    )
    store = config.store
    if store.url.startswith("sqlite:") and store.url != "sqlite:":
        store = replace(store, url=f"sqlite:{Path(server.state_dir, store.url.removeprefix('sqlite:'))}")
    listen = tuple(
        replace(one, address=f"unix:{Path(server.runtime_dir, one.address.removeprefix('unix:'))}")
        if one.address.startswith("unix:") and one.address != "unix:"
        else one
        for one in config.listen
    )
    return replace(config, server=server, store=store, listen=listen)


def _check(config: Config, file: str) -> None:
    """What single options cannot say."""
    if not config.listen:
        raise ConfigError(f"{file}: listen: needs at least one [[listen]]")
    taken: dict[str, int] = {}
    for index, one in enumerate(config.listen):
        key = f"listen[{index}].address"
        where = _check_listen(one, f"{file}: {key}")
        _check_balancers(one, f"{file}: listen[{index}].proxy_from")
        if where in taken:
            raise ConfigError(f"{file}: {key}: {one.address} is also listen[{taken[where]}]")
        if where:
            taken[where] = index
    _check_hooks(config.hook, file)
    _check_url(config.store.url, STORES, f"{file}: store.url")
    _check_url(config.bus.url, BUSES, f"{file}: bus.url")
    _check_store(config.store.url, f"{file}: store.url")
    _check_bus(config.bus.url, f"{file}: bus.url")
    if not re.fullmatch(r"[\w.:-]+", config.bus.prefix, re.ASCII):
        raise ConfigError(f"{file}: bus.prefix: letters, digits and . : _ - only")
    if config.accounts.login == "open" and not config.accounts.insecure_open_login:
        raise ConfigError(
            f'{file}: accounts.login: "open" lets anybody in as anybody; it needs insecure_open_login = true'
        )
    if config.server.group and not config.server.user:
        raise ConfigError(f"{file}: server.group: needs server.user")


def _check_listen(one: ListenerOptions, label: str) -> str:
    """What must be unique among listeners; "" for a port the kernel chooses."""
    try:
        where = urls.parse(one.address)
    except ValueError as error:
        raise ConfigError(f"{label}: {error}") from None
    if where.transport not in TRANSPORTS:
        raise ConfigError(f"{label}: {where.transport}:// is not in this version (it has {', '.join(TRANSPORTS)})")
    if where.transport in ("udp", "ws") and one.protocol != "mobileimsdk":
        raise ConfigError(f"{label}: {one.protocol} over {where.transport}:// is not in this version")
    if where.transport == "unix":
        if len(where.path.encode()) > 107:
            raise ConfigError(f"{label}: the path of a Unix socket may have 107 bytes at most")
        return where.path
    if not where.port:
        return ""
    return f"udp {where.host}:{where.port}" if where.transport == "udp" else f"{where.host}:{where.port}"


def _check_balancers(one: ListenerOptions, label: str) -> None:
    transport = urls.parse(one.address).transport
    if one.proxy_from and transport not in ("tcp", "ws"):
        raise ConfigError(f"{label}: is for tcp:// and ws://; clients of {transport}: are never introduced")
    for network in one.proxy_from:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise ConfigError(f"{label}: {error}") from None


def _check_hooks(hooks: tuple[PluginOptions, ...], file: str) -> None:
    names = [one.name for one in hooks]
    for index, one in enumerate(hooks):
        if not one.name.strip():
            raise ConfigError(f"{file}: hook[{index}].name: is empty")
        if one.name in names[:index]:
            raise ConfigError(f"{file}: hook[{index}].name: {one.name} is also hook[{names.index(one.name)}]")
        for key, value in one.options.items():
            if not _is_plain(value):
                raise ConfigError(f"{file}: hook[{index}].options.{key}: dates, times and infinities are not possible")


def _is_plain(value: Any) -> bool:
    """What can be told to a worker: text, numbers, true and false, and lists and tables of them."""
    if isinstance(value, list):
        return all(_is_plain(one) for one in value)
    if isinstance(value, dict):
        return all(_is_plain(one) for one in value.values())
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _check_url(url: str, built: tuple[str, ...], label: str) -> None:
    scheme = url.partition(":")[0] if ":" in url else ""
    if scheme not in built:
        raise ConfigError(f"{label}: {scheme or 'this'}: is not in this version (it has {': '.join(built)}:)")


def _check_store(url: str, label: str) -> None:
    """What parse_mysql says repeats no password."""
    if url == "sqlite:":
        raise ConfigError(f"{label}: sqlite: needs a file name")
    if url.startswith("mysql:"):
        try:
            urls.parse_mysql(url)
        except ValueError as error:
            raise ConfigError(f"{label}: {error}") from None


def _check_bus(url: str, label: str) -> None:
    """What parse_redis says repeats no password."""
    if not url.startswith("local:"):
        try:
            urls.parse_redis(url)
        except ValueError as error:
            raise ConfigError(f"{label}: {error}") from None


def check_host(config: Config, file: str) -> None:
    """What this host must have for `config`: user, group, plug-ins, descriptors. Raises ConfigError."""
    for index, hook in enumerate(config.hook):
        _check_installed(hook.entry_point or hook.name, f"{file}: hook[{index}].entry_point")
    try:
        if config.server.user:
            pwd.getpwnam(config.server.user)
    except KeyError:
        raise ConfigError(f"{file}: server.user: there is no user {config.server.user}") from None
    try:
        if config.server.group:
            grp.getgrnam(config.server.group)
    except KeyError:
        raise ConfigError(f"{file}: server.group: there is no group {config.server.group}") from None
    if config.store.url.startswith("mysql:") and importlib.util.find_spec("MySQLdb") is None:
        raise ConfigError(f"{file}: store.url: mysql needs mysqlclient: pip install 'chatd[mysql]'")
    if len(f"{config.server.runtime_dir}/control.sock".encode()) > 107:
        raise ConfigError(f"{file}: server.runtime_dir: too long for the path of the Unix socket in it")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = config.limits.connections + DESCRIPTORS_BESIDES_CLIENTS + len(config.listen)
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ConfigError(
            f"{file}: limits.connections: needs {needed} descriptors, "
            f"RLIMIT_NOFILE allows {hard} (LimitNOFILE=, ulimit -Hn)"
        )


def _check_installed(entry_point: str, label: str) -> None:
    """Only looked up: a plug-in's code runs in workers alone."""
    installed = sorted({one.name for one in importlib.metadata.entry_points(group=HOOK_GROUP)})
    if entry_point not in installed:
        there_are = ", ".join(installed) or "none"
        raise ConfigError(f"{label}: no plug-in {entry_point} is installed (there are: {there_are})")


def runtime_dir_of(file: str | Path | None) -> str:
    """Where the server with this, perhaps broken, file has its control socket: for chatctl, whose work is also to say
    what is wrong. Never raises."""
    path = Path(file or DEFAULT_FILE).absolute()
    try:
        found = re.search(r'^\s*runtime_dir\s*=\s*["\']([^"\']+)["\']', path.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    return os.path.normpath(path.parent / (found[1] if found else Config().server.runtime_dir))
