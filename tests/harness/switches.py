"""Guards of a running daemon that a test switches off and on.

Owns: replacing guards in the workers, each by its bug while a file with the bug's name is in the daemon's directory of
switches; one daemon for all bugs of a module.
Elsewhere: the bugs (tests.consent.planted, tests.groups.planted), running a daemon with them (tests.faults.planted).
Fails: never.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.harness.daemon import Daemon

Planted = tuple[Any, str, Callable[..., Any]]
"""Where the guard is, its name, and what is called instead: with the guard, then with its arguments. A guard may be a
function, a method, a coroutine, a static method, or a property, which is then called to be read."""
Bugs = Mapping[str, Callable[[], Planted | list[Planted]]]
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


def stops(bug: str, attack: Callable[[], object], *daemons: Daemon) -> None:
    """The attack, which asserts that it fails, does so while there is the guard that this bug replaces, and only then.
    Penalties that it brings do not outlast it."""
    attack()
    _forgive(daemons)
    try:
        with switched_off(bug, *daemons):
            attack()
    except AssertionError:
        _forgive(daemons)
    else:
        raise AssertionError(f"{bug} changes nothing: the attack fails without the guard, too")


def _forgive(daemons: Iterable[Daemon]) -> None:
    for daemon in daemons:
        daemon.ctl_said("penalties", "clear", "--all")


@contextlib.contextmanager
def switchable(root: Path, module: str, **options: Any) -> Iterator[Daemon]:
    """A daemon with two workers, in which the bugs of `module` (tests.groups.planted, for example) can be switched on.
    At the end its log must hold no error. options: of Daemon."""
    daemon = Daemon(root, **{"workers": 2, "entry": ("-m", module, "switches"), **options})
    try:
        yield with_switches(daemon).start()
    finally:
        complaints = daemon.discard()
    assert complaints == []


def plant(bugs: Bugs) -> None:
    """In the workers. All guards are as they are until one is switched off."""
    folder = Path(os.environ[_VARIABLE])
    for name, bug in bugs.items():
        planted = bug()
        for owner, attribute, instead in planted if isinstance(planted, list) else [planted]:
            kind = inspect.getattr_static(owner, attribute)
            if isinstance(kind, property):
                assert kind.fget is not None
                setattr(owner, attribute, property(_switched(folder / name, kind.fget, instead), kind.fset))
                continue
            switched = _switched(folder / name, getattr(owner, attribute), instead)
            setattr(owner, attribute, staticmethod(switched) if isinstance(kind, staticmethod) else switched)


def _switched(file: Path, guard: Callable[..., Any], instead: Callable[..., Any]) -> Callable[..., Any]:
    def either(*asked: Any, **named: Any) -> Any:
        return instead(guard, *asked, **named) if file.exists() else guard(*asked, **named)

    return either
