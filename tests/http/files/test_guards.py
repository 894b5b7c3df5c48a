"""Each guard of files: the attack that it stops fails, and succeeds when the guard is switched off.

One daemon with two workers for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from chatd.errors import ErrorCode
from chatd.http.parser import UPLOAD_BYTES
from chatd.http.transfers import UPLOADS_OF_ONE
from chatd.model import Attachment
from tests.harness.switches import stops, with_switches
from tests.http.files.office import UPLOAD_TYPE, Office, Refusal, request
from tests.http.files.test_attacks import forger

WORKERS, REQUEST_S = 2, 0.5


class GuardedOffice(Office):
    def more(self) -> list[dict[str, object]]:
        with_switches(self.daemon)
        return super().more()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedOffice]:
    entry = ("-m", "tests.http.files.planted", "switches")
    made = GuardedOffice(tmp_path_factory.mktemp("guards"), entry=entry, http={"request_s": REQUEST_S})
    yield made
    assert made.daemon.discard() == []


async def code_of(work: Awaitable[object]) -> int:
    try:
        await work
    except Refusal as refusal:
        return refusal.code
    return 0


async def a_link(office: Office, data: bytes = b"private", name: str = "a.txt", media_type: str = "text/plain") -> str:
    """To a file that ann has sent to bob."""
    ann, bob = await office.colleague(), await office.colleague()
    sent = await ann.say(bob, "", (await ann.upload(data, name, media_type),))
    return (await bob.links(ann.name, sent["seq"]))[0]


async def attack_with_a_forged_signature(office: Office) -> None:
    link = await a_link(office)
    assert office.fetch(f"{link.partition('&')[0]}&signature={'A' * 43}").status == 403


async def attack_with_an_old_address(office: Office) -> None:
    file = (await a_link(office)).split("/")[2]
    old = forger(office, time.time() - 4000).download(Attachment(id=file, name="a", size=1, media_type="a/b"))
    assert office.fetch(old.path).status == 403


async def attack_with_an_address_for_something_else(office: Office) -> None:
    file = (await a_link(office)).split("/")[2]
    for_reading = forger(office, time.time()).download(Attachment(id=file, name="a", size=1, media_type="a/b")).path
    assert office.put(f"/files/{file}?{for_reading.partition('?')[2]}", b"x").status == 403


async def attack_by_sending_a_foreign_file(office: Office) -> None:
    ann, eve = await office.colleague(), await office.colleague()
    file = await ann.upload(b"private")
    assert await code_of(eve.say(eve, "mine", (file,))) == ErrorCode.UNKNOWN_FILE


async def attack_by_resuming_a_foreign_file(office: Office) -> None:
    ann, eve = await office.colleague(), await office.colleague()
    begun = await ann.announce(b"private")
    assert await code_of(eve.ask("files.resume", file=begun["file"])) == ErrorCode.UNKNOWN_FILE


async def attack_by_asking_for_a_link_to_what_was_written_before(office: Office) -> None:
    ann, eve = await office.colleague(), await office.colleague()
    group = (await ann.ask("group.create", name="Team", join="open"))["group"]["id"]
    sent = await ann.say(group, "for us", (await ann.upload(b"for us"),))
    await eve.ask("group.join", group=group)
    assert await code_of(eve.links(f"#{group}", sent["seq"])) == ErrorCode.UNKNOWN_FILE


async def attack_as_somebody_who_is_locked(office: Office) -> None:
    eve = await office.colleague()
    begun = await eve.announce(b"spam")
    api = office.api(office.admin)
    assert api.put(f"/v1/users/{eve.name}/lock", {}).status in (200, 204)
    api.close()
    assert office.put(begun["url"], b"spam").status == 404


async def attack_with_a_trickle(office: Office) -> None:
    eve = await office.colleague()
    begun = await eve.announce(b"x" * 1000)
    with office.connect() as raw:
        fields = {"Content_Type": UPLOAD_TYPE, "Upload_Offset": 0, "Content_Length": 1000}
        raw.send(request("PATCH", begun["url"], **fields))
        end = time.monotonic() + 3 * REQUEST_S
        status = 0
        while time.monotonic() < end and not status:
            raw.sock.settimeout(0.2)
            try:
                raw.send(b"x")
                status = raw.said().status
            except TimeoutError:
                continue
            except OSError:
                status = 408  # it is closed already
        assert status == 408


async def attack_with_a_huge_body(office: Office) -> None:
    eve = await office.colleague()
    size = UPLOAD_BYTES + 1000
    begun = await eve.ask("files.upload", name="a", size=size, type="application/octet-stream")
    with office.connect() as raw:
        fields = {"Content_Type": UPLOAD_TYPE, "Upload_Offset": 0, "Content_Length": size}
        raw.send(request("PATCH", begun["url"], **fields))
        assert raw.said().status == 413


async def attack_by_taking_all_uploads(office: Office) -> None:
    eve = await office.colleague()
    begun = [await eve.announce(b"xx") for _ in range(WORKERS * UPLOADS_OF_ONE + 1)]
    opened = [office.connect() for _ in begun]
    for raw, one in zip(opened, begun, strict=True):
        fields = {"Content_Type": UPLOAD_TYPE, "Upload_Offset": 0, "Content_Length": 2}
        raw.send(request("PATCH", one["url"], **fields) + b"x")
    statuses = [raw.said().status for raw in opened]
    for raw in opened:
        raw.sock.close()
    assert 429 in statuses


async def attack_with_a_name(office: Office) -> None:
    link = await a_link(office, name='a"; filename=evil.html;.txt')
    assert office.fetch(link).headers["content-disposition"].count('"') == 2


async def attack_with_a_page(office: Office) -> None:
    link = await a_link(office, b"<script>alert(1)</script>", "a.svg", "image/svg+xml")
    assert office.fetch(link).headers["content-type"] == "application/octet-stream"


ATTACKS: dict[str, Callable[[Office], Awaitable[None]]] = {
    "signatures_are_not_checked": attack_with_a_forged_signature,
    "addresses_never_expire": attack_with_an_old_address,
    "any_address_uploads": attack_with_an_address_for_something_else,
    "files_of_others_are_sent": attack_by_sending_a_foreign_file,
    "files_of_others_are_resumed": attack_by_resuming_a_foreign_file,
    "links_are_for_everybody": attack_by_asking_for_a_link_to_what_was_written_before,
    "locked_people_upload": attack_as_somebody_who_is_locked,
    "bodies_may_take_for_ever": attack_with_a_trickle,
    "bodies_have_no_limit": attack_with_a_huge_body,
    "one_user_may_take_all_uploads": attack_by_taking_all_uploads,
    "names_go_into_headers_as_they_are": attack_with_a_name,
    "types_are_believed": attack_with_a_page,
}


@pytest.mark.parametrize("bug", ATTACKS)
def test_the_attack_fails_and_succeeds_without_its_guard(office: GuardedOffice, bug: str) -> None:
    async def attack() -> None:
        await ATTACKS[bug](office)

    stops(bug, lambda: asyncio.run(attack()), office.daemon)
