"""A directory as the place for the content of files, and what other users of the host may try there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd.errors import Unavailable
from chatd.files.contract import Blobs
from chatd.files.directory import DirectoryBlobs
from tests.files.contract import ID, BlobsContract, kept, names, whole


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "files"
    place.mkdir()
    return place


@pytest.fixture
def again(place: Path) -> Callable[[], Blobs]:
    return lambda: DirectoryBlobs(place)


@pytest.fixture
def blobs(place: Path) -> Blobs:
    return DirectoryBlobs(place)


class TestContract(BlobsContract):
    pass


def test_only_our_user_reads_what_is_kept(place: Path, blobs: Blobs) -> None:
    name = kept(blobs, b"secret")
    blobs.append("half-" * 5, 0, b"secret")
    modes = {str(path.relative_to(place)): stat.S_IMODE(path.stat().st_mode) for path in place.rglob("*")}
    assert modes == {
        "content": 0o700,
        f"content/{name[:2]}": 0o700,
        f"content/{name[:2]}/{name}": 0o600,
        "uploads": 0o700,
        f"uploads/{'half-' * 5}": 0o600,
    }


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_a_link_in_the_way_is_not_followed(place: Path, blobs: Blobs, tmp_path: Path, link: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    (place / "uploads").mkdir()
    if link == "symbolic":
        (place / "uploads" / ID).symlink_to(victim)
    else:
        (place / "uploads" / ID).hardlink_to(victim)
    with pytest.raises(Unavailable):
        blobs.append(ID, 0, b"evil")
    assert victim.read_bytes() == b""


def test_what_is_no_content_is_left_alone(place: Path, blobs: Blobs) -> None:
    name = kept(blobs, b"mine")
    (place / "content" / name[:2] / "README").write_text("from the operator")
    (place / "uploads" / "lost+found").mkdir()
    assert names(blobs) == {name: 4}


def test_a_full_disk_leaves_no_half_piece(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs.append(ID, 0, b"begin")
    real, calls = os.pwrite, []

    def full(descriptor: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[:2], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Unavailable, match="No space left"):
        blobs.append(ID, 5, b"more")
    monkeypatch.undo()
    assert blobs.received(ID) == 5
    assert blobs.append(ID, 5, b"more") == 9
    assert blobs.read(ID, 0, 99) == b"beginmore"


def test_content_is_on_the_disk_before_it_has_its_name(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of what reaches the disk: the content, then its name, then the folder that has the name."""
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    def note_rename(source: Path, target: Path) -> None:
        done.append("name")
        rename(source, target)

    blobs.append(ID, 0, b"content")
    digest = blobs.digest(ID)
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    name = blobs.keep(ID, digest)
    monkeypatch.undo()
    named = done.index("name")
    assert "content" in done[:named]
    assert "folder" in done[named + 1 :]
    assert whole(blobs, name) == b"content"


def test_a_place_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="Not a directory"):
        DirectoryBlobs(tmp_path / "file").check()
    with pytest.raises(Unavailable, match="No such file or directory"):
        DirectoryBlobs(tmp_path / "missing").check()
