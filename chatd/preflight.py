"""Would the installed code serve, if it took over from the running server now? In a process of its own.

Owns: what is checked: everything that a start or a worker does before it serves, as far as it can be done beside the
running server. So an upgrade is refused also for a configuration that only the next start would refuse.
Elsewhere: starting this process and acting on what it says (master.upgrade.preflight), taking over
(master.upgrade.resume).
Fails: the exit code and the lines on standard error are the answer to the operator. Nothing is changed.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from chatd import __version__, plugin_check, preload, scoreboard
from chatd.config import load as config_load
from chatd.config.diff import applicable
from chatd.config.load import Loaded
from chatd.errors import BootError, Exit
from chatd.master.certificates import read_all
from chatd.master.upgrade import state as upgrade_state
from chatd.master.upgrade.state import MasterState, NotUnderstood
from chatd.scoreboard import LayoutUnknown
from chatd.store.open import check_schema, configured

NICE = 10
"""The running server comes first."""
ALARM_S = 300
"""This process ends by itself if the server that started it is gone."""


def check(descriptor: int, file: str | None, accept: Callable[[Loaded], None]) -> None:
    """descriptor: of the state of the running server. file: as given to the server. accept: raises ConfigError for a
    configuration that a start refuses. Raises: BootError, ConfigError."""
    signal.alarm(ALARM_S)
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.nice(NICE)
    state = _read(descriptor)
    try:
        before = upgrade_state.config_of(state)
        scoreboard.check(state.scoreboard)
    except (NotUnderstood, LayoutUnknown) as error:
        raise _restart_needed(state.version, str(error)) from None
    loaded = config_load.load(file, state.secrets)
    accept(loaded)
    read_all(loaded.config, loaded.name)
    config = applicable(before, loaded.config)
    read_all(config, loaded.name)
    preload.load(config)
    check_schema(configured(config), config.timeouts.store_s)
    plugin_check.check(config, loaded.name, lambda: None)


def _read(descriptor: int) -> MasterState:
    try:
        return upgrade_state.read(descriptor)
    except (NotUnderstood, OSError) as error:
        raise _restart_needed("", str(error)) from None


def _restart_needed(before: str, why: str) -> BootError:
    which = f"from version {before} " if before else ""
    return BootError(f"version {__version__} cannot take over {which}without a restart: {why}", Exit.CONFIG)
