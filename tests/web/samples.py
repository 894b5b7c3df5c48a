"""Files for the tests of attachments.

Owns: pictures of any size, and what is called a file with a name and a type.
Elsewhere: choosing them on the page (desk).
Fails: never.
"""

from __future__ import annotations

import random
import struct
import zlib

from tests.web.desk import Sample


def png(width: int, height: int, *, whole: bool = True) -> bytes:
    """One colour; not whole: the first line only, of a picture that says to be larger."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x30\x80\xc0" * width) * (height if whole else 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def picture(name: str = "lake.png", width: int = 800, height: int = 600) -> Sample:
    return {"name": name, "mimeType": "image/png", "buffer": png(width, height)}


def bomb(name: str = "bomb.png") -> Sample:
    """A picture of 81 million pixels, which a server takes."""
    return {"name": name, "mimeType": "image/png", "buffer": png(9000, 9000, whole=False)}


def text(name: str = "notes.txt", content: str = "some notes") -> Sample:
    return {"name": name, "mimeType": "text/plain", "buffer": content.encode()}


def large(name: str = "large.txt", size: int = 1_500_000) -> Sample:
    """Nothing that could be compressed, and always the same."""
    content = random.Random(size).randbytes(size // 2).hex().encode()
    return {"name": name, "mimeType": "text/plain", "buffer": content}
