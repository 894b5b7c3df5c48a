"""Checks of the configuration: what is insecure in it, out of date, or not in force.

Owns: options that lower the protection of people, or that nobody wants on a server for long.
Elsewhere: mistakes, with which nothing can be examined (config.load); what waits for a reload (master.reload).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from chatd import host_check
from chatd.chatctl.doctor.finding import Finding, Installation, error, note, ok, warning
from chatd.config import metrics_options, urls
from chatd.config.schema import Config
from chatd.config.validate import plain_passwords
from chatd.errors import ConfigError


class _Insecure(NamedTuple):
    """key: of the option. holds: whether it lowers the protection."""

    key: str
    holds: Callable[[Config], bool]
    meaning: str
    advice: str


def _has_udp(config: Config) -> bool:
    return any(urls.parse(one.address).transport == "udp" for one in config.listen)


def _has_origins(config: Config) -> bool:
    return any("*" in one.origins for one in config.listen)


INSECURE = (
    _Insecure(
        "accounts.insecure_open_login",
        lambda config: "open" in config.accounts.kinds,
        "anybody logs in as anybody, without a password",
        'accounts.login = "password"',
    ),
    _Insecure(
        "bus.insecure_unsigned",
        lambda config: config.bus.insecure_unsigned and not config.bus.url.startswith("local:"),
        "whoever can publish on Redis can act as any user",
        "set bus.keys on all hosts, and remove the option",
    ),
    _Insecure(
        "penalties.enabled",
        lambda config: not config.penalties.enabled,
        "passwords can be guessed without end",
        "penalties.enabled = true",
    ),
    _Insecure(
        "listen.address",
        _has_udp,
        "clients over UDP that have no token can be impersonated by anybody who forges datagrams",
        "close udp:// unless stock clients need it",
    ),
    _Insecure(
        "listen.origins",
        _has_origins,
        "every web page can use its visitor's browser to connect",
        "name the origins of your own pages",
    ),
    _Insecure(
        "accounts.registration",
        lambda config: config.accounts.registration == "open",
        "anybody makes accounts, as many as limits and penalties allow",
        'accounts.registration = "invite" or "closed"',
    ),
)


def insecure(installation: Installation) -> Iterator[Finding]:
    """Options in force that lower the protection, and listeners to which passwords are sent in the clear."""
    config, found = installation.config, 0
    for one in INSECURE:
        if one.holds(config):
            found += 1
            yield warning("configuration.insecure", f"{one.key} lowers the protection", one.meaning, one.advice)
    for line in plain_passwords(config):
        found += 1
        text, _, advice = line.partition(". Use ")
        meaning = "somebody on the network learns passwords and messages"
        yield warning("configuration.insecure", text, meaning, f"use {advice}")
    for line in metrics_options.opened(config.metrics):
        found += 1
        text, _, advice = line.partition(". Set ")
        yield warning("configuration.insecure", text, "strangers learn how busy the server is", f"set {advice}")
    if not found:
        yield ok("configuration.insecure", "no insecure option is in force")


def deprecated(installation: Installation) -> Iterator[Finding]:
    """Values of earlier versions."""
    for line in installation.loaded.deprecated:
        yield warning("configuration.deprecated", line, "a later version will refuse it", "change the file")


def host(installation: Installation) -> Iterator[Finding]:
    """What the configuration needs of this host: users, plug-ins, libraries."""
    try:
        host_check.check(installation.config, installation.loaded.name)
    except ConfigError as failure:
        for line in str(failure).splitlines():
            yield error(
                "configuration.host", line, "chatd does not start (exit code 78)", "change the file, or the host"
            )
    else:
        yield ok("configuration.host", "this host has what the configuration needs")


def logging(installation: Installation) -> Iterator[Finding]:
    """Levels that leave the security trail incomplete, or fill the disk."""
    level = installation.config.log.level
    if level in ("WARNING", "ERROR", "FATAL"):
        meaning = "the security trail is not complete: who logged in, and orders of operators, are missing"
        yield warning("configuration.log_level", f"log.level is {level}", meaning, 'log.level = "NORMAL"')
    elif level == "DEBUG":
        yield note("configuration.log_level", "log.level is DEBUG: logs grow quickly")
