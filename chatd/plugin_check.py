"""Do the plug-ins of a configuration load, and do their options say what they must? For `chatd -t`.

Owns: loading them in a process of their own, which ends at once, so that their code cannot harm this one.
Elsewhere: loading one (core.plugins.loading), as every worker does it.
Fails: ConfigError with one line for each plug-in that cannot be used. None of its methods is called.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from typing import NoReturn

import msgspec

from chatd.config.schema import Config, PluginOptions
from chatd.errors import BootError, ConfigError, Exit

_READ_BYTES = 65536


class _Report(msgspec.Struct, frozen=True):
    """From the process that loads. text "": the plug-in is good."""

    option: str
    text: str


def check(config: Config, file: str, prepare: Callable[[], None]) -> None:
    """prepare: called first in the process that loads; gives up privileges. Raises ConfigError; BootError, if there can
    be no such process."""
    if not config.hook:
        return
    reader, writer = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        raise BootError(f"cannot start a process that loads the plug-ins: {error.strerror}", Exit.OS) from None
    if child == 0:
        os.close(reader)
        _load(config, prepare, writer)
    os.close(writer)
    try:
        reports, ended = _read(reader, len(config.hook), config.timeouts.boot_s)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    problems = [
        f"{file}: hook[{index}]{one.option and '.'}{one.option}: {one.text}"
        for index, one in enumerate(reports)
        if one.text
    ]
    if len(reports) < len(config.hook):
        why = "ends the process" if ended else f"takes longer than timeouts.boot_s, {config.timeouts.boot_s:g} s"
        problems.append(f"{file}: hook[{len(reports)}]: loading {config.hook[len(reports)].name} {why}")
    if problems:
        raise ConfigError(*problems)


def _read(reader: int, count: int, limit_s: float) -> tuple[list[_Report], bool]:
    """The reports that come in time, at most count, and whether the process has ended before it sent so many."""
    deadline, data = time.monotonic() + limit_s, b""
    while data.count(b"\n") < count:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return _decoded(data), False
        more = os.read(reader, _READ_BYTES)
        if not more:
            return _decoded(data), True
        data += more
    return _decoded(data), False


def _decoded(data: bytes) -> list[_Report]:
    return [msgspec.json.decode(line, type=_Report) for line in data.split(b"\n")[:-1]]


# ---------------------------------------------------------------- in the process that loads


def _load(config: Config, prepare: Callable[[], None], writer: int) -> NoReturn:
    """Report on each plug-in, and end without running anything that others have left to run at the end."""
    try:
        os.dup2(2, 1)  # what plug-ins print is no part of what `chatd -T` prints
        prepare()
        for hook in config.hook:
            report = msgspec.json.encode(_load_one(hook, config)) + b"\n"
            while report:
                report = report[os.write(writer, report) :]
    finally:
        os._exit(0)


def _load_one(hook: PluginOptions, config: Config) -> _Report:
    from chatd.core.plugins import loading  # here, so that only this process has an event loop's modules

    try:
        loading.make(hook, config)
    except loading.PluginNotLoaded as error:
        return _Report(error.option, str(error) if error.option else f"cannot load {hook.name}: {error}")
    return _Report("", "")
