"""constraints.txt and constraints-dev.txt: complete, pinned, hashed, and the same versions in both."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN, DEV = "constraints.txt", "constraints-dev.txt"
HASH = re.compile(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?")


def entries(name: str) -> dict[str, list[str]]:
    """The lines of each entry, by the name of its distribution."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in (ROOT / name).read_text().splitlines():
        if line.startswith("#"):
            continue
        if not line.startswith(" "):
            current = found.setdefault(canonicalize_name(re.split(r"[=<>! ;\[]", line)[0]), [])
        current.append(line)
    return found


def wanted(*extras: str) -> list[Requirement]:
    project = PROJECT["project"]
    texts = [*PROJECT["build-system"]["requires"], *project["dependencies"]]
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("name", [RUN, DEV])
def test_every_entry_is_one_version_with_hashes_and_nothing_else(name: str) -> None:
    for lines in entries(name).values():
        for line in lines:
            assert HASH.fullmatch(line) or re.fullmatch(r"[\w.-]+==[\w.!+]+( ; .+)? \\", line), line
        assert any("--hash" in line for line in lines)


@pytest.mark.parametrize(("name", "extras"), [(RUN, ()), (DEV, ("dev", "mysql"))])
def test_every_dependency_is_there_in_a_version_that_is_accepted(name: str, extras: tuple[str, ...]) -> None:
    """After a change of pyproject.toml: make constraints."""
    found = entries(name)
    for requirement in wanted(*extras):
        pinned = Requirement(found[canonicalize_name(requirement.name)][0].removesuffix(" \\"))
        (version,) = pinned.specifier
        assert requirement.specifier.contains(version.version, prereleases=True), requirement


def test_both_files_have_the_same_versions() -> None:
    """And the same hashes. For which versions of Python an entry is may differ: tests need more than a run."""
    run, dev = entries(RUN), entries(DEV)
    for name, (first, *hashes) in run.items():
        assert [first.partition(" ")[0], *hashes] == [dev[name][0].partition(" ")[0], *dev[name][1:]], name
