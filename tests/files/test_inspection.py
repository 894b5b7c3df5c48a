"""Comparing content and store, where each of them is wrong in one way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatd.files.contract import Blobs, Kept
from chatd.files.directory import DirectoryBlobs
from chatd.files.inspection import Inspection, Inspector, delete_unused
from chatd.store.contract import Content, FileRow, NewFile, Tables
from chatd.store.file_contract import AGAIN_MS
from chatd.store.open import StoreLocation, open_tables
from tests.files.contract import names, upload
from tests.store.steps import done, make

CONTENT = b"hello" * 2000


def _watch(what: str, more: int, total: int) -> None:
    assert more <= total
    assert what in ("files", "contents")


class Archive:
    """A store with a user, and a directory beside it."""

    def __init__(self, root: Path) -> None:
        self.place = root / "files"
        self.place.mkdir()
        self.blobs: Blobs = DirectoryBlobs(self.place)
        self.tables: Tables = open_tables(StoreLocation(path=root / "chatd.db"), 2.0, create=True)
        (self.owner,) = make(self.tables, "alice")

    def announce(self, name: str, content: bytes = CONTENT) -> NewFile:
        file = NewFile(
            id=name.ljust(22, "-"),
            owner=self.owner.id,
            name=f"{name}.txt",
            size=len(content),
            media_type="text/plain",
        )
        done(self.tables, lambda inside: inside.files.begin(file, 0, 1))
        return file

    def add(self, name: str, content: bytes = CONTENT) -> FileRow:
        file = self.announce(name, content)
        upload(self.blobs, content, file.id)
        sha256 = self.blobs.digest(file.id)
        blob = self.blobs.keep(file.id, sha256)
        return done(self.tables, lambda inside: inside.files.complete(file.id, Content(blob, sha256)))

    def path(self, blob: str) -> Path:
        return self.place / "content" / blob[:2] / blob if "." in blob else self.place / "uploads" / blob

    def stray(self, name: str, *, upload_only: bool = False) -> str:
        """Content of a file that the store does not know."""
        file_id = name.ljust(22, "-")
        upload(self.blobs, CONTENT, file_id)
        return file_id if upload_only else self.blobs.keep(file_id, self.blobs.digest(file_id))

    def age(self) -> None:
        """Everything was written long ago."""
        for path in self.place.glob("**/*"):
            os.utime(path, (1, 1))

    def inspect(self, *, fast: bool = False) -> Inspection:
        return Inspector(self.tables, self.blobs, _watch, reads_content=not fast).run()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(tmp_path)
    with contextlib.closing(made.tables):
        yield made


def test_where_everything_is_in_order_nothing_is_found(archive: Archive) -> None:
    archive.add("one")
    archive.add("two", b"another")
    same = archive.add("three")
    assert same.blob.startswith("one")
    archive.age()
    found = archive.inspect()
    # The content that came with `three` is doomed: the server deletes it.
    assert (found.files, found.contents, found.content_bytes) == (3, 3, 2 * len(CONTENT) + len(b"another"))
    assert found.sound
    assert not found.unused


def test_missing_content_is_found_for_every_file_that_has_it(archive: Archive) -> None:
    one, two, three = archive.add("one"), archive.add("two"), archive.add("three", b"another")
    archive.path(one.blob).unlink()
    for fast in (False, True):
        found = archive.inspect(fast=fast)
        assert {row.id for row in found.missing} == {one.id, two.id}
        assert not found.damaged
        assert not found.sound
        assert three.id not in {row.id for row in found.missing}


@pytest.mark.parametrize(
    ("change", "is_found_fast"),
    [
        (lambda content: content[:-1], True),
        (lambda content: content + b"!", True),
        (lambda content: b"j" + content[1:], False),
    ],
    ids=["shorter", "longer", "another"],
)
def test_content_that_was_changed_is_found(
    archive: Archive, change: Callable[[bytes], bytes], is_found_fast: bool
) -> None:
    row = archive.add("one")
    archive.add("two", b"another")
    archive.path(row.blob).write_bytes(change(CONTENT))
    assert [one.id for one in archive.inspect().damaged] == [row.id]
    assert bool(archive.inspect(fast=True).damaged) is is_found_fast


def test_only_old_content_that_nobody_needs_is_unused(archive: Archive) -> None:
    needed = archive.add("one")
    shared = archive.add("two")
    done(archive.tables, lambda inside: inside.files.cancel(needed.id))
    running = archive.announce("three")
    archive.blobs.append(running.id, 0, CONTENT[:100])
    finishing = archive.announce("four", b"whole")  # the content has its name, the store does not know yet
    upload(archive.blobs, b"whole", finishing.id)
    archive.blobs.keep(finishing.id, archive.blobs.digest(finishing.id))
    cancelled = archive.announce("five")
    archive.blobs.append(cancelled.id, 0, CONTENT[:100])
    done(archive.tables, lambda inside: inside.files.cancel(cancelled.id))
    strays = {archive.stray("six"), archive.stray("seven", upload_only=True)}
    assert not archive.inspect().unused, "it is young"
    archive.age()
    assert {one.name for one in archive.inspect().unused} == strays
    os.utime(archive.path(max(strays)), None)
    found = archive.inspect()
    assert {one.name for one in found.unused} == {min(strays)}

    before = names(archive.blobs)
    delete_unused(archive.blobs, found.unused, _watch)
    assert names(archive.blobs).keys() == before.keys() - {min(strays)}
    assert archive.inspect().sound
    assert archive.path(shared.blob).read_bytes() == CONTENT


def test_a_file_that_goes_meanwhile_is_not_missing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    row = archive.add("one")
    following = archive.tables.files.following

    def rows(after: str, limit: int) -> list[FileRow]:
        found = following(after, limit)
        done(archive.tables, lambda inside: inside.files.cancel(row.id))
        archive.blobs.delete(row.blob)
        return found

    monkeypatch.setattr(archive.tables.files, "following", rows)
    assert archive.inspect().sound


def test_a_file_that_comes_meanwhile_is_not_missing(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.add("one")
    listed = archive.blobs.kept

    def kept() -> list[Kept]:
        found = list(listed())
        archive.add("two", b"just now")
        return found

    monkeypatch.setattr(archive.blobs, "kept", kept)
    found = archive.inspect()
    assert found.files == 2
    assert found.sound
    assert not found.unused


def test_content_of_an_hour_is_old(archive: Archive) -> None:
    """The limit is the one after which the server deletes what an upload may have brought back."""
    stray = archive.stray("six")
    assert AGAIN_MS == 3600 * 1000
    path = archive.path(stray)
    now = path.stat().st_mtime
    os.utime(path, (now, now - 3500))
    assert not archive.inspect().unused
    os.utime(path, (now, now - 3700))
    assert [one.name for one in archive.inspect().unused] == [stray]
