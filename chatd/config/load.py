"""Reading a configuration file.

Owns: TOML -> Config: secrets from files and the environment, absolute paths, where each value comes from.
Elsewhere: the options (config.schema), checking them (config.validate), printing (config.render).
Fails: ConfigError with one line `file: key: what` per mistake. Nothing is created, opened for writing or bound here.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from chatd.config import urls, validate
from chatd.config.bridge_options import BridgeOptions
from chatd.config.options import toml
from chatd.config.schema import ARRAYS, Config, ListenerOptions
from chatd.config.token_options import TokenKeyOptions
from chatd.config.validate import Problems
from chatd.errors import ConfigError

DEFAULT_FILE = Path("/etc/chatd/chatd.toml")
BUILT_IN = "built-in defaults"

SECRET_KEYS = (
    "store.url",
    "bus.url",
    "bus.keys",
    "webhook.secrets",
    "bridge.url",
    "token_key.secret",
    "token_key.public_key",
    "login_http.secret",
    "push.key",
    "files.s3_settings",
)
"""Options that may be "env:NAME" or "file:PATH", or a list of such texts."""


class Secret(NamedTuple):
    """text: as written in the file, "env:NAME" or "file:PATH". value: what it stood for."""

    text: str
    value: str

    def __repr__(self) -> str:
        """Without the value."""
        return f"Secret({self.text})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration, and where it comes from."""

    config: Config
    file: Path | None
    """None = the built-in defaults."""
    sources: Mapping[str, str]
    """`section.option` -> "file", "env:NAME" or "file:PATH"; a key that is not in it has its default."""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """By key, for a later load() that may no longer read them."""
    deprecated: tuple[str, ...] = ()
    """Lines `key: what` about values of earlier versions, which are still understood: to be told to the operator."""
    kept_secrets: tuple[str, ...] = ()
    """Keys whose file could not be read this time, so that the value of an earlier load() was kept."""

    @property
    def name(self) -> str:
        return str(self.file) if self.file else BUILT_IN


def load(file: str | Path | None, known: Mapping[str, Secret] | None = None) -> Loaded:
    """The configuration in `file`. None = the default file, or the built-in defaults if that does not exist.

    known: secrets of an earlier load. One in a file that may not be read any more (root has given up its privileges
    since) keeps its value, as long as the same file is named.

    Raises: ConfigError. Whether users exist and descriptors suffice is checked by validate.check_host().
    """
    if file is None and not DEFAULT_FILE.exists():
        config = _absolute(Config(), Path("/"))
        problems = Problems(BUILT_IN)
        validate.check(config, problems)
        problems.raise_any()
        return Loaded(config=config, file=None, sources={})
    path = Path(file or DEFAULT_FILE).absolute()
    tree = _read(path)
    problems = Problems(str(path))
    sources = {f"{section}.{key}": "file" for section, value in tree.items() if section not in ARRAYS
               and isinstance(value, dict) for key in value}  # fmt: skip
    sources |= {section: "file" for section in ARRAYS if section in tree}
    secrets = _Secrets(path.parent, known or {})
    secrets.resolve(tree, problems)
    sources |= {name: one.text for key, one in secrets.found.items() if (name := key.partition("[")[0]) not in ARRAYS}
    deprecated = _replace_deprecated(tree)
    good = validate.good_tables(tree, problems)
    config = _absolute(msgspec.convert(good, Config), path.parent)
    together = Problems(str(path))
    validate.check(config, together)
    problems.include(together)
    problems.raise_any()
    return Loaded(
        config=config,
        file=path,
        sources=sources,
        secrets=secrets.found,
        deprecated=deprecated,
        kept_secrets=tuple(secrets.kept),
    )


def workers_of(config: Config) -> int:
    """How many workers `server.workers` means on this machine."""
    if config.server.workers == "auto":
        return max(1, len(os.sched_getaffinity(0)))
    return config.server.workers


def _replace_deprecated(tree: dict[str, Any]) -> tuple[str, ...]:
    """Replace values of earlier versions by today's; one line for each."""
    accounts = tree.get("accounts")
    before = accounts.get("registration") if isinstance(accounts, dict) else None
    if not isinstance(accounts, dict) or not isinstance(before, bool):
        return ()
    accounts["registration"] = now = "open" if before else "closed"
    return (f'accounts.registration: {toml(before)} is deprecated, write "{now}" (or "invite")',)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: -: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: -: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: -: is not TOML: {error}") from None


class _Secrets:
    """Replaces "env:NAME" and "file:PATH" in the options that may hold a password."""

    def __init__(self, folder: Path, known: Mapping[str, Secret]) -> None:
        self._folder = folder
        self._known = known
        self.found: dict[str, Secret] = {}
        self.kept: list[str] = []

    def resolve(self, tree: dict[str, Any], problems: Problems) -> None:
        for key in SECRET_KEYS:
            section, option = key.split(".")
            found = tree.get(section)
            for at, table in enumerate(found if isinstance(found, list) else [found]):
                if isinstance(table, dict) and option in table:
                    label = f"{section}[{at}].{option}" if isinstance(found, list) else key
                    self._resolve_option(table, option, label, problems)

    def _resolve_option(self, table: dict[str, Any], option: str, label: str, problems: Problems) -> None:
        value = table[option]
        try:
            if isinstance(value, list):
                table[option] = [self._replaced(f"{label}[{at}]", one) for at, one in enumerate(value)]
            else:
                table[option] = self._replaced(label, value)
        except ValueError as error:
            problems.add(label, str(error))
            del table[option]

    def _replaced(self, key: str, text: Any) -> Any:
        """The value that it stands for; anything else as it is. Raises ValueError."""
        if not isinstance(text, str) or not text.startswith(("env:", "file:")):
            return text
        self.found[key] = Secret(text, self._value(key, text))
        return self.found[key].value

    def _value(self, key: str, text: str) -> str:
        try:
            return _resolve(text, self._folder)
        except PermissionError as error:
            known = self._known.get(key)
            if known is None or known.text != text:
                raise ValueError(f"cannot read {error.filename}: {error.strerror}") from None
            self.kept.append(key)
            return known.value


def _resolve(text: str, folder: Path) -> str:
    """The value that "env:NAME" or "file:PATH" stands for. Raises ValueError, or PermissionError for a file."""
    kind, _, where = text.partition(":")
    if kind == "env":
        if where not in os.environ:
            raise ValueError(f"the environment has no variable {where}")
        return os.environ[where].strip()
    try:
        return (folder / where).read_text(encoding="utf-8").strip()
    except PermissionError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {where}: {getattr(error, 'strerror', None) or error}") from None


def secret(text: str, label: str, folder: Path = Path()) -> str:
    """The value that "env:NAME" or "file:PATH" stands for; any other text is returned as it is. Raises ConfigError."""
    if not text.startswith(("env:", "file:")):
        return text
    try:
        return _resolve(text, folder)
    except (ValueError, PermissionError) as error:
        raise ConfigError(f"{label}: {error}") from None


def _absolute(config: Config, folder: Path) -> Config:
    """Directories and certificates relative to the file's folder, the database to state_dir, Unix sockets to
    runtime_dir."""
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
    listen = tuple(_absolute_listener(one, folder, server.runtime_dir) for one in config.listen)
    keys = tuple(_absolute_key(one, folder) for one in config.token_key)
    bridge = tuple(_absolute_bridge(one, folder) for one in config.bridge)
    files = config.files
    if files.dir:
        files = replace(files, dir=os.path.normpath(folder / files.dir))
    metrics = replace(config.metrics, address=_absolute_address(config.metrics.address, server.runtime_dir))
    return replace(
        config,
        server=server,
        store=store,
        listen=listen,
        token_key=keys,
        files=files,
        metrics=metrics,
        bridge=bridge,
    )


def _absolute_key(one: TokenKeyOptions, folder: Path) -> TokenKeyOptions:
    """A file of a key set relative to the folder of the configuration file."""
    if not one.jwks or urls.is_http(one.jwks):
        return one
    return msgspec.structs.replace(one, jwks=str(folder / one.jwks))


def _absolute_bridge(one: BridgeOptions, folder: Path) -> BridgeOptions:
    """The file of authorities relative to the folder of the configuration file."""
    return msgspec.structs.replace(one, ca_file=str(folder / one.ca_file)) if one.ca_file else one


def _absolute_address(address: str, runtime_dir: str) -> str:
    """The path of a Unix socket is relative to runtime_dir."""
    if address.startswith("unix:") and address != "unix:":
        return f"unix:{Path(runtime_dir, address.removeprefix('unix:'))}"
    return address


def _absolute_listener(one: ListenerOptions, folder: Path, runtime_dir: str) -> ListenerOptions:
    """The files of certificates relative to the folder of the configuration file, a Unix socket to runtime_dir."""
    replace, address = msgspec.structs.replace, _absolute_address(one.address, runtime_dir)
    certificates = tuple(
        replace(pair, certificate=str(folder / pair.certificate), key=str(folder / pair.key) if pair.key else "")
        for pair in one.certificates
    )
    return replace(one, address=address, certificates=certificates)


def runtime_dir_of(file: str | Path | None) -> str:
    """The directory of the control socket of the server with this file. For chatctl, which must find the server even if
    the file is broken by now. Never raises."""
    path = Path(file or DEFAULT_FILE).absolute()
    try:
        found = re.search(r'^\s*runtime_dir\s*=\s*["\']([^"\']+)["\']', path.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    return os.path.normpath(path.parent / (found[1] if found else Config().server.runtime_dir))
