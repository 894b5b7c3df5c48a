"""What every place for the content of files must do. A place is tested by a subclass with a fixture `blobs`.

One instance is what one process has of the place; another one on the same place is made by `again`.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable

import pytest

from chatd.errors import Unavailable
from chatd.files.contract import PIECE_BYTES, Blobs, OffsetMismatch

ID, OTHER = "A1-b2_C3d4E5f6G7h8I9j0", "A1-b2_C3d4E5f6G7h8I9jX"
"""They begin alike."""
Again = Callable[[], Blobs]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def upload(blobs: Blobs, content: bytes, file_id: str = ID, piece: int = PIECE_BYTES) -> None:
    for at in range(0, len(content), piece):
        part = content[at : at + piece]
        assert blobs.append(file_id, at, part) == at + len(part)


def kept(blobs: Blobs, content: bytes, file_id: str = ID) -> str:
    upload(blobs, content, file_id)
    return blobs.keep(file_id, blobs.digest(file_id))


def whole(blobs: Blobs, name: str) -> bytes:
    found = b""
    while part := blobs.read(name, len(found), PIECE_BYTES):
        found += part
    return found


def names(blobs: Blobs) -> dict[str, int]:
    return {one.name: one.size for one in blobs.kept()}


class BlobsContract:
    def test_what_comes_in_pieces_is_kept_whole(self, blobs: Blobs, again: Again) -> None:
        blobs.check()
        content = os.urandom(3 * PIECE_BYTES + 5)
        assert blobs.received(ID) == 0
        upload(blobs, content)
        elsewhere = again()
        assert elsewhere.received(ID) == len(content)
        assert elsewhere.read(ID, PIECE_BYTES - 2, 4) == content[PIECE_BYTES - 2 : PIECE_BYTES + 2]
        assert elsewhere.digest(ID) == sha256(content)
        name = elsewhere.keep(ID, sha256(content))
        assert name == f"{ID}.{sha256(content)}"
        assert whole(blobs, name) == content
        assert names(blobs) == {name: len(content)}

    def test_an_upload_goes_on_where_another_process_left_it(self, blobs: Blobs, again: Again) -> None:
        assert blobs.append(ID, 0, b"one") == 3
        assert again().append(ID, again().received(ID), b"two") == 6
        assert whole(blobs, kept(again(), b"", ID)) == b"onetwo"

    @pytest.mark.parametrize("offset", [0, 2, 4, 1 << 40])
    def test_a_wrong_offset_is_refused_and_changes_nothing(self, blobs: Blobs, offset: int) -> None:
        blobs.append(ID, 0, b"one")
        with pytest.raises(OffsetMismatch) as caught:
            blobs.append(ID, offset, b"again")
        assert caught.value.received == 3
        assert blobs.read(ID, 0, 99) == b"one"

    def test_of_two_writers_at_one_offset_one_is_refused(self, blobs: Blobs, again: Again) -> None:
        blobs.append(ID, 0, b"begin")
        others, begin, results = [again() for _ in range(4)], threading.Barrier(4), list[object]()

        def write(place: Blobs, text: bytes) -> None:
            begin.wait()
            try:
                results.append(place.append(ID, 5, text))
            except OffsetMismatch as error:
                results.append(error)

        texts = [bytes([65 + number]) * (100 + number) for number in range(4)]
        threads = [threading.Thread(target=write, args=one) for one in zip(others, texts, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (written,) = [one for one in results if isinstance(one, int)]
        assert blobs.received(ID) == written
        assert blobs.read(ID, 5, 1000) in texts

    def test_keeping_twice_is_keeping_once(self, blobs: Blobs, again: Again) -> None:
        name = kept(blobs, b"content")
        assert again().keep(ID, sha256(b"content")) == name
        assert again().digest(ID) == sha256(b"content")
        assert again().received(ID) == 7
        assert names(blobs) == {name: 7}

    def test_what_was_kept_does_not_change(self, blobs: Blobs, again: Again) -> None:
        name = kept(blobs, b"content")
        for offset in 0, 7:
            with pytest.raises(OffsetMismatch) as caught:
                again().append(ID, offset, b"more")
            assert caught.value.received == 7
        assert whole(blobs, name) == b"content"
        assert names(blobs) == {name: 7}

    def test_parts_are_read_and_nothing_beyond_the_end(self, blobs: Blobs) -> None:
        name = kept(blobs, b"0123456789")
        assert blobs.read(name, 0, 3) == b"012"
        assert blobs.read(name, 8, 99) == b"89"
        assert blobs.read(name, 10, 5) == blobs.read(name, 99, 5) == b""
        assert len(blobs.read(kept(blobs, bytes(2 * PIECE_BYTES), OTHER), 0, 1 << 40)) == PIECE_BYTES

    def test_deleting_an_upload_deletes_what_became_of_it(self, blobs: Blobs) -> None:
        blobs.append(ID, 0, b"half")
        name = kept(blobs, b"whole", OTHER)
        blobs.delete(ID)
        assert (blobs.received(ID), blobs.received(OTHER)) == (0, 5)
        blobs.delete(OTHER)
        assert names(blobs) == {}
        with pytest.raises(FileNotFoundError):
            blobs.read(name, 0, 1)
        for gone in ID, OTHER, name:
            blobs.delete(gone)

    def test_deleting_a_blob_leaves_the_others(self, blobs: Blobs) -> None:
        one, other = kept(blobs, b"same"), kept(blobs, b"same", OTHER)
        blobs.delete(one)
        assert names(blobs) == {other: 4}
        assert whole(blobs, other) == b"same"

    def test_what_is_gone_is_not_kept(self, blobs: Blobs) -> None:
        with pytest.raises((Unavailable, FileNotFoundError)):
            blobs.keep(ID, sha256(b""))
        assert names(blobs) == {}

    @pytest.mark.parametrize(
        "name",
        [
            "../../../../etc/passwd", "..", ".", "", "/etc/passwd", "a" * 15, "a" * 65, "A1-b2_C3d4E5f6G7h8I9j0/..",
            "A1-b2_C3d4E5f6G7h8I9j0\n", "A1-b2_C3d4E5f6G7h8I9j0\0", f"A1-b2_C3d4E5f6G7h8I9j0.{'g' * 64}",
            "A1-b2_C3d4E5f6G7h8I9j0.ff", "..-b2_C3d4E5f6G7h8I9j0", "A1\\b2_C3d4E5f6G7h8I9j0", "É1-b2_C3d4E5f6G7h8I9j0",
        ],
    )  # fmt: skip
    def test_a_name_that_is_no_name_reaches_no_file(self, blobs: Blobs, name: str) -> None:
        calls: list[Callable[[], object]] = [
            lambda: blobs.received(name),
            lambda: blobs.append(name, 0, b"x"),
            lambda: blobs.digest(name),
            lambda: blobs.keep(name, "0" * 64),
            lambda: blobs.read(name, 0, 9),
            lambda: blobs.delete(name),
            lambda: blobs.keep(ID, name),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="not the name"):
                call()
        assert names(blobs) == {}
