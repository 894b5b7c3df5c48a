"""The library uploads and downloads files, against the real server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd_client import Attachment, Code, Invalid, LimitReached, NotFound, NotPermitted
from chatd_client.files import safe_name
from chatd_client.model import size_text
from tests.chatd_client.people import People
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.web.samples import png

CONTENT = random.Random(5).randbytes(3_500_000)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """url: the server says where its files are."""
    listen = {"http": {"serves": ["files"]}}
    daemon = Daemon(tmp_path_factory.mktemp("server"), workers=2, api=True, listen=listen)
    url = f"http://127.0.0.1:{daemon.ports['http']}"
    types = ["image/png", "text/plain", "application/octet-stream"]
    daemon.config["files"] = {"dir": "files", "url": url, "max_bytes": 4_000_000, "types": types, "per_message": 2}
    daemon.write_config()
    try:
        yield People(daemon.start())
    finally:
        complaints = daemon.discard()
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])


def test_files_go_there_with_a_message(people: People, tmp_path: Path) -> None:
    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann) as a, people.client(bob, "ws") as b:
            limits = await a.files.limits()
            assert (limits.max_bytes, limits.per_message, limits.used_bytes) == (4_000_000, 2, 0)
            path = tmp_path / "lake.png"
            path.write_bytes(png(40, 30))
            picture = await a.files.upload(path)
            assert (picture.name, picture.type, picture.width, picture.height) == ("lake.png", "image/png", 40, 30)
            notes = await a.files.upload(CONTENT, name="notes.bin")
            sent = await a.send(bob, "", files=[picture.id, notes.id])
            message = await b.receive(10)
            assert (message.text, message.files) == ("", (picture, notes))
            assert str(notes) == "[notes.bin, 3.5 MB]"
            saved = [await b.files.download(ann, message.seq, file, tmp_path / "to") for file in message.files[:1]]
            assert saved[0].read_bytes() == png(40, 30)
            folder = tmp_path / "folder"
            folder.mkdir()
            assert (await b.files.download(ann, message.seq, notes, folder)).read_bytes() == CONTENT
            with pytest.raises(FileExistsError):
                await b.files.download(ann, message.seq, notes, folder)
            (past,) = [one async for one in a.conversations.history(bob)]
            assert (past.seq, past.files) == (sent.seq, (picture, notes))
            with pytest.raises(NotFound) as used:
                await a.send(bob, "again", files=[notes.id])
            assert used.value.code == Code.UNKNOWN_FILE

    run(story())


def test_an_upload_goes_on_after_the_server_was_killed(people: People, tmp_path: Path) -> None:
    """In this run, and in the next one by its id."""
    daemon = people.daemon

    async def story() -> None:
        ann = await people.user("ann")
        heard: list[int] = []
        begun: list[str] = []

        def on_progress(sent: int, _: int) -> None:
            heard.append(sent)
            if len(heard) == 3:
                daemon.kill_all()
                daemon.start()

        async with people.client(ann) as a:
            file = await a.files.upload(CONTENT, name="a.bin", on_progress=on_progress)
            assert file.size == len(CONTENT)
            assert heard[3] >= heard[2] > 0
            first = asyncio.create_task(
                a.files.upload(
                    CONTENT, name="b.bin", on_begin=begun.append, on_progress=lambda sent, _: sent and first.cancel()
                )
            )
            with pytest.raises(asyncio.CancelledError):
                await first
        offsets: list[int] = []
        async with people.client(ann) as a:
            again = await a.files.upload(
                CONTENT, name="b.bin", file=begun[0], on_progress=lambda sent, _: offsets.append(sent)
            )
            assert again.id == begun[0]
            assert offsets[0] > 0

    run(story(), 60)


def test_what_is_refused_says_why(people: People, tmp_path: Path) -> None:
    async def story() -> None:
        ann, bob, cy = [await people.user(name) for name in ("ann", "bob", "cy")]
        async with people.client(ann) as a, people.client(bob) as b, people.client(cy) as c:
            with pytest.raises(LimitReached) as large:
                await a.files.upload(b"x" * 4_000_001, name="a.txt")
            assert large.value.code == Code.FILE_TOO_LARGE
            with pytest.raises(NotPermitted) as kind:
                await a.files.upload(b"<script>", name="a.html")
            assert kind.value.code == Code.FILE_TYPE_NOT_ALLOWED
            with pytest.raises(NotPermitted):
                await a.files.upload(b"<script>", name="a.png")
            with pytest.raises(Invalid):
                await a.files.upload(b"", name="a.txt")
            with pytest.raises(ValueError, match="name"):
                await a.files.upload(b"x")
            with pytest.raises(FileNotFoundError):
                await a.files.upload(tmp_path / "nothing")
            cancelled = await a.files.upload(b"x", name="a.txt")
            await a.files.cancel(cancelled.id)
            with pytest.raises(NotFound):
                await a.send(bob, "", files=[cancelled.id])
            file = await a.files.upload(b"secret", name="a.txt")
            with pytest.raises(NotFound):
                await b.send(cy, "mine", files=[file.id])
            sent = await a.send(bob, "", files=[file.id])
            with pytest.raises(NotFound):
                await c.files.url(ann, sent.seq, file.id)
            assert (await b.files.download(ann, sent.seq, file, tmp_path / "b")).read_bytes() == b"secret"
            await a.conversations.recall(bob, sent.seq)
            with pytest.raises(NotFound):
                await b.files.download(ann, sent.seq, file, tmp_path / "c")
            assert not (tmp_path / "c").exists()

    run(story())


def test_a_server_without_files_says_so(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "server")

    async def story() -> None:
        people = People(daemon.start())
        ann = await people.user("ann")
        async with people.client(ann) as a:
            assert (await a.files.limits()).max_bytes == 0
            with pytest.raises(NotPermitted) as refused:
                await a.files.upload(b"x", name="a.txt")
            assert refused.value.code == Code.NOT_ALLOWED

    try:
        run(story())
    finally:
        assert daemon.discard() == []


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..", "file"),
        (".bashrc", "bashrc"),
        ("a\\b", "a_b"),
    ],
)
def test_a_name_is_no_path(name: str, saved: str) -> None:
    assert safe_name(name) == saved


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1 B"), (999, "999 B"), (1000, "1.0 kB"), (1_240_000, "1.2 MB"), (26_214_400, "26 MB"), (2**31, "2.1 GB")],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert size_text(size) == text
    assert str(Attachment("x", "a", size)) == f"[a, {text}]"
