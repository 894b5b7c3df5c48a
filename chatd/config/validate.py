"""The checks of a configuration, beyond the type of each option.

Owns: the checks of a file's names and values, of options that only make sense together, and of what this host must
have.
Elsewhere: the types and ranges (config.schema), reading the file (config.load).
Fails: never by itself: mistakes are collected in a Problems, so that all mistakes of a file are shown at once. Nothing
is created, opened for writing or bound here.
"""

from __future__ import annotations

import grp
import importlib.util
import ipaddress
import math
import pwd
import re
import resource
from collections.abc import Iterable
from typing import Any

import msgspec

from chatd.config import admin_checks, bridges, file_checks, login_checks, metrics_options, push_checks, urls, webhooks
from chatd.config.options import Option, allowed_values, options_of, toml
from chatd.config.penalty_options import PenaltyOptions
from chatd.config.people_options import LEAST_DAYS, RetentionOptions
from chatd.config.schema import ARRAYS, SECTIONS, BusOptions, Config, ListenerOptions, PluginOptions
from chatd.errors import ConfigError

# The transports, stores and buses that this version supports.
TRANSPORTS = ("tcp", "tls", "udp", "unix", "ws", "wss", "http", "https")
STORES = ("sqlite", "mysql")
BUSES = ("local", *urls.REDIS_SCHEMES)

DESCRIPTORS_BESIDES_CLIENTS = 160
"""Descriptors of one worker besides its clients: 64 files of session locks, the store, logs, the sockets to the master,
other workers, and those that net.acceptor keeps free to tell clients that the server is full."""

UNIX_PATH_BYTES = 107
"""Longest path of a Unix socket (sun_path without its final zero)."""

HOOK_GROUP = "chatd.hooks"
"""Entry points of this group, of any installed distribution, are plug-ins."""

_MAX_PREFIX_CHARS = 64
"""Of listen.group_prefix: a packet over UDP has room for little more than 700 bytes of text."""
ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#\s]*")
"""A value of listen.origins: what a browser sends as Origin, or any."""
_WEBSOCKET_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_TAKEN_PATHS = (["v1"], ["api"], ["docs"], ["openapi.json"], ["chat"], ["sw.js"])
"""First parts of the paths of chatd.http."""
MIN_KEY_CHARS = 32
"""Shortest text of a key of the bus: it must not be guessed from a recorded message."""

SUPERSEDED = {
    "accounts.presence": 'is replaced by people.may_see, which also holds for profiles: instead of "friends" write '
    'people.may_see = "contacts", instead of "all" write "everybody"; "friends" and "nobody" are allowed too'
}
"""Options of earlier versions, and what to write instead."""
SHOWN_CHARS = 60
"""Longest part of a bad value that a message shows."""


class Problems:
    """The mistakes found so far, each a line `file: key: what`."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[tuple[str, str]] = []

    def add(self, key: str, what: str) -> None:
        """key: `section.option`, `listen[0].address`, or "-" for the whole file."""
        self._found.append((key, what))

    def sections(self) -> set[str]:
        """The sections in which something is wrong."""
        return {re.split(r"[.\[]", key)[0] for key, _ in self._found}

    def include(self, others: Problems) -> None:
        """Add the problems of sections in which nothing was wrong so far: those of other sections may only be
        consequences."""
        wrong = self.sections()
        self._found += [one for one in others._found if re.split(r"[.\[]", one[0])[0] not in wrong]

    def raise_any(self) -> None:
        """Raises ConfigError with all of them, if there are any."""
        if self._found:
            raise ConfigError(*(f"{self._file}: {key}: {what}" for key, what in self._found))


# ---------------------------------------------------------------- names and values


def good_tables(tree: dict[str, Any], problems: Problems) -> dict[str, Any]:
    """`tree` without what is wrong in it: unknown names, wrong types and values out of range."""
    good: dict[str, Any] = {}
    for section, value in tree.items():
        if section not in SECTIONS:
            problems.add(section, f"unknown section{_nearest(section, SECTIONS)}")
        elif section not in ARRAYS and isinstance(value, dict):
            good[section] = _good_table(section, section, value, problems)
        elif section in ARRAYS and isinstance(value, list) and all(isinstance(table, dict) for table in value):
            good[section] = _good_array(section, value, problems)
        else:
            form = f"[[{section}]]" if section in ARRAYS else f"[{section}]"
            problems.add(section, f"must be written as {form}")
    return good


def _good_array(section: str, tables: list[dict[str, Any]], problems: Problems) -> list[dict[str, Any]]:
    required = [option.name for option in options_of(SECTIONS[section]) if option.default is msgspec.NODEFAULT]
    good = []
    for index, table in enumerate(tables):
        label = f"{section}[{index}]"
        kept = _good_table(section, label, table, problems)
        for missing in required:
            if missing not in table:
                problems.add(label, f'"{missing}" is missing')
        if all(name in kept for name in required):
            good.append(kept)
    return good


def _good_table(section: str, label: str, table: dict[str, Any], problems: Problems) -> dict[str, Any]:
    options = {option.name: option for option in options_of(SECTIONS[section])}
    good = {}
    for name, value in table.items():
        if name not in options:
            superseded = SUPERSEDED.get(f"{section}.{name}")
            problems.add(f"{label}.{name}", superseded or f"unknown option{_nearest(name, options)}")
        elif (what := _wrong(value, options[name])) is not None:
            problems.add(f"{label}.{name}", what)
        else:
            good[name] = value
    return good


def _wrong(value: Any, option: Option) -> str | None:
    """The mistake in a value by itself, or None."""
    try:
        msgspec.convert(value, option.annotation)
    except msgspec.ValidationError:
        try:
            shown = toml(value)
        except TypeError:  # a date, or something else that no option takes
            shown = str(value)
        cut = shown if len(shown) <= SHOWN_CHARS else f"{shown[:SHOWN_CHARS]}…"
        return f"expected {allowed_values(option)}, got {cut}"
    return None


def _nearest(word: str, known: Iterable[str]) -> str:
    import difflib  # only for a mistake

    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f', did you mean "{close[0]}"?' if close else f" (known: {', '.join(names)})"


# ---------------------------------------------------------------- options that belong together


def check(config: Config, problems: Problems) -> None:
    """The checks that the types of single options cannot express."""
    if not config.listen:
        problems.add("listen", "at least one [[listen]] is needed")
    _check_listeners(config.listen, problems)
    _check_plugins(config.hook, problems)
    webhooks.check(config.webhook, problems.add)
    bridges.check(config.bridge, problems.add)
    _check_urls(config, problems)
    _check_penalties(config.penalties, problems)
    _check_retention(config.retention, problems)
    _check_origins(config.http.origins, "http.origins", problems)
    _check_metrics(config, problems)
    if not re.fullmatch(r"[\w.:-]+", config.bus.prefix, re.ASCII):
        problems.add("bus.prefix", "may contain only letters, digits and . : _ -")
    _check_bus_keys(config.bus, problems)
    for key, what in (
        *login_checks.problems(config),
        *file_checks.problems(config),
        *push_checks.problems(config),
        *admin_checks.problems(config),
    ):
        problems.add(key, what)
    _check_networks(config.login_http.allow_private, "login_http.allow_private", problems)
    _check_networks(config.tokens.allow_private, "tokens.allow_private", problems)
    _check_networks(config.push.allow_private, "push.allow_private", problems)
    if config.server.group and not config.server.user:
        problems.add("server.group", "needs server.user as well")


def _check_bus_keys(bus: BusOptions, problems: Problems) -> None:
    for index, key in enumerate(bus.keys):
        if len(key) < MIN_KEY_CHARS:
            text = f"has {len(key)} characters, a key needs {MIN_KEY_CHARS} (openssl rand -hex 32)"
            problems.add(f"bus.keys[{index}]", text)
    if not bus.keys and not bus.insecure_unsigned and _is_redis_over_tcp(bus.url):
        text = (
            "needed because Redis is reached over TCP: without a key anybody who can publish there can act as any "
            'user. Make one (openssl rand -hex 32 > FILE), give it to all hosts, and set keys = ["file:FILE"]; or set '
            "insecure_unsigned = true"
        )
        problems.add("bus.keys", text)


def _is_redis_over_tcp(url: str) -> bool:
    """False for a URL that is wrong, which is reported elsewhere."""
    try:
        return any(port for _, port in urls.parse_redis(url).hosts)
    except ValueError:
        return False


def _check_listeners(listeners: tuple[ListenerOptions, ...], problems: Problems) -> None:
    taken: dict[str, int] = {}
    for index, one in enumerate(listeners):
        key = f"listen[{index}].address"
        try:
            where = urls.parse(one.address)
            _check_transport(one, where)
        except ValueError as error:
            problems.add(key, str(error))
            continue
        _check_balancers(one, where, f"listen[{index}].proxy_from", problems)
        _check_origins(one.origins, f"listen[{index}].origins", problems)
        _check_certificates(one, where, f"listen[{index}].certificates", problems)
        _check_group_mark(one, f"listen[{index}]", problems)
        if one.protocol == "http" and not one.serves:
            problems.add(f"listen[{index}].serves", "must name something; remove the listener otherwise")
        _check_websocket_path(one, f"listen[{index}].websocket_path", problems)
        unique = where.path if where.transport == "unix" else f"{where.host}:{where.port}" if where.port else ""
        unique = f"udp {unique}" if unique and where.transport == "udp" else unique
        if unique in taken:
            problems.add(key, f"{one.address} is also listen[{taken[unique]}]")
        elif unique:
            taken[unique] = index


def _check_transport(one: ListenerOptions, where: urls.ListenAddress) -> None:
    """Raises ValueError."""
    transport = where.transport
    if transport not in TRANSPORTS:
        raise ValueError(f"{transport}:// is not supported by this version (supported: {', '.join(TRANSPORTS)})")
    if transport in ("udp", "ws", "wss") and one.protocol != "mobileimsdk":
        raise ValueError(f"protocol {one.protocol} cannot be used over {transport}://, only mobileimsdk can")
    if (transport in ("http", "https")) != (one.protocol == "http") and transport != "unix":
        text = "http is served over http://, https:// and unix:, and nothing else is"
        raise ValueError(f"protocol {one.protocol} cannot be used over {transport}://: {text}")
    if transport == "unix" and len(where.path.encode()) > UNIX_PATH_BYTES:
        length = len(where.path.encode())
        raise ValueError(f"the path of a Unix socket has at most {UNIX_PATH_BYTES} bytes, this one has {length}")


def _check_balancers(one: ListenerOptions, where: urls.ListenAddress, key: str, problems: Problems) -> None:
    if one.proxy_from and where.transport in ("udp", "unix"):
        problems.add(key, f"is not for {where.transport}:, over which the PROXY protocol is not used")
    _check_networks(one.proxy_from, key, problems)


def _check_networks(networks: Iterable[str], key: str, problems: Problems) -> None:
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            problems.add(key, f"{error}; expected addresses or networks such as 192.0.2.7 or 2001:db8::/64")


def _check_penalties(options: PenaltyOptions, problems: Problems) -> None:
    _check_networks(options.allow, "penalties.allow", problems)
    if options.first_s > options.max_s:
        problems.add("penalties.first_s", f"must not be above max_s, which is {options.max_s:g}")


def _check_retention(options: RetentionOptions, problems: Problems) -> None:
    for name in ("private_days", "group_days"):
        days = getattr(options, name)
        if 0 < days < LEAST_DAYS:
            text = f"must be 0 (never) or at least {LEAST_DAYS}, because a message sent again is recognised for so long"
            problems.add(f"retention.{name}", f"{text}; it is {days:g}")


def _check_metrics(config: Config, problems: Problems) -> None:
    for key, what in metrics_options.mistakes(config.metrics):
        problems.add(key, what)
    address = config.metrics.address
    taken = [index for index, one in enumerate(config.listen) if address and one.address == address]
    if taken:
        problems.add("metrics.address", f"{address} is also listen[{taken[0]}]")


def _check_origins(origins: Iterable[str], key: str, problems: Problems) -> None:
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            problems.add(key, f'{toml(origin)} is not an origin; expected "https://HOST", "https://HOST:PORT" or "*"')


def _check_websocket_path(one: ListenerOptions, key: str, problems: Problems) -> None:
    path = one.websocket_path
    if path and one.protocol != "http":
        problems.add(key, f"is for protocol http only; a listener for {one.protocol} has its own address")
    elif path and not _WEBSOCKET_PATH.fullmatch(path):
        problems.add(key, f'{toml(path)} is not a path such as "/websocket"')
    elif path.split("/")[1:2] in _TAKEN_PATHS:
        problems.add(key, f'{toml(path)} belongs to the API; use a path such as "/websocket"')


def _check_group_mark(one: ListenerOptions, key: str, problems: Problems) -> None:
    prefix = one.group_prefix
    if not (one.protocol == "mobileimsdk" or one.mounted_path) and (prefix or one.group_typeu != -1):
        problems.add(f"{key}.{'group_prefix' if prefix else 'group_typeu'}", "is for protocol mobileimsdk only")
    if len(prefix) > _MAX_PREFIX_CHARS:
        problems.add(f"{key}.group_prefix", f"has {len(prefix)} characters, at most {_MAX_PREFIX_CHARS} are allowed")
    if re.search(r"[{}]", re.sub(r"\{(group|number)\}", "", prefix)):
        problems.add(f"{key}.group_prefix", f"{toml(prefix)} has braces that are neither {{group}} nor {{number}}")
    if not prefix.isprintable():
        problems.add(f"{key}.group_prefix", "must not contain control characters or line breaks")


def _check_certificates(one: ListenerOptions, where: urls.ListenAddress, key: str, problems: Problems) -> None:
    """Only whether there must be any; reading the files needs the privileges of the server (master.certificates)."""
    if where.is_encrypted and not one.certificates:
        problems.add(key, f'{where.transport}:// needs a certificate: [{{ certificate = "FILE", key = "FILE" }}]')
    elif one.certificates and not where.is_encrypted:
        encrypted = _ENCRYPTED.get(where.transport, "tls")
        text = f"are for tls://, wss:// and https:// only; for TLS at this address write {encrypted}://"
        problems.add(key, text)
    if any(not pair.certificate for pair in one.certificates):
        problems.add(key, "the name of a file is empty")


_ENCRYPTED = {"ws": "wss", "http": "https"}
"""The scheme with TLS, of those where it is not tls."""


def plain_passwords(config: Config) -> list[str]:
    """One line for each listener to which passwords, tokens or API keys are sent so that the network can read them, and
    for each bridge."""
    found = bridges.plain(config.bridge)
    if config.accounts.require_tls:
        return found
    for index, one in enumerate(config.listen):
        where = urls.parse(one.address)
        has_passwords = one.protocol != "echo" and "open" not in config.accounts.kinds
        if (has_passwords or one.protocol == "http") and not one.proxy_from and urls.is_public(where):
            what = "keys" if one.protocol == "http" else "passwords"
            found.append(
                f"listen[{index}].address: {one.address} has no TLS: {what} sent to it can be read on the network. Use "
                f"{_ENCRYPTED.get(where.transport, 'tls')}://, or a load balancer with TLS in front (proxy_from), or "
                "127.0.0.1"
            )
    return found


def _check_plugins(plugins: tuple[PluginOptions, ...], problems: Problems) -> None:
    names = [one.name for one in plugins]
    for index, one in enumerate(plugins):
        if not one.name.strip():
            problems.add(f"hook[{index}].name", "is empty")
        elif one.name in names[:index]:
            problems.add(f"hook[{index}].name", f"{one.name} is also hook[{names.index(one.name)}]")
        for key, value in one.options.items():
            if not _is_plain(value):
                problems.add(f"hook[{index}].options.{key}", "dates, times and infinities cannot be given to plug-ins")


def _is_plain(value: Any) -> bool:
    """Whether it can be sent to a worker: text, numbers, true and false, and lists and tables of them."""
    if isinstance(value, list):
        return all(_is_plain(one) for one in value)
    if isinstance(value, dict):
        return all(_is_plain(one) for one in value.values())
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _check_urls(config: Config, problems: Problems) -> None:
    """The messages of the parsers never contain a password."""
    for key, url, supported in (("store.url", config.store.url, STORES), ("bus.url", config.bus.url, BUSES)):
        scheme, colon, rest = url.partition(":")
        if not colon or scheme not in supported:
            shown = f"{scheme}:" if colon else "this"
            problems.add(key, f"{shown} is not supported by this version (supported: {': '.join(supported)}:)")
            continue
        try:
            if scheme == "mysql":
                urls.parse_mysql(url)
            elif scheme == "sqlite" and not rest:
                raise ValueError("sqlite: needs a file name")
            elif scheme in urls.REDIS_SCHEMES:
                urls.parse_redis(url)
        except ValueError as error:
            problems.add(key, str(error))


# ---------------------------------------------------------------- this host


def check_host(config: Config, file: str) -> None:
    """Check what `config` needs of this host: user, group, plug-ins, libraries, descriptors.

    Raises: ConfigError with all that is missing.
    """
    problems = Problems(file)
    for index, plugin in enumerate(config.hook):
        _check_installed(plugin.entry_point or plugin.name, f"hook[{index}].entry_point", problems)
    _check_user(config, problems)
    if config.store.url.startswith("mysql:") and importlib.util.find_spec("MySQLdb") is None:
        problems.add("store.url", "mysql needs mysqlclient: pip install 'chatd[mysql]'")
    length = len(f"{config.server.runtime_dir}/control.sock".encode())
    if length > UNIX_PATH_BYTES:
        what = f"too long: the path of control.sock in it has {length} bytes, the limit is {UNIX_PATH_BYTES}"
        problems.add("server.runtime_dir", what)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = config.limits.connections + DESCRIPTORS_BESIDES_CLIENTS + len(config.listen)
    if hard != resource.RLIM_INFINITY and needed > hard:
        what = f"needs {needed} descriptors per worker, RLIMIT_NOFILE allows {hard} (ulimit -Hn, LimitNOFILE=)"
        problems.add("limits.connections", what)
    problems.raise_any()


def _check_user(config: Config, problems: Problems) -> None:
    try:
        if config.server.user:
            pwd.getpwnam(config.server.user)
    except KeyError:
        problems.add("server.user", f"no such user on this host: {config.server.user}")
    try:
        if config.server.group:
            grp.getgrnam(config.server.group)
    except KeyError:
        problems.add("server.group", f"no such group on this host: {config.server.group}")


def _check_installed(entry_point: str, key: str, problems: Problems) -> None:
    """Only looked up: the code of a plug-in runs only in workers."""
    import importlib.metadata  # 20 ms, which a server without plug-ins need not spend

    installed = sorted({one.name for one in importlib.metadata.entry_points(group=HOOK_GROUP)})
    if entry_point not in installed:
        problems.add(key, f"no plug-in {entry_point} is installed (installed: {', '.join(installed) or 'none'})")
