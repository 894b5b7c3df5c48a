"""Pictures are recognized by their content and measured by their heads; what pretends to be one does no harm."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.files.pictures import MAX_PIXELS, BadPicture, Picture, Read, recognized
from tests.files.heads import exif, gif, jpeg, png, segment, webp


def reader(content: bytes, read: list[int] | None = None) -> Read:
    """read: how many bytes each call gave."""

    def give(start: int, length: int) -> bytes:
        part = content[start : start + length]
        if read is not None:
            read.append(len(part))
        return part

    return give


def look(content: bytes) -> Picture | None:
    return recognized(reader(content))


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (png(640, 480), "image/png"),
        (gif(640, 480), "image/gif"),
        (webp(640, 480, "VP8X"), "image/webp"),
        (webp(640, 480, "VP8L"), "image/webp"),
        (webp(640, 480, "VP8"), "image/webp"),
        (jpeg(640, 480), "image/jpeg"),
        (jpeg(640, 480, frame=0xC2), "image/jpeg"),
    ],
    ids=["png", "gif", "webp-extended", "webp-lossless", "webp-lossy", "jpeg", "jpeg-progressive"],
)
def test_kind_and_size(content: bytes, media_type: str) -> None:
    assert look(content) == Picture(media_type, 640, 480)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_measured_as_it_is_shown(orientation: int, order: str) -> None:
    turned = orientation >= 5
    found = look(jpeg(640, 480, exif(orientation, order)))
    assert found == Picture("image/jpeg", *((480, 640) if turned else (640, 480)))


def test_the_frame_of_a_jpeg_comes_after_much_else() -> None:
    """Colour profiles, thumbnails, comments, filling: of these, only heads are read."""
    before = b"".join(segment(0xE2, bytes(60_000)) for _ in range(40)) + b"\xff\xff" + segment(0xFE, b"") + b"\xff\x01"
    read: list[int] = []
    assert recognized(reader(jpeg(3, 4, before + exif(6)), read)) == Picture("image/jpeg", 4, 3)
    assert sum(read) < 1000


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"<svg onload=alert(1)>", b"%PDF-1.7", b"RIFF\0\0\0\0WAVE", b"GIF88a", b"\xff\xd8x", b"PK\3\4"],
)
def test_what_is_no_picture(content: bytes) -> None:
    assert look(content) is None


@pytest.mark.parametrize(
    "content",
    [
        png(1, 1)[:10], png(1, 1)[:20], gif(1, 1)[:8], webp(1, 1, "VP8X")[:26], webp(1, 1, "VP8L")[:22],
        webp(1, 1, "VP8")[:28], webp(1, 1, "ABCD"), jpeg(1, 1)[:3], jpeg(1, 1)[:24], png(0, 5), gif(5, 0), jpeg(0, 0),
        b"\xff\xd8\xff\xda\0\2", b"\xff\xd8" + segment(0xC4, b"") + b"\xff\xd9", b"\xff\xd8\xff\xe0\0\0",
    ],
)  # fmt: skip
def test_a_picture_without_a_head_is_refused(content: bytes) -> None:
    with pytest.raises(BadPicture):
        look(content)


@pytest.mark.parametrize(
    "bomb",
    [png(100_000, 100_000)[:60], gif(65_535, 65_535), jpeg(65_535, 65_535), webp(16_384, 16_384, "VP8X"),
     png(2**31, 2**31)[:60], webp(2**24, 2**24, "VP8X")],
    ids=["png", "gif", "jpeg", "webp", "png-largest", "webp-largest"],
)  # fmt: skip
def test_a_small_file_that_would_fill_the_memory_of_its_recipients_is_refused(bomb: bytes) -> None:
    assert len(bomb) < 1000
    with pytest.raises(BadPicture, match="million pixels"):
        look(bomb)


def test_the_largest_picture() -> None:
    assert look(png(10_000, MAX_PIXELS // 10_000)[:60]) is not None
    with pytest.raises(BadPicture):
        look(png(10_000, MAX_PIXELS // 10_000 + 1)[:60])


def test_a_jpeg_of_nothing_but_segments_ends() -> None:
    read: list[int] = []
    with pytest.raises(BadPicture):
        recognized(reader(b"\xff\xd8" + b"\xff\xfe\0\2" * 1_000_000, read))
    assert len(read) < 3000
    with pytest.raises(BadPicture):
        look(b"\xff\xd8" + b"\xff" * 1_000_000)


def test_exif_data_that_lie_change_nothing() -> None:
    far = segment(0xE1, b"Exif\0\0II" + struct.pack("<HI", 42, 2**32 - 1))
    many = segment(0xE1, b"Exif\0\0II" + struct.pack("<HIH", 42, 8, 65_535) + bytes(60_000))
    for before in far, many, segment(0xE1, b"Exif\0\0"), segment(0xE1, b"Exif\0\0XX" + bytes(20)), exif(9):
        assert look(jpeg(640, 480, before)) == Picture("image/jpeg", 640, 480)


_HEADS = st.sampled_from(
    [png(9, 9), gif(9, 9), jpeg(9, 9, exif(6)), *(webp(9, 9, one) for one in ("VP8X", "VP8L", "VP8"))]
)


@given(_HEADS, st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=12), st.integers(0, 200))
def test_whatever_the_content_is_it_is_measured_or_refused(
    head: bytes, changes: list[tuple[int, int]], length: int
) -> None:
    content = bytearray(head + bytes(120))
    for at, value in changes:
        content[at] = value
    read: list[int] = []
    try:
        found = recognized(reader(bytes(content[:length]), read))
    except BadPicture:
        found = None
    assert found is None or (found.width > 0 and 0 < found.width * found.height <= MAX_PIXELS)
    assert sum(read) < 70_000
