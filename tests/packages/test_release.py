"""`make release`: what it does to a clone, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import chatd

ROOT = Path(__file__).parents[2]
VERSION = "7.1.0"
NEWS = "Something new for operators."

Release = Callable[..., subprocess.CompletedProcess[str]]


def git(clone: Path, *arguments: str) -> str:
    who = ("-c", "user.name=tester", "-c", "user.email=tester@invalid")
    return subprocess.run(
        ["git", *who, *arguments], cwd=clone, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Of this repository, with one fragment that is known."""
    git(tmp_path, "clone", "--quiet", str(ROOT), "clone")
    made = tmp_path / "clone"
    git(made, "config", "user.name", "tester")
    git(made, "config", "user.email", "tester@invalid")
    (made / "newsfragments/something.added.md").write_text(NEWS + "\n")
    git(made, "add", "--all")
    git(made, "commit", "--quiet", "--message", "Something new")
    return made


@pytest.fixture
def release(clone: Path) -> Release:
    def run(version: str = VERSION) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ROOT / "packaging/release.py", version],
            cwd=clone, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    return run


def state(clone: Path) -> tuple[str, str, str]:
    return git(clone, "rev-parse", "HEAD"), git(clone, "tag"), git(clone, "status", "--porcelain")


def test_a_release_has_version_changelog_commit_and_tag(clone: Path, release: Release) -> None:
    ended = release()
    assert ended.returncode == 0, ended.stderr
    for package in ("chatd", "clients/python/chatd_client"):
        assert f'__version__ = "{VERSION}"' in (clone / package / "__init__.py").read_text()
    npm = clone / "clients" / "js"
    assert f'\nexport const VERSION = "{VERSION}";\n' in (npm / "chatd.js").read_text()
    package, lock = (json.loads((npm / name).read_text()) for name in ("package.json", "package-lock.json"))
    assert package["version"] == lock["version"] == lock["packages"][""]["version"] == VERSION
    assert lock["packages"]["node_modules/ws"]["version"] == package["devDependencies"]["ws"]
    changelog = (clone / "CHANGELOG.md").read_text()
    _, _, section = changelog.partition(f"## {VERSION} (")
    assert NEWS in section.partition("\n## ")[0]
    assert [path.name for path in (clone / "newsfragments").iterdir()] == ["template.md"]
    assert git(clone, "status", "--porcelain") == ""
    assert git(clone, "log", "-1", "--format=%s") == f"Release {VERSION}"
    assert git(clone, "describe", "--exact-match") == f"v{VERSION}"
    again = release()
    assert again.returncode == 1
    assert f"the tag v{VERSION} exists" in again.stderr


@pytest.mark.parametrize("name", ["newsfragments/other.fixed.md", "chatd/__init__.py"])
def test_a_checkout_with_changes_is_refused(clone: Path, release: Release, name: str) -> None:
    with (clone / name).open("a") as file:
        file.write("\n")
    before = state(clone)
    ended = release()
    assert (ended.returncode, state(clone)) == (1, before)
    assert "not committed" in ended.stderr


@pytest.mark.parametrize(
    ("version", "why"),
    [("0.0.1", "not later"), ("seven", "not a version"), ("1!7.0", "not a version"), ("7.0+mine", "not a version")],
)
def test_a_version_that_cannot_be_is_refused(clone: Path, release: Release, version: str, why: str) -> None:
    before = state(clone)
    ended = release(version)
    assert (ended.returncode, state(clone)) == (1, before)
    assert why in ended.stderr


def test_without_news_there_is_no_release(clone: Path, release: Release) -> None:
    for path in (clone / "newsfragments").iterdir():
        if path.name != "template.md":
            path.unlink()
    git(clone, "commit", "--quiet", "--all", "--message", "Nothing new")
    before = state(clone)
    ended = release()
    assert (ended.returncode, state(clone)) == (1, before)
    assert "nothing to say" in ended.stderr


def test_a_release_that_fails_half_way_leaves_the_clone_as_it_was(clone: Path, release: Release) -> None:
    """A hook of git refuses the commit."""
    hook = clone / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    before = state(clone)
    assert release().returncode == 1
    assert state(clone) == before
    assert (clone / "newsfragments/something.added.md").exists()


def test_the_commands_show_the_version() -> None:
    for command in ("chatd", "chatctl", "chat", "chatd-setup"):
        told = subprocess.run(
            [Path(sys.prefix, "bin", command), "--version"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
        assert told == f"{command} {chatd.__version__}\n"
