"""Files on their way: what is accepted, what is refused and then forgotten, and what upkeep deletes."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd import wall_clock
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.files.contract import OffsetMismatch
from chatd.files.directory import DirectoryBlobs
from chatd.model import User
from chatd.store.contract import FileState, NewFile, Stored, Tables
from chatd.store.file_contract import AGAIN_MS
from chatd.store.open import StoreLocation, open_tables
from tests.files.contract import OTHER, names, sha256
from tests.files.heads import exif, gif, jpeg, png
from tests.files.place import ID, Host, on_host
from tests.store.steps import make


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    """Closed with its host."""
    return open_tables(StoreLocation(path=tmp_path / "chatd.db"), 2.0, create=True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture
def people(tables: Tables) -> list[User]:
    return make(tables, "alice", "bob")


@pytest.fixture
def moved_clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Its one element is added to the clock, in milliseconds."""
    ahead, now_ms = [0], wall_clock.now_ms
    monkeypatch.setattr(wall_clock, "now_ms", lambda: now_ms() + ahead[0])
    return ahead


def test_a_file_from_its_announcement_to_the_end_of_its_message(
    tables: Tables, place: Path, people: list[User]
) -> None:
    alice, bob = people

    async def story(host: Host) -> None:
        file = await host.begin(alice, b"0123456789", sha256=sha256(b"0123456789"))
        assert await host.uploads.append(file, 0, b"0123") == 4
        assert await host.uploads.received(await host.uploads.find(ID)) == 4
        done = await host.send_rest(file, b"0123456789")
        assert (done.state, done.sha256) == (FileState.COMPLETE, sha256(b"0123456789"))
        assert await host.uploads.finish(done) == done
        assert await host.uploads.read(done, 4, 3) == b"456"
        sent = await host.send(alice, bob, done)
        assert isinstance(sent, Stored)
        message = sent.message
        await host.sweep()
        assert await host.read_whole(await host.uploads.find(ID)) == b"0123456789"
        assert (host.row.files_uploaded, host.row.file_bytes_uploaded) == (1, 10)
        assert (host.row.files_stored, host.row.file_bytes_stored) == (1, 10)
        await host.store.write(
            lambda inside: inside.revisions.recall(alice.id, message.conversation, message.seq, 1 << 40, 9)
        )
        await host.sweep()
        with pytest.raises(Refused) as caught:
            await host.uploads.read(done, 0, 9)
        assert caught.value.code is ErrorCode.UNKNOWN_FILE
        assert names(host.blobs) == {}

    on_host(tables, place, story)


@pytest.mark.parametrize(
    ("fields", "size", "code"),
    [
        ({"media_type": "text/html"}, 10, ErrorCode.FILE_TYPE_NOT_ALLOWED),
        ({"media_type": "image/svg+xml"}, 10, ErrorCode.FILE_TYPE_NOT_ALLOWED),
        ({}, 1001, ErrorCode.FILE_TOO_LARGE),
        ({}, 0, ErrorCode.BAD_FIELD),
    ],
)
def test_an_announcement_that_is_refused_leaves_nothing(
    tables: Tables, place: Path, people: list[User], fields: dict[str, str], size: int, code: ErrorCode
) -> None:
    async def story(host: Host) -> None:
        with pytest.raises(Refused) as caught:
            await host.begin(people[0], bytes(size), **fields)
        assert caught.value.code is code
        with pytest.raises(Refused):
            await host.uploads.find(ID)

    on_host(tables, place, story, max_bytes=1000)


def test_types_are_opened_by_family_and_altogether(tables: Tables, place: Path, people: list[User]) -> None:
    async def story(host: Host) -> None:
        await host.begin(people[0], b"<svg/>", media_type="image/svg+xml")
        with pytest.raises(Refused):
            await host.begin(people[0], b"<p>", OTHER, media_type="text/html")

    on_host(tables, place, story, types=("image/*",))

    async def open_story(host: Host) -> None:
        await host.begin(people[0], b"<p>", OTHER, media_type="text/html")

    again = open_tables(StoreLocation(path=place.parent / "chatd.db"), 2.0, create=False)
    on_host(again, place, open_story, types=("*/*",))


@pytest.mark.parametrize(
    ("media_type", "content", "code"),
    [
        ("image/png", b"<svg onload=alert(1)>", ErrorCode.FILE_TYPE_NOT_ALLOWED),
        ("image/png", gif(4, 4), ErrorCode.FILE_TYPE_NOT_ALLOWED),
        ("image/jpeg", png(4, 4), ErrorCode.FILE_TYPE_NOT_ALLOWED),
        ("image/gif", gif(65_000, 65_000), ErrorCode.FILE_TYPE_NOT_ALLOWED),
        ("image/png", png(4, 4)[:20], ErrorCode.FILE_TYPE_NOT_ALLOWED),
        ("text/plain", b"not what was announced", ErrorCode.FILE_DAMAGED),
    ],
    ids=["script", "gif-as-png", "png-as-jpeg", "bomb", "cut-off", "damaged"],
)
def test_what_is_not_what_was_announced_is_refused_and_deleted(
    tables: Tables, place: Path, people: list[User], media_type: str, content: bytes, code: ErrorCode
) -> None:
    announced = sha256(b"another") if code is ErrorCode.FILE_DAMAGED else ""

    async def story(host: Host) -> None:
        with pytest.raises(Refused) as caught:
            await host.upload(people[0], content, media_type=media_type, sha256=announced)
        assert caught.value.code is code
        with pytest.raises(Refused):
            await host.uploads.find(ID)
        await host.sweep()
        assert names(host.blobs) == {}

    on_host(tables, place, story)


def test_pictures_are_measured(tables: Tables, place: Path, people: list[User]) -> None:
    alice, bob = people

    async def story(host: Host) -> None:
        file = await host.upload(alice, jpeg(640, 480, exif(6)), media_type="image/jpeg")
        assert (file.width, file.height) == (480, 640)
        sent = await host.send(alice, bob, file)
        assert isinstance(sent, Stored)
        (told,) = sent.message.attachments
        assert (told.media_type, told.width, told.height) == ("image/jpeg", 480, 640)
        plain = await host.upload(alice, png(3, 4), OTHER, media_type="text/plain")
        assert (plain.width, plain.height) == (0, 0)

    on_host(tables, place, story)


def test_more_than_was_announced_is_refused(tables: Tables, place: Path, people: list[User]) -> None:
    """The quota holds for what comes, not only for what was said."""

    async def story(host: Host) -> None:
        file = await host.begin(people[0], b"0123")
        await host.uploads.append(file, 0, b"01")
        for offset, data, wanted in (2, b"234", Refused), (0, b"0123", OffsetMismatch), (3, b"x", OffsetMismatch):
            with pytest.raises(wanted):
                await host.uploads.append(file, offset, data)
        with pytest.raises(OffsetMismatch):
            await host.uploads.finish(file)
        assert await host.uploads.received(file) == 2

    on_host(tables, place, story)


def test_a_file_that_is_cancelled_while_it_comes(tables: Tables, place: Path, people: list[User]) -> None:
    async def story(host: Host) -> None:
        file = await host.begin(people[0], b"0123")
        await host.uploads.append(file, 0, b"0123")
        assert not await host.uploads.cancel(ID, people[1].id)
        assert await host.uploads.cancel(ID, people[0].id)
        with pytest.raises(Refused) as caught:
            await host.uploads.finish(file)
        assert caught.value.code is ErrorCode.UNKNOWN_FILE
        assert names(host.blobs) == {}

    on_host(tables, place, story)


def test_an_append_that_is_late_brings_nothing_back_for_ever(
    tables: Tables, place: Path, people: list[User], moved_clock: list[int]
) -> None:
    async def story(host: Host) -> None:
        file = await host.begin(people[0], b"0123")
        await host.uploads.cancel(ID)
        await host.sweep()
        await host.uploads.append(file, 0, b"01")
        await host.sweep()
        assert names(host.blobs) == {ID: 2}
        moved_clock[0] = AGAIN_MS + 1
        await host.sweep()
        assert names(host.blobs) == {}

    on_host(tables, place, story)


def test_what_was_not_sent_is_deleted_in_time_and_what_was_sent_stays(
    tables: Tables, place: Path, people: list[User], moved_clock: list[int]
) -> None:
    alice, bob = people

    async def story(host: Host) -> None:
        half = await host.begin(alice, b"0123")
        await host.uploads.append(half, 0, b"01")
        whole = await host.upload(alice, b"whole", "W" * 22)
        used = await host.upload(alice, b"used", "U" * 22)
        await host.send(alice, bob, used)
        await host.sweep()
        assert set(names(host.blobs)) == {ID, whole.blob, used.blob}
        moved_clock[0] = 601_000
        await host.begin(alice, b"young", "Y" * 22)
        host.leads = False
        await host.sweep()
        assert len(names(host.blobs)) == 3
        host.leads = True
        await host.sweep()
        assert set(names(host.blobs)) == {used.blob}
        assert await host.store.read(lambda inside: inside.files.used(alice.id)) == 2 * 4096

    on_host(tables, place, story, unfinished_s=600)


def move(source: Path, target: Path) -> None:
    source.rename(target)


def test_a_place_that_fails_is_unavailable_and_what_was_to_do_is_done_later(
    tables: Tables, place: Path, people: list[User]
) -> None:
    async def story(host: Host) -> None:
        file = await host.begin(people[0], b"0123")
        move(place, place.with_name("away"))
        with pytest.raises(Unavailable):
            await host.uploads.append(file, 0, b"0123")
        move(place.with_name("away"), place)
        done = await host.send_rest(file, b"0123")
        await host.uploads.cancel(ID)
        real = host.blobs.delete

        def fail(name: str) -> None:
            raise Unavailable("files: away")

        host.blobs.delete = fail  # type: ignore[method-assign]
        await host.sweep()
        assert set(names(host.blobs)) == {done.blob}
        host.blobs.delete = real  # type: ignore[method-assign]
        await host.sweep()
        assert names(host.blobs) == {}

    on_host(tables, place, story)


def test_content_that_cannot_be_deleted_holds_up_no_other(tables: Tables, place: Path, people: list[User]) -> None:
    async def story(host: Host) -> None:
        files = [await host.upload(people[0], bytes([65 + number]), f"{number}" * 22) for number in range(3)]
        real, stuck = host.blobs.delete, files[0].blob

        def fail(name: str) -> None:
            if name == stuck:
                raise Unavailable("files: Input/output error")
            real(name)

        host.blobs.delete = fail  # type: ignore[method-assign]
        for file in files:
            await host.uploads.cancel(file.id)
        await host.store.write(lambda inside: inside.files.begin(no_name(people[0]), 0, 1))
        await host.uploads.cancel("../../etc/passwd")
        for _ in range(2):
            await host.sweep()
            assert set(names(host.blobs)) == {stuck}
        host.blobs.delete = real  # type: ignore[method-assign]
        await host.sweep()
        assert names(host.blobs) == {}

    on_host(tables, place, story)


def no_name(owner: User) -> NewFile:
    """A row that chatd would never write."""
    return NewFile(id="../../etc/passwd", owner=owner.id, name="x", size=1, media_type="text/plain")


def test_the_same_content_of_two_people_is_kept_once(tables: Tables, place: Path, people: list[User]) -> None:
    alice, bob = people

    async def story(host: Host) -> None:
        one = await host.upload(alice, b"same")
        two = await host.upload(bob, b"same", OTHER)
        await host.sweep()
        assert names(host.blobs) == {one.blob: 4}
        assert isinstance(await host.send(alice, bob, one), Stored)
        assert isinstance(await host.send(bob, alice, two), Stored)
        await host.store.write(lambda inside: inside.accounts.erase(alice.id, 1))
        await host.sweep()
        assert await host.read_whole(await host.uploads.find(OTHER)) == b"same"
        await host.store.write(lambda inside: inside.accounts.erase(bob.id, 1))
        await host.sweep()
        assert names(DirectoryBlobs(place)) == {}

    on_host(tables, place, story)


def test_a_server_that_takes_no_files_says_so(tables: Tables, place: Path, people: list[User]) -> None:
    async def story(host: Host) -> None:
        host.turn_off()
        assert not host.uploads.on
        with pytest.raises(Refused) as caught:
            await host.begin(people[0], b"x")
        assert caught.value.code is ErrorCode.NOT_ALLOWED

    on_host(tables, place, story)
