"""Guards of a running daemon that a test switches off and on.

Owns: replacing guards in the workers, each by its bug while a file with the bug's name is in the daemon's directory of
switches.
Elsewhere: the bugs (tests.consent.planted, tests.groups.planted), running a daemon with them (tests.faults.planted).
Fails: never.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.harness.daemon import Daemon

Planted = tuple[Any, str, Callable[..., Any]]
"""Where the guard is, its name, and what is called instead: with the guard, then with its arguments."""
_FOLDER = "switches"
_VARIABLE = "SWITCHES"


def with_switches(daemon: Daemon) -> Daemon:
    """Before it is started."""
    folder = daemon.root / _FOLDER
    folder.mkdir()
    daemon.env[_VARIABLE] = str(folder)
    return daemon


@contextlib.contextmanager
def switched_off(bug: str, *daemons: Daemon) -> Iterator[None]:
    files = [daemon.root / _FOLDER / bug for daemon in daemons]
    for file in files:
        file.touch()
    try:
        yield
    finally:
        for file in files:
            file.unlink()


def plant(bugs: Mapping[str, Callable[[], Planted]]) -> None:
    """In the workers. All guards are as they are until one is switched off."""
    folder = Path(os.environ[_VARIABLE])
    for name, bug in bugs.items():
        owner, attribute, instead = bug()
        setattr(owner, attribute, _switched(folder / name, getattr(owner, attribute), instead))


def _switched(file: Path, guard: Callable[..., Any], instead: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *asked: instead(guard, *asked) if file.exists() else guard(*asked)
