"""Files on a real daemon, in a directory and in an object store: everything is killed, a person is exported and erased,
and what the operator is shown."""

from __future__ import annotations

import asyncio
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd.config.files_options import FilesOptions
from chatd.files.contract import Blobs
from chatd.files.open import open_blobs
from tests.files.contract import names
from tests.files.s3_server import BUCKET, S3Server
from tests.harness.deadline import wait_until
from tests.http.files.office import Colleague, Office, png
from tests.trail.visitors import trail

DATA = bytes(range(256)) * 3000
GONE_S = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["directory", pytest.param("s3", marks=pytest.mark.slow)])
def office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    root, more = tmp_path_factory.mktemp("office"), {}
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("server")
        settings = root / "s3.settings"
        settings.write_text(server.settings)
        settings.chmod(0o600)
        more = {"dir": "", "s3": f"s3://{BUCKET}/daemon", "s3_settings": f"file:{settings}"}
    made = Office(root, more)
    yield made
    assert made.daemon.discard() == []


def place_of(office: Office) -> Blobs:
    """The place, opened from outside."""
    options = office.daemon.config["files"]
    settings = Path(options["s3_settings"].removeprefix("file:")).read_text() if "s3_settings" in options else ""
    where = {"s3": options["s3"]} if settings else {"dir": str(office.daemon.root / options["dir"])}
    blobs = open_blobs(FilesOptions(**where, s3_settings=settings))
    assert blobs is not None
    return blobs


def kept(office: Office) -> dict[str, int]:
    return names(place_of(office))


def test_an_upload_goes_on_after_everything_was_killed_and_ends_with_its_owner(office: Office, tmp_path: Path) -> None:
    archive = tmp_path / "ann.zip"

    async def begin() -> tuple[Colleague, str]:
        ann = await office.colleague("ann")
        begun = await ann.announce(DATA, "data.txt")
        assert office.put(begun["url"], DATA[:500_000]).status == 204
        return ann, str(begun["file"])

    async def go_on(ann: Colleague, file: str) -> list[str]:
        await ann.arrive()
        bob = await office.colleague("bill")
        begun = await ann.ask("files.resume", file=file)
        assert begun["offset"] == 500_000
        assert office.put(begun["url"], DATA[500_000:], 500_000).status == 200
        picture = await ann.upload(png(), "../../x.png", "image/png")
        sent = await ann.say(bob, "look", (file, picture))
        return await bob.links(ann.name, sent["seq"])

    ann, file = asyncio.run(begin())
    office.daemon.kill_all()
    office.daemon.start()
    link, of_picture = asyncio.run(go_on(ann, file))
    assert office.fetch(link).body == DATA
    assert len(kept(office)) == 2

    made = office.daemon.ctl("user", "export", "ann", "--to", str(archive))
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(archive) as opened:
        listed = {one["name"]: one for one in json.loads(opened.read("files.json"))}
        assert opened.read(listed["data.txt"]["content"]) == DATA
        assert (listed["data.txt"]["state"], listed["data.txt"]["seq"], len(listed)) == ("sent", 1, 2)
        assert not [name for name in opened.namelist() if ".." in Path(name).parts or name.startswith("/")]
        lines = [line for name in opened.namelist() if name.startswith("conversations/") for line in opened.open(name)]
        assert [one["type"] for line in lines for one in json.loads(line)["files"]] == ["text/plain", "image/png"]

    assert office.daemon.ctl("user", "erase", "ann", "--yes").returncode == 0
    assert office.fetch(link).status == office.fetch(of_picture).status == 404
    wait_until(GONE_S, "the content is deleted", lambda: not kept(office))


async def uploaded(office: Office) -> None:
    await (await office.colleague()).upload(DATA)


def test_what_the_operator_is_shown(office: Office) -> None:
    asyncio.run(uploaded(office))
    daemon = office.daemon
    workers = daemon.status()["workers"]
    assert "files_stored" in workers[0]
    assert daemon.status()["totals"]["file_bytes_uploaded"] >= len(DATA)
    findings = json.loads(daemon.ctl("doctor", "--json", "--all", "--fast").stdout)["findings"]
    (place,) = [one for one in findings if one["check"] == "files.place"]
    assert place["severity"] == "ok", place


async def sent(office: Office, data: bytes) -> int:
    """The number of the user who sent it."""
    ann, bob = await office.colleague(), await office.colleague()
    await ann.say(bob, "look", (await ann.upload(data),))
    return ann.id


def test_chatctl_finds_content_that_is_missing_and_deletes_what_no_file_has(office: Office) -> None:
    ctl, blobs = office.daemon.ctl, place_of(office)
    data = b"sent by ann" * 1000
    ann = asyncio.run(sent(office, data))
    (name,) = [name for name, size in kept(office).items() if size == len(data)]
    verified = ctl("files", "verify")
    assert verified.returncode == 0, verified
    assert "sound: every file has its content" in verified.stdout

    blobs.delete(name)
    verified = ctl("files", "verify", "--fast", "--json")
    assert verified.returncode == 1
    found = json.loads(verified.stdout)
    ((missing,), sound) = found["missing"], found["sound"]
    assert (missing["user"], missing["seq"], missing["content"], sound) == (ann, 1, name, False)
    assert name in ctl("files", "verify").stdout

    stray = "stray".ljust(22, "-")
    blobs.append(stray, 0, b"nobody's")
    assert ctl("files", "clean").returncode == 1, "it still says that content is missing"
    assert stray in kept(office), "it is young"
    if not office.daemon.config["files"]["dir"]:
        return  # what is in an object store cannot be made old
    os.utime(office.daemon.root / "files" / "uploads" / stray, (1, 1))
    refused = ctl("files", "clean")
    assert (refused.returncode, stray in kept(office)) == (78, True)
    assert "--yes" in refused.stderr
    cleaned = ctl("files", "clean", "--yes")
    assert "deleted: 1 contents that no file has" in cleaned.stdout
    assert stray not in kept(office)
    orders = [one for one in trail(office.daemon, "order") if one["order"] == "files clean"]
    assert [one["result"] for one in orders] == ["begun", "ok"]


def test_other_users_of_the_host_cannot_get_in_by_the_directory(office: Office) -> None:
    options = office.daemon.config["files"]
    if not options["dir"]:
        pytest.skip("an object store has no directory")
    asyncio.run(uploaded(office))
    place = office.daemon.root / options["dir"]
    for path in (place / "uploads", place / "content", *place.glob("*/*"), *place.glob("*/*/*")):
        assert path.stat().st_mode & 0o077 == 0, path
    os.chmod(place, 0o777)
    try:
        refused = office.daemon.test()
        assert refused.returncode == 78
        assert str(place) in refused.stderr
    finally:
        os.chmod(place, 0o700)
