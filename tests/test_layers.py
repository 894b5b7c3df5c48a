"""The layers hold, and the contracts that say so bite: a planted import must be found."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.xdist_group("layers")  # they share one run
LINT = Path(sys.executable).parent / "lint-imports"


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINT), "--no-logo", "--no-cache", "--config", str(ROOT / ".importlinter")]
    env = {"PYTHONPATH": str(root), "COLUMNS": "400"}  # no line is wrapped
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


def test_imports_go_downwards_only() -> None:
    answer = lint(ROOT)
    assert answer.returncode == 0, answer.stdout


def copy_code(to: Path) -> None:
    for package in (ROOT / "chatd", ROOT / "clients" / "python" / "chatd_client"):
        shutil.copytree(package, to / package.name, ignore=shutil.ignore_patterns("__pycache__"))


PLANTED = (
    ("chatd/config/schema.py", "import chatd.model", "Imports go downwards only"),
    ("chatd/bus/contract.py", "import chatd.store.contract", "Imports go downwards only"),
    ("chatd/core/sessions/hub.py", "import chatd.wire.contract", "The chat knows no sockets"),
    ("chatd/core/sessions/hub.py", "import socket", "The chat knows no sockets"),
    ("chatd/core/sessions/hub.py", "import chatd.store.sqlite.tables", "The chat knows bus and store"),
    ("chatd/core/sessions/hub.py", "import chatd.bus.local.bus", "The chat knows bus and store"),
    ("chatd/bus/redis/bus.py", "import chatd.bus.local.link", "Inside bus"),
    ("chatd/bus/contract.py", "import chatd.bus.write_buffer", "Inside bus"),
    ("chatd/store/mysql/tables.py", "import chatd.store.sqlite.file", "Inside store"),
    ("chatd/wire/echo.py", "import chatd.wire.chatserver.codec", "Inside wire"),
    ("chatd/store/contract.py", "import socket", "The chat knows no sockets"),
    ("chatd/wire/contract.py", "import time", "A wire is a pure function of bytes"),
    ("chatd/protocol.py", "import random", "A wire is a pure function of bytes"),
    ("chatd/master/watcher.py", "import asyncio", "The master has no event loop"),
    ("chatd/scoreboard.py", "import sqlite3", "The master has no event loop"),
    ("chatd/client/__init__.py", "import chatd.wire.contract", "The client stands alone"),
    ("chatd/net/__init__.py", "import chatd.client", "The server does not know the client"),
    ("chatd/net/__init__.py", "import chatd_client", "The server does not know the client"),
    ("chatd_client/packets.py", "import chatd.errors", "The client library knows nothing of the server"),
    ("chatd_client/packets.py", "import chatd_client.session", "Inside chatd_client"),
)
"""A file, an import that does not belong there, and the contract that it breaks."""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of each broken contract, by its name, when all of these are planted: to read the code takes far
    longer than to find them in it."""
    root = tmp_path_factory.mktemp("planted")
    copy_code(root)
    for module, line, _ in PLANTED:
        with (root / module).open("a") as file:
            file.write(f"\n{line}\n")
    answer = lint(root)
    assert answer.returncode != 0, answer.stdout + answer.stderr
    told = answer.stdout.partition("Broken contracts")[2]
    parts = re.split(r"^(.+)\n-+$", told, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    PLANTED,
    ids=lambda value: value.replace("/", ".") if isinstance(value, str) else None,
)
def test_a_planted_import_is_found(broken: dict[str, str], module: str, line: str, contract: str) -> None:
    importer = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    told = "".join(text for name, text in broken.items() if name.startswith(contract))
    assert re.search(rf"{re.escape(importer)} -> {re.escape(line.removeprefix('import '))} \(l", told), told


def test_a_module_without_a_place_is_found(tmp_path: Path) -> None:
    copy_code(tmp_path)
    (tmp_path / "chatd" / "utils.py").write_text('"""Nobody knows where this belongs."""\n')
    answer = lint(tmp_path)
    assert answer.returncode != 0
    assert "utils" in answer.stdout
