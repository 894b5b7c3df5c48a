"""An object store as the place for the content of files: a real S3 server on loopback."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import obstore
import pytest

from chatd.errors import BootError, Unavailable
from chatd.files.contract import PIECE_BYTES, Blobs
from chatd.files.s3 import PART_BYTES, S3Blobs, store_of
from tests.files.contract import ID, OTHER, BlobsContract, kept, names, sha256, upload, whole
from tests.files.s3_server import BUCKET, S3Server


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def place(server: S3Server, request: pytest.FixtureRequest) -> str:
    """A prefix that no other test has."""
    return f"s3://{BUCKET}/{re.sub('[^A-Za-z0-9]', '-', request.node.name)}"


@pytest.fixture
def again(server: S3Server, place: str) -> Callable[[], Blobs]:
    return lambda: S3Blobs(place, server.settings)


@pytest.fixture
def blobs(again: Callable[[], Blobs]) -> Blobs:
    return again()


class TestContract(BlobsContract):
    pass


def test_large_content_is_put_in_parts(blobs: Blobs) -> None:
    content = bytes(range(256)) * (PART_BYTES // 256 + 300)
    upload(blobs, content)
    name = blobs.keep(ID, sha256(content))
    assert whole(blobs, name) == content
    assert names(blobs) == {name: len(content)}


def test_content_that_was_put_while_its_pieces_were_not_deleted(blobs: Blobs, place: str, server: S3Server) -> None:
    """Killed in between: the next call finds the content, and deletes the pieces."""
    upload(blobs, b"content", piece=3)
    name = f"{ID}.{sha256(b'content')}"
    obstore.put(store_of(place, server.settings), f"content/{name}", b"content")
    assert blobs.received(ID) == 7
    assert blobs.digest(ID) == sha256(b"content")
    assert blobs.keep(ID, sha256(b"content")) == name
    assert names(blobs) == {name: 7}


def test_a_piece_that_does_not_continue_counts_for_nothing(blobs: Blobs, place: str, server: S3Server) -> None:
    blobs.append(ID, 0, b"one")
    obstore.put(store_of(place, server.settings), f"uploads/{ID}/{7:012d}", b"late")
    assert blobs.received(ID) == 3
    assert blobs.read(ID, 0, 99) == b"one"
    blobs.delete(ID)
    assert names(blobs) == {}


def test_names_that_begin_alike_are_not_confused(blobs: Blobs) -> None:
    name = kept(blobs, b"theirs", OTHER)
    assert blobs.received(ID) == 0
    blobs.delete(ID)
    assert names(blobs) == {name: 6}


def test_a_store_that_does_not_answer_is_unavailable(blobs: Blobs) -> None:
    gone = S3Blobs(f"s3://{BUCKET}/x", "AWS_ENDPOINT_URL=http://127.0.0.1:9\nAWS_REGION=r\nAWS_ACCESS_KEY_ID=k\n"
                   "AWS_SECRET_ACCESS_KEY=s")  # fmt: skip
    with pytest.raises(Unavailable, match="files: s3://"):
        gone.received(ID)
    other = S3Blobs("s3://no-such-bucket", "")
    assert other is not blobs
    assert PIECE_BYTES < PART_BYTES


@pytest.mark.parametrize("settings", ["no equals sign", "AWS_NO_SUCH_SETTING=1"])
def test_settings_that_cannot_be_end_the_start(settings: str) -> None:
    with pytest.raises(BootError):
        S3Blobs(f"s3://{BUCKET}", settings)
