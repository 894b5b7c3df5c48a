"""What is accepted and what is refused of the files of a server, and what the operator is told."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chatd.strict_modes import StrictModes

US = os.geteuid()
needs_root = pytest.mark.skipif(US != 0, reason="needs root")
STRANGER = 4711


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory that everybody may pass through, as /etc is. Not pytest's, whose parents only the user may enter."""
    made = Path(tempfile.mkdtemp(prefix="chatd-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def made(path: Path, mode: int, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def folder(path: Path, mode: int) -> Path:
    path.mkdir(parents=True)
    path.chmod(mode)
    return path


def of_file(path: Path, *, secret: bool = False) -> list[str]:
    strict = StrictModes({US})
    strict.file(path, secret=secret)
    return list(strict.problems)


def of_directory(path: Path) -> list[str]:
    strict = StrictModes({US})
    strict.directory(path)
    return list(strict.problems)


class TestModes:
    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o400, 0o660])
    def test_a_file_that_only_we_may_write_is_accepted(self, top: Path, mode: int) -> None:
        """Also by a group in which only we are."""
        assert of_file(made(top / "file", mode)) == []

    def test_a_file_that_others_may_write_is_refused_with_the_command_that_mends_it(self, top: Path) -> None:
        path = made(top / "file", 0o646)
        assert of_file(path) == [f"{path}: mode 0646, writable by others; run: chmod o-w {path}"]

    def test_a_secret_that_others_may_read_is_refused(self, top: Path) -> None:
        path = made(top / "key", 0o604)
        assert of_file(path, secret=True) == [
            f"{path}: mode 0604, readable by others, but it holds secrets; run: chmod o-r {path}"
        ]
        assert of_file(made(top / "key", 0o640), secret=True) == []

    def test_a_secret_that_others_cannot_reach_is_accepted(self, top: Path) -> None:
        folder(top / "private", 0o700)
        assert of_file(made(top / "private" / "key", 0o644), secret=True) == []

    def test_a_directory_that_others_may_write_is_refused_wherever_it_is_on_the_way(self, top: Path) -> None:
        loose = folder(top / "loose", 0o777)
        path = made(loose / "inner" / "file", 0o600)
        said = [f"{loose}: mode 0777, writable by others; run: chmod o-w {loose}"]
        assert of_file(path) == of_directory(loose / "inner") == of_directory(loose) == said

    def test_a_sticky_directory_on_the_way_is_accepted_but_not_as_our_own(self, top: Path) -> None:
        sticky = folder(top / "sticky", 0o1777)
        assert of_file(made(sticky / "inner" / "file", 0o600)) == []
        assert of_directory(sticky) == [f"{sticky}: mode 1777, writable by others; run: chmod o-w {sticky}"]

    def test_what_several_files_share_is_reported_once(self, top: Path) -> None:
        loose = folder(top / "loose", 0o777)
        strict = StrictModes({US})
        for name in "ab":
            strict.file(made(loose / name, 0o606))
        assert len(strict.problems) == 3

    def test_what_does_not_exist_or_is_something_else_is_left_to_others(self, top: Path) -> None:
        assert of_file(top / "missing" / "file") == of_directory(top / "missing") == []
        assert of_directory(made(top / "file", 0o606)) == []
        assert of_file(folder(top / "folder", 0o777)) == []


class TestGroups:
    @pytest.fixture
    def members(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Give the group of our files these members, as (name, id)."""

        def give(*accounts: tuple[str, int]) -> None:
            entries = [SimpleNamespace(pw_name=name, pw_uid=uid, pw_gid=1) for name, uid in accounts]
            monkeypatch.setattr(grp, "getgrgid", lambda gid: SimpleNamespace(gr_mem=[name for name, _ in accounts]))
            monkeypatch.setattr(pwd, "getpwall", lambda: entries)

        return give

    def test_a_group_with_other_people_in_it(self, top: Path, members: Any) -> None:
        members(("alice", 1001), ("bob", 1002), ("syslog", 104))
        path = made(top / "file", 0o660)
        assert of_file(path) == [f"{path}: mode 0660, writable by its group, with alice, bob; run: chmod g-w {path}"]
        path = made(top / "key", 0o640)
        assert of_file(path, secret=True) == [
            f"{path}: mode 0640, readable by its group, with alice, bob, but it holds secrets; run: chmod g-r {path}"
        ]

    def test_a_group_of_accounts_of_the_system(self, top: Path, members: Any) -> None:
        """As /var/log belongs to the group syslog."""
        members(("syslog", 104), ("nobody", 65534))
        assert of_directory(folder(top / "log", 0o775)) == []

    def test_long_groups_are_cut(self, top: Path, members: Any) -> None:
        members(*((f"user{number}", 1000 + number) for number in range(9)))
        assert "its group, with user0, user1, user2 and 6 more" in of_file(made(top / "file", 0o660))[0]


class TestOwners:
    @needs_root
    def test_a_file_of_somebody_else_is_refused(self, top: Path) -> None:
        path = made(top / "file", 0o600)
        os.chown(path, STRANGER, 0)
        assert of_file(path) == [
            f"{path}: it belongs to user {STRANGER}, who could replace it; run: chown -h root {path}"
        ]
        strict = StrictModes({STRANGER})
        strict.file(path, secret=True)
        assert strict.problems == ()

    @needs_root
    def test_a_directory_of_somebody_else_is_refused(self, top: Path) -> None:
        theirs = folder(top / "theirs", 0o755)
        path = made(theirs / "file", 0o600)
        os.chown(theirs, STRANGER, 0)
        assert "it belongs to user 4711" in of_file(path)[0]

    @needs_root
    def test_a_symbolic_link_of_somebody_else_is_refused_though_it_leads_to_a_safe_place(self, top: Path) -> None:
        safe, sticky = folder(top / "safe", 0o755), folder(top / "sticky", 0o1777)
        link = sticky / "link"
        link.symlink_to(safe)
        os.lchown(link, STRANGER, 0)
        said = [f"{link}: symbolic link belongs to user {STRANGER}, who could replace it; run: chown -h root {link}"]
        assert of_directory(link) == said
        os.lchown(link, 0, 0)
        assert of_directory(link) == []

    def test_the_target_of_a_symbolic_link_and_what_leads_to_it_is_checked(self, top: Path) -> None:
        loose = folder(top / "loose", 0o777)
        path = made(loose / "file", 0o606)
        for target in (str(path), "../loose/file", "../other/../loose/file"):
            link = top / "other" / "link"
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target)
            assert {line.partition(":")[0] for line in of_file(link)} == {str(loose), str(path)}

    def test_links_in_a_circle_end(self, top: Path) -> None:
        (top / "a").symlink_to("b")
        (top / "b").symlink_to("a")
        assert of_file(top / "a") == []
