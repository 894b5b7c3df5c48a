"""`chatctl doctor`.

Owns: the order of the checks, the report, and the exit code.
Elsewhere: the checks (the other modules of chatctl.doctor).
Fails: exit code 0 if all is well, 1 with warnings, 2 with errors; 78 for a configuration with mistakes, which chatd -t
explains. A check that fails itself is an error of its own.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator

from chatd.chatctl.control_client import ControlClient, NotAllowed, ServerUnreachable
from chatd.chatctl.doctor import buses, configuration, content, files, host, listeners, server, stores, versions
from chatd.chatctl.doctor.finding import Check, Finding, Installation, Severity, error
from chatd.chatctl.ownership import become_owner
from chatd.chatctl.render import plural, print_json
from chatd.config import load as config_load
from chatd.errors import BootError
from chatd.master.status import Status

CHECKS: tuple[Check, ...] = (
    server.server,
    versions.python,
    versions.libraries,
    versions.running,
    configuration.host,
    configuration.insecure,
    configuration.deprecated,
    configuration.logging,
    files.modes,
    files.directories,
    host.descriptors,
    host.backlog,
    host.udp_buffers,
    host.clock,
    host.disks,
    listeners.ports,
    listeners.certificates,
    buses.bus,
)
"""Run as the user who calls chatctl: root sees most."""
STORE_CHECKS: tuple[Check, ...] = (stores.store, content.place)
"""Run last, as the user who owns the store."""
EXIT_CODES = {Severity.OK: 0, Severity.NOTE: 0, Severity.WARNING: 1, Severity.ERROR: 2}
_SYMBOLS = {Severity.OK: "✓", Severity.NOTE: "·", Severity.WARNING: "▲", Severity.ERROR: "✗"}
_WIDTH = 100


def doctor(client: ControlClient, options: argparse.Namespace) -> int:
    """Findings are printed as they come. Exit code: 0 all is well, 1 warnings, 2 errors."""
    installation = _installation(client, options)
    findings: list[Finding] = []
    for finding in _examine(installation):
        findings.append(finding)
        if not options.json and (options.all or finding.severity != Severity.OK):
            print(_text(finding), flush=True)
    worst = max((EXIT_CODES[Severity(one.severity)] for one in findings), default=0)
    if options.json:
        print_json({"v": 1, "exit": worst, "findings": findings})
    else:
        print(_summary(findings))
    return worst


def _installation(client: ControlClient, options: argparse.Namespace) -> Installation:
    """Raises ConfigError."""
    loaded = config_load.load(options.config)
    status: Status | None = None
    pid = 0
    try:
        status = client.status()
        pid = status.pid
    except (ServerUnreachable, NotAllowed):
        try:
            is_running, number = client.running()
            pid = number if is_running else 0
        except NotAllowed:
            pid = 0
    return Installation(loaded=loaded, status=status, pid=pid, is_fast=options.fast)


def _examine(installation: Installation) -> Iterator[Finding]:
    for check in CHECKS:
        yield from _carefully(check, installation)
    try:
        become_owner(installation.config, create=False)
    except (BootError, KeyError) as failure:
        yield error(
            "store.owner",
            f"cannot become the user who owns the store: {failure}",
            "the store cannot be examined",
            "run chatctl doctor as root",
        )
        return
    for check in STORE_CHECKS:
        yield from _carefully(check, installation)


def _carefully(check: Check, installation: Installation) -> Iterator[Finding]:
    """A check that fails must not hide the others."""
    name = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
    try:
        yield from check(installation)
    except Exception as failure:  # noqa: BLE001  whatever it is, it is shown
        text = f"the check {name} failed: {type(failure).__name__}: {failure}"
        yield error(
            f"doctor.{name}", text, "it is not known whether this is well", "report it: this is a bug of chatctl"
        )


def _text(finding: Finding) -> str:
    severity = Severity(finding.severity)
    lines = textwrap.wrap(f"{_SYMBOLS[severity]} {severity:<7} {finding.text}", _WIDTH, subsequent_indent=" " * 10)
    for label, text in (("", finding.meaning), ("→ ", finding.advice)):
        if text:
            lines += textwrap.wrap(
                f"{label}{text}", _WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 12, break_long_words=False
            )
    return "\n".join(lines)


def _summary(findings: list[Finding]) -> str:
    found = {severity: sum(one.severity == severity for one in findings) for severity in Severity}
    errors, warnings = plural(found[Severity.ERROR], "error"), plural(found[Severity.WARNING], "warning")
    return f"{errors}, {warnings}; {plural(found[Severity.OK], 'check')} found nothing wrong"
