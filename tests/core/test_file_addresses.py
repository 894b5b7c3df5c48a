"""Addresses of files: who made them, what they allow, how long, and what is in them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from chatd.config.schema import Config, FilesOptions
from chatd.core.file_addresses import PATH, Allows, FileAddresses
from chatd.errors import Unavailable
from chatd.model import Attachment, Message

ID, OTHER = "A" * 22, "B" * 22
FILE = Attachment(id=ID, name="cat & dog.png", size=5, media_type="image/png")


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def made(secret: str = "ab" * 32, clock: Clock | None = None, **options: Any) -> FileAddresses:
    config = Config(files=FilesOptions(**options))
    services: Any = SimpleNamespace(config=lambda: config)
    accounts: Any = SimpleNamespace(secret=secret)
    return FileAddresses(services, accounts, clock or Clock())


def parts(path: str) -> tuple[str, str, str]:
    """The path without its query, the expiry, the signature."""
    found = urlsplit(path)
    query = parse_qs(found.query)
    return found.path, query["expires"][0], query["signature"][0]


def test_an_address_counts_for_its_file_what_it_allows_and_its_time() -> None:
    clock = Clock()
    addresses = made(clock=clock, link_s=3600)
    for allows, address in (
        (Allows.UPLOAD, addresses.upload(ID)),
        (Allows.DOWNLOAD, addresses.download(FILE)),
    ):
        path, expires, signature = parts(address.path)
        assert path.startswith(PATH + ID)
        assert int(expires) == address.expires_at
        assert 1800 <= address.expires_at - clock.now <= 3600
        assert addresses.expiry(allows, ID, expires, signature) == address.expires_at
        other = Allows.DOWNLOAD if allows is Allows.UPLOAD else Allows.UPLOAD
        assert addresses.expiry(other, ID, expires, signature) is None
        assert addresses.expiry(allows, OTHER, expires, signature) is None
        assert addresses.expiry(allows, ID, str(int(expires) + 1), signature) is None
        assert made("cd" * 32).expiry(allows, ID, expires, signature) is None
        assert made().expiry(allows, ID, expires, signature) == address.expires_at  # another worker
        clock.now, before = float(address.expires_at), clock.now
        assert addresses.expiry(allows, ID, expires, signature) is None
        clock.now = before


@pytest.mark.parametrize(
    ("expires", "signature"),
    [
        ("", ""),
        ("1", "x" * 43),
        ("-1", "x" * 43),
        ("٣", "x" * 43),
        ("9" * 400, "x" * 43),
        ("1900000000", ""),
        ("1900000000", "é" * 43),
        ("1900000000", "\ud800"),
        ("+1900000000", "x" * 43),
    ],
)
def test_what_is_no_address_counts_for_nothing(expires: str, signature: str) -> None:
    assert made().expiry(Allows.DOWNLOAD, ID, expires, signature) is None


def test_a_link_stays_the_same_for_a_while_so_that_browsers_keep_what_they_have() -> None:
    clock = Clock()
    clock.now = 1_800_000_000.0 // 1800 * 1800
    addresses = made(clock=clock, link_s=3600)
    first = addresses.download(FILE)
    clock.now += 1799
    assert addresses.download(FILE) == first
    clock.now += 1
    assert addresses.download(FILE) != first


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("cat & dog.png", "cat & dog.png"),
        ("报告.pdf", "报告.pdf"),
        ('a"b\\c?#%.txt', 'a"b\\c?#%.txt'),
        ("报" * 80 + ".pdf", "file.pdf"),
        ("x" * 120, "file"),
    ],
)
def test_the_name_in_an_address_is_encoded_and_short(name: str, last: str) -> None:
    path = made().download(Attachment(id=ID, name=name, size=1, media_type="a/b")).path
    assert len(path) < 260
    assert path.isascii()
    assert unquote(urlsplit(path).path.rpartition("/")[2]) == last
    assert urlsplit(path).path.count("/") == 3


def test_stock_clients_are_given_whole_addresses_if_the_configuration_knows_them() -> None:
    def links(**options: Any) -> tuple[str, ...]:
        message: Any = SimpleNamespace(attachments=(FILE, FILE))
        told: Message = message
        return made(**options).links(told)

    assert links() == ()
    assert links(url="https://chat.example/", secret="") == ()
    found = links(url="https://chat.example/", stock_link_s=86_400)
    assert len(found) == 2
    assert found[0].startswith(f"https://chat.example{PATH}{ID}/cat")
    assert 43_200 <= int(parts(found[0])[1]) - Clock.now <= 86_400


def test_without_the_stores_secret_there_are_none() -> None:
    with pytest.raises(Unavailable):
        made("").upload(ID)
