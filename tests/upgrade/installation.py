"""Installations of chatd that can be upgraded: wheels of several versions, and an environment of their own.

Owns: building a wheel of this tree with another version number and a visible difference, installing it, and a daemon
that runs from there.
Elsewhere: the daemon itself (harness.daemon).
Fails: CalledProcessError with what pip said.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from tests.harness.daemon import TOP, Daemon

PARTS = ("chatd", "clients", "pyproject.toml", "README.md", "LICENSE", "etc", "man", "systemd")
"""What a wheel is built from; those that are not there are left out."""
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def copy_tree(target: Path, version: str) -> Path:
    """This tree as another version, whose echo server says its version."""
    target.mkdir(parents=True)
    for name in PARTS:
        source = TOP / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target / name)
    _replace(target / "chatd" / "__init__.py", "__version__ = ", f'__version__ = "{version}"')
    _replace(target / "chatd" / "wire" / "echo.py", "SUFFIX = ", f'SUFFIX = b" server[echo] version {version}"')
    return target


def _replace(file: Path, beginning: str, line: str) -> None:
    """The one line that begins so."""
    lines = file.read_text().splitlines()
    (at,) = (number for number, one in enumerate(lines) if one.startswith(beginning))
    lines[at] = line
    file.write_text("\n".join(lines) + "\n")


def build(tree: Path, out: Path) -> Path:
    subprocess.run(
        [*_PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(tree)],
        check=True, capture_output=True, text=True, cwd=tree,
    )  # fmt: skip
    (wheel,) = out.glob("chatd-*.whl")
    return wheel


class Installation:
    """A virtual environment that has chatd to itself, and everything else from that of the tests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
        self.python = root / "bin" / "python"
        (self.packages,) = (root / "lib").glob("python*/site-packages")
        (self.packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

    def install(self, wheel: Path) -> None:
        """Over whatever is installed, as an operator does it."""
        subprocess.run(
            [*_PIP, "--python", str(self.python), "install", "--no-deps", "--no-index", "--force-reinstall",
             str(wheel)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip

    def save(self) -> None:
        """What restore() goes back to."""
        for source in self._own():
            shutil.copytree(source, self._saved / source.name)

    def restore(self) -> None:
        """The files as they were at save(), whatever was installed or broken since. Much quicker than pip."""
        for changed in self._own():
            shutil.rmtree(changed)
        for source in self._saved.iterdir():
            shutil.copytree(source, self.packages / source.name)

    @property
    def _saved(self) -> Path:
        return self.root / "saved"

    def _own(self) -> list[Path]:
        return list(self.packages.glob("chatd*"))

    @property
    def package(self) -> Path:
        return self.packages / "chatd"

    def daemon(self, daemon: Daemon, *entry: str) -> Daemon:
        """Before it is started: it runs from here. entry: what is run, by default the installed command."""
        daemon.python = str(self.python)
        daemon.entry = entry or (str(self.root / "bin" / "chatd"),)
        daemon.env["PYTHONPATH"] = ""
        return daemon


def upgrade_of(daemon: Daemon, *options: str) -> subprocess.CompletedProcess[str]:
    return daemon.ctl("upgrade", *options, limit_s=90)


def versions(status: dict[str, Any]) -> set[str]:
    """Of the master and of every worker that serves."""
    return {status["version"], *(one["version"] for one in status["workers"] if one["state"] != "draining")}
