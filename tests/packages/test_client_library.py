"""The distribution chatd-client: it is built, and works in an environment that has nothing but what it needs."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import chatd
from tests.chatd_client.people import People
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.packages import builds

HOME = builds.ROOT / "clients" / "python"
NEEDED = ("msgspec", "websockets")
BUILD_SDIST = "import sys, setuptools.build_meta as backend; print(backend.build_sdist(sys.argv[1]))"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel made of it."""
    folder = tmp_path_factory.mktemp("client")
    python = builds.wheels() / ".tools" / "bin" / "python"
    source = folder / "source"
    shutil.copytree(HOME, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    builds.run(python, "-c", BUILD_SDIST, folder, cwd=source)
    (sdist,) = folder.glob("chatd_client-*.tar.gz")
    builds.run(
        *(python, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", folder, sdist),
    )
    (wheel,) = folder.glob("chatd_client-*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def environment(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its Python. Nothing comes from an index."""
    folder = tmp_path_factory.mktemp("environment")
    _, wheel = built
    builds.run(builds.PYTHON, "-m", "venv", "--without-pip", folder)
    tool = builds.wheels() / ".tools" / "bin" / "python"
    builds.run(
        *(tool, "-m", "pip", "--isolated", "--disable-pip-version-check", "--python", folder / "bin" / "python"),
        *("install", "--no-index", "--find-links", builds.wheels(), wheel),
    )
    return folder / "bin" / "python"


@pytest.mark.slow
def test_it_has_its_version_its_types_and_no_code_of_the_server(built: tuple[Path, Path], environment: Path) -> None:
    _, wheel = built
    assert f"-{chatd.__version__}-" in wheel.name
    listed = builds.run(builds.PYTHON, "-m", "zipfile", "--list", wheel)
    assert "chatd_client/py.typed" in listed
    assert "chatd_client/chatserver/frames.py" in listed
    assert "chatd/" not in listed
    installed = "from importlib.metadata import distributions; print(*sorted(one.name for one in distributions()))"
    assert builds.run(environment, "-I", "-c", installed).split() == sorted(("chatd-client", *NEEDED))


def test_an_example_runs_on_it(environment: Path, make_daemon: Callable[..., Daemon]) -> None:
    people = People(make_daemon().start())

    async def story() -> None:
        pipe, alice = await people.user("pipe"), await people.user("alice")
        async with people.client(alice) as a:
            for scheme in ("tcp", "ws"):
                done = await asyncio.to_thread(
                    subprocess.run,
                    [environment, "-I", HOME / "examples" / "pipe.py", people.url(scheme), pipe, alice],
                    input=f"by {scheme}\n", env={**os.environ, "CHAT_PASSWORD": people.town.secret},
                    capture_output=True, text=True, timeout=30, check=False,
                )  # fmt: skip
                assert (done.returncode, done.stderr) == (0, "")
                assert (await a.receive(10)).text == f"by {scheme}"

    run(story())
