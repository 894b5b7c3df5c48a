"""Ranges, conditions and names of attachments, as RFC 9110 and RFC 6266 have them."""

from __future__ import annotations

import pytest

from chatd.http.files.ranges import Part, Unsatisfiable, disposition, is_known, part_of

TAG = b'"abc"'


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        (b"bytes=0-0", 0, 1),
        (b"bytes=0-", 0, 10),
        (b"bytes=3-5", 3, 6),
        (b"bytes=3-500", 3, 10),
        (b"bytes=9-9", 9, 10),
        (b"bytes=-1", 9, 10),
        (b"bytes=-500", 0, 10),
        (b"Bytes = 2 - 4", 2, 5),
        (b"bytes=0-999999999999999999", 0, 10),
    ],
)
def test_one_range_is_a_part(asked: bytes, start: int, end: int) -> None:
    assert part_of({b"range": asked}, 10, TAG) == Part(start, end, is_whole=False)


@pytest.mark.parametrize(
    "asked",
    [
        *(b"", b"bytes=", b"bytes=-", b"bytes=5-3", b"bytes=0-1,3-4", b"lines=0-1", b"bytes=a-b", b"bytes=--1"),
        *(b"bytes=0x1-2", b"bytes=1-2;", b"bytes=" + b"9" * 400 + b"-", b"bytes=\xb2-3", b"bytes=0-1,0-1," * 1000),
    ],
)
def test_everything_else_is_the_whole_file(asked: bytes) -> None:
    assert part_of({b"range": asked}, 10, TAG) == Part(0, 10, is_whole=True)


@pytest.mark.parametrize("asked", [b"bytes=10-", b"bytes=10-20", b"bytes=-0", b"bytes=99999-"])
def test_a_range_outside_the_file_cannot_be_satisfied(asked: bytes) -> None:
    with pytest.raises(Unsatisfiable):
        part_of({b"range": asked}, 10, TAG)


def test_a_range_of_another_version_is_not_given() -> None:
    for condition, is_whole in ((TAG, False), (b'"old"', True), (b"Fri, 27 Nov 2026 10:00:00 GMT", True)):
        assert part_of({b"range": b"bytes=1-2", b"if-range": condition}, 10, TAG).is_whole is is_whole


@pytest.mark.parametrize(
    ("given", "known"),
    [(b"", False), (TAG, True), (b"W/" + TAG, True), (b'"x", "abc"', True), (b"*", True), (b'"abcd"', False)],
)
def test_a_client_that_has_it_is_told_so(given: bytes, known: bool) -> None:
    assert is_known({b"if-none-match": given}, TAG) is known


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("cat.png", b"inline; filename=\"cat.png\"; filename*=UTF-8''cat.png"),
        ("报告.pdf", b"inline; filename=\"__.pdf\"; filename*=UTF-8''%E6%8A%A5%E5%91%8A.pdf"),
        (
            'a"; filename="b.html\r\nSet-Cookie: x=1\\',
            b"inline; filename=\"a__ filename__b.html__Set-Cookie_ x_1_\"; filename*=UTF-8''"
            b"a%22%3B%20filename%3D%22b.html%0D%0ASet-Cookie%3A%20x%3D1%5C",
        ),
        ("../../etc/passwd", b"inline; filename=\".._.._etc_passwd\"; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd"),
        ("%41%0d%0a.txt", b"inline; filename=\"_41_0d_0a.txt\"; filename*=UTF-8''%2541%250d%250a.txt"),
    ],
)
def test_no_name_leaves_its_place_in_the_header(name: str, header: bytes) -> None:
    assert disposition("inline", name) == header
