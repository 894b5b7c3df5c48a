"""What is built once per test run: the wheels, the Debian package, and the same package under a higher version.

Owns: building them by the scripts of packaging/, for the Python of this machine, and the directory of each.
Elsewhere: the scripts (packaging/), the container that they are installed into (harness.container).
Fails: AssertionError with the output of the command.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import chatd
from chatd.master.upgrade.preflight import OPTION

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
"""Not that of the tests: a package depends on the Python of the system."""
BUILD_S = 600
HIGHER, WITHOUT_UPGRADES = "99.0", "99.1"
"""The versions that are upgraded to."""


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    ended = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=BUILD_S)
    assert ended.returncode == 0, f"{command}: {ended.returncode}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


@contextmanager
def _alone() -> Iterator[None]:
    """Only one process of a test run builds at a time."""
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wheels() -> Path:
    """The directory of the wheels of this checkout, built once per test run; those of the dependencies stay longer."""
    this_run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    with _alone():
        stamp = ROOT / "build" / ".wheels-of"
        if not stamp.exists() or stamp.read_text() != this_run:  # others may be using them
            run("packaging/wheels", PYTHON, "build/wheels")
            stamp.write_text(this_run)
    return ROOT / "build" / "wheels"


def package(folder: Path) -> Path:
    """The package of this checkout."""
    found = wheels()
    told = run("packaging/build-deb", folder, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "WHEELS": str(found)})
    return Path(told.strip())


def _replace(tree: Path, file: Path, old: str, new: str) -> None:
    """In the source and in the bytecode, which is not compared with it."""
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    run(PYTHON, "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash", "-s", tree, "-p", "/", file)


def of_version(package: Path, version: str, folder: Path, *, knows_upgrades: bool = True) -> Path:
    """The same package with another version, in chatd as well. Building it again would take much longer.

    knows_upgrades: False = it does not understand what a running server asks it before an upgrade, like one from before
    there were upgrades."""
    tree = folder / f"tree-{version}"
    run("dpkg-deb", "--raw-extract", package, tree)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.MULTILINE))
    (code,) = tree.glob("usr/lib/chatd/lib/python3.*/site-packages/chatd")
    _replace(tree, code / "__init__.py", f'"{chatd.__version__}"', f'"{version}"')
    if not knows_upgrades:
        _replace(tree, code / "master/upgrade/preflight.py", f'"{OPTION}"', '"--unknown"')
        _replace(tree, code / "__main__.py", "options.preflight", "options.unknown")
    built = folder / f"chatd_{version}_{package.stem.rpartition('_')[2]}.deb"
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, built)
    shutil.rmtree(tree)
    return built
