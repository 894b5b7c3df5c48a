"""Make a release: the version, CHANGELOG.md from newsfragments/, a commit and a tag.

Owns: what must be true before, and the order of the steps. usage: release.py VERSION, by `make release VERSION=...`.
Elsewhere: the text of the changes (newsfragments/, towncrier), the version (FILES and OF_NPM, the only places).
Fails: exit code 1 with one line; then nothing is changed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from packaging.version import InvalidVersion, Version

ROOT = Path.cwd()
FILES = (ROOT / "chatd" / "__init__.py", ROOT / "clients" / "python" / "chatd_client" / "__init__.py")
"""Both distributions always have one version."""
LINE = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
OF_NPM = {
    ROOT / "clients" / "js" / "chatd.js": (1, re.compile(r'^(export const VERSION = ").+(";)$', re.MULTILINE)),
    ROOT / "clients" / "js" / "package.json": (1, re.compile(r'^(  "version": ").+(",)$', re.MULTILINE)),
    ROOT / "clients" / "js" / "package-lock.json": (2, re.compile(r'^( +"version": ").+(",)$', re.MULTILINE)),
}
"""Files of the package of npm, which has that version too: so many lines of each, the first ones that are like this."""
NO_NEWS = ("template.md", "README.md", ".gitignore")


class Refused(Exception):
    pass


def run(*command: str) -> str:
    """Raises: Refused with what the command said."""
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Refused(f"{' '.join(command)}: {(ended.stderr or ended.stdout).strip()}")
    return ended.stdout.strip()


def current() -> str:
    versions = set()
    for file in FILES:
        found = LINE.search(file.read_text())
        if found is None:
            raise Refused(f'{file}: has no line __version__ = "..."')
        versions.add(found[1])
    if len(versions) > 1:
        raise Refused(f"{FILES[0]} and {FILES[1]} have different versions: {', '.join(sorted(versions))}")
    return versions.pop()


def check(text: str) -> str:
    """The version, normalized. Raises Refused."""
    try:
        version = Version(text)
    except InvalidVersion:
        raise Refused(f"{text!r} is not a version: write 1.2.3 or 1.2.3rc1") from None
    if version.epoch or version.local:
        raise Refused(f"{text!r} is not a version: write 1.2.3 or 1.2.3rc1")
    if run("git", "status", "--porcelain"):
        raise Refused("the checkout has changes that are not committed; commit or stash them first")
    if run("git", "tag", "--list", f"v{version}"):
        raise Refused(f"the tag v{version} exists already")
    before = Version(current())
    released = bool(run("git", "tag", "--list", f"v{before}"))
    if version < before or (version == before and released):
        raise Refused(f"{version} is not later than {before}")
    if not [one for one in (ROOT / "newsfragments").iterdir() if one.name not in NO_NEWS]:
        raise Refused("newsfragments/ has nothing to say about this release")
    return str(version)


def of_npm(version: str) -> str:
    """A version as npm writes it: 1.2.3rc1 is 1.2.3-rc.1 there."""
    return re.sub(r"(a|b|rc)(\d+)$", r"-\1.\2", version)


def release(version: str) -> None:
    """Raises: Refused; then the checkout is as it was."""
    try:
        _release(version)
    except Refused:
        run("git", "reset", "--hard", "--quiet")
        raise


def _release(version: str) -> None:
    for file in FILES:
        file.write_text(LINE.sub(f'__version__ = "{version}"', file.read_text()))
    for file, (lines, pattern) in OF_NPM.items():
        text, changed = pattern.subn(rf"\g<1>{of_npm(version)}\g<2>", file.read_text(), count=lines)
        if changed != lines:
            raise Refused(f"{file}: has no version")
        file.write_text(text)
    run(sys.executable, "-m", "towncrier", "build", "--yes", "--version", version)
    run("git", "add", "--all", *map(str, (*FILES, *OF_NPM)), "CHANGELOG.md", "newsfragments")
    run("git", "commit", "--message", f"Release {version}")
    run("git", "tag", "--annotate", f"v{version}", "--message", f"chatd {version}")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not arguments[0]:
        sys.stderr.write("usage: make release VERSION=1.2.3\n")
        return 1
    try:
        version = check(arguments[0])
        release(version)
    except Refused as refused:
        sys.stderr.write(f"release: {refused}\n")
        return 1
    print(
        f"released {version}: look at it with `git show`, then `git push --follow-tags`, `make deb` and `make wheels`"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
