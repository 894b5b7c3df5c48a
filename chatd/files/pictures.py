"""What is seen of a picture without decoding it: what it is, and how large it is shown.

Owns: recognizing PNG, JPEG, GIF and WebP by their first bytes, and reading width and height from their heads.
Elsewhere: what becomes of a file that is not what it claims to be (core.uploads), showing pictures (the clients).
Fails: BadPicture. Whatever the content is, a few thousand bytes are looked at, and no pixel is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

Read = Callable[[int, int], bytes]
"""(start, length): bytes of the content, fewer at its end."""

MAX_PIXELS = 100_000_000
"""A larger picture is refused: a few kilobytes of it would fill the memory of everybody to whom it is shown."""
TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_HEAD_BYTES = 64
_MAX_SEGMENTS = 2000
"""Of a JPEG before its frame. Colour profiles take some tens."""
_MAX_EXIF_BYTES = 64 * 1024
_ORIENTATION = 0x0112
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Markers without a length."""


class BadPicture(Exception):
    """It begins like a picture and is none that can be shown. Its text is for people."""


class Picture(NamedTuple):
    """width, height: in pixels, as it is shown, turned as its EXIF data say."""

    media_type: str
    width: int
    height: int


def recognized(read: Read) -> Picture | None:
    """None: it is nothing that this module knows. Raises: BadPicture, and what `read` raises."""
    head = read(0, _HEAD_BYTES)
    try:
        found = _recognized(head, read)
    except (struct.error, IndexError):
        raise BadPicture("the picture is cut off") from None
    if found is None:
        return None
    if found.width < 1 or found.height < 1:
        raise BadPicture("the picture has no size")
    if found.width * found.height > MAX_PIXELS:
        raise BadPicture(f"the picture has more than {MAX_PIXELS // 1_000_000} million pixels")
    return found


def _recognized(head: bytes, read: Read) -> Picture | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        if head[12:16] != b"IHDR":
            raise BadPicture("the picture has no head")
        return Picture("image/png", *struct.unpack_from(">II", head, 16))
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Picture("image/gif", *struct.unpack_from("<HH", head, 6))
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg(read)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Picture("image/webp", *_webp_size(head))
    return None


def _webp_size(head: bytes) -> tuple[int, int]:
    match head[12:16]:
        case b"VP8X":
            width, height = (int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
            if len(head) < 30:
                raise IndexError
            return width + 1, height + 1
        case b"VP8L":
            if head[20] != 0x2F:
                raise BadPicture("the picture has no head")
            (bits,) = struct.unpack_from("<I", head, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            if head[23:26] != b"\x9d\x01\x2a":
                raise BadPicture("the picture has no head")
            width, height = struct.unpack_from("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
    raise BadPicture("the picture is of an unknown kind of WebP")


def _jpeg(read: Read) -> Picture:
    """From segment to segment, up to the one of the frame."""
    at, turned = 2, False
    for _ in range(_MAX_SEGMENTS):
        prefix, marker, length = struct.unpack(">BBH", read(at, 4).ljust(4, b"\0"))
        if prefix != 0xFF:
            break
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker in _JPEG_ALONE:
            at += 2
            continue
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", read(at + 5, 4))
            return Picture("image/jpeg", height, width) if turned else Picture("image/jpeg", width, height)
        if marker in (0xD9, 0xDA) or length < 2:
            break
        if marker == 0xE1:
            turned = turned or _is_turned(read(at + 4, min(length - 2, _MAX_EXIF_BYTES)))
        at += 2 + length
    raise BadPicture("the picture has no head")


def _is_turned(segment: bytes) -> bool:
    """Whether EXIF data say that width and height are exchanged when it is shown."""
    if not segment.startswith(b"Exif\0\0"):
        return False
    tiff = segment[6:]
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return False
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for number in range(min(count, 200)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * number)
            if tag == _ORIENTATION:
                return bool(kind == 3 and 5 <= value <= 8)
    except struct.error:
        return False
    return False
