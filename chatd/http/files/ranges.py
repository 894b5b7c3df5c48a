"""Parts of a file, and conditions, as HTTP asks for them (RFC 9110).

Owns: reading Range, If-Range and If-None-Match; Content-Disposition.
Elsewhere: answering (http.files.routes).
Fails: Unsatisfiable for a range that lies outside; a header that cannot be read is as if it were not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

_RANGE = re.compile(rb"bytes[ \t]*=[ \t]*(\d{0,18})[ \t]*-[ \t]*(\d{0,18})[ \t]*", re.IGNORECASE)
_PLAIN = re.compile(r"[^A-Za-z0-9 ._()+-]")
"""What the plain name of an attachment does not contain: among others quotes, backslashes and "%"."""


class Unsatisfiable(Exception):
    """The range lies outside the file. Caught in http.files.routes."""


class Part(NamedTuple):
    """From `start` to before `end`. is_whole: nothing else was asked for."""

    start: int
    end: int
    is_whole: bool


def part_of(headers: Mapping[bytes, bytes], size: int, tag: bytes) -> Part:
    """What is to be sent. More than one range is answered with everything. Raises: Unsatisfiable."""
    whole = Part(0, size, is_whole=True)
    condition = headers.get(b"if-range")
    if condition is not None and condition.strip() != tag:
        return whole
    found = _RANGE.fullmatch(headers.get(b"range", b"").strip())
    if found is None or not (found[1] or found[2]):
        return whole
    if not found[1]:
        last = min(int(found[2]), size)
        if not last:
            raise Unsatisfiable
        return Part(size - last, size, is_whole=False)
    start = int(found[1])
    end = min(int(found[2]) + 1, size) if found[2] else size
    if found[2] and int(found[2]) < start:
        return whole  # not a range at all
    if start >= size:
        raise Unsatisfiable
    return Part(start, end, is_whole=False)


def is_known(headers: Mapping[bytes, bytes], tag: bytes) -> bool:
    """Whether the client has this content."""
    given = headers.get(b"if-none-match", b"")
    tags = {one.strip().removeprefix(b"W/") for one in given.split(b",")}
    return tag in tags or b"*" in tags


def disposition(kind: str, name: str) -> bytes:
    """The header Content-Disposition (RFC 6266): the name for old programs, and as it is."""
    plain = _PLAIN.sub("_", name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}".encode("ascii")
