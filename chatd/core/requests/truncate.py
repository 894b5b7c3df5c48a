"""Cutting answers and notices so that they fit into a packet.

Owns: cutting a result's lists between entries, its texts between characters, and saying in the result that it is cut.
Elsewhere: how much room there is (Peer.text_bytes), the contents (core.requests.dispatch, core.requests.notices).
Fails: never; what cannot be cut any further is given as it is.

Everything is measured as the wire writes it: a JSON text inside a JSON string.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

Make = Callable[[object], str]

_ELLIPSIS = "…"
_KEPT = {"ref", "event"}
"""Fields by which clients recognise a text; never cut."""

encode = msgspec.json.Encoder().encode


def size_of(text: str) -> int:
    """Bytes of `text` when it is written as a JSON string."""
    return len(encode(text))


def fitted(result: object, make: Make, room: int) -> str:
    """make(result) in at most `room` bytes: its longest lists are cut at the end, and it gets "more": true. If not even
    one entry fits, the entry's "text" is cut, and its "cut" says at which character; if that is not enough, its "files"
    are cut from the end, and it gets "files_cut": true."""
    text = make(result)
    if size_of(text) <= room or not isinstance(result, dict):
        return text
    lists = [key for key, value in result.items() if isinstance(value, list) and value]
    lists.sort(key=lambda key: len(encode(result[key])), reverse=True)
    left: dict[str, Any] = {**result, "more": True}
    for key in lists:
        whole = result[key]
        rest = dict(left)

        def first(size: int, key: str = key, whole: list[Any] = whole, rest: dict[str, Any] = rest) -> str:
            return make({**rest, key: whole[:size]})

        count = _most(len(whole), first, room)
        left[key] = whole[:count]
        if count:
            break
        if len(lists) == 1 and isinstance(whole[0], dict) and "text" in whole[0]:
            left[key] = [_cut(whole[0], make, left, key, room)]
    return make(left)


def _cut(entry: dict[str, Any], make: Make, result: dict[str, Any], key: str, room: int) -> dict[str, Any]:
    words, start = str(entry["text"]), int(entry.get("start", 0))
    for _ in entry.get("files", ()):
        if size_of(make({**result, key: [{**entry, "text": "", "cut": 0}]})) > room:
            entry = {**entry, "files": entry["files"][:-1], "files_cut": True}

    def first(size: int) -> dict[str, Any]:
        return {**entry, "text": words[:size], "cut": start + size}

    return first(_most(len(words), lambda size: make({**result, key: [first(size)]}), room))


def squeezed(text: str, room: int) -> str:
    """The JSON object `text` in at most `room` bytes: its longest texts are cut and end in "…", and it gets "more":
    true. A text that is not a JSON object (a plug-in may send one) is itself cut."""
    if size_of(text) <= room:
        return text
    try:
        whole = {**msgspec.json.decode(text, type=dict[str, Any]), "more": True}
    except (msgspec.DecodeError, RecursionError):
        return text[: _most(len(text), lambda most: text[:most] + _ELLIPSIS, room)] + _ELLIPSIS
    longest = max(map(len, _texts(whole)), default=0)
    return _capped(whole, _most(longest, lambda most: _capped(whole, most), room))


def _texts(value: object) -> list[str]:
    """Every text in a JSON value that may be cut."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for entry in value for text in _texts(entry)]
    if isinstance(value, dict):
        return [text for key, entry in value.items() if key not in _KEPT for text in _texts(entry)]
    return []


def _capped(whole: dict[str, Any], most: int) -> str:
    """The object with every text cut to at most `most` characters, as JSON."""

    def cap(value: Any) -> Any:
        if isinstance(value, str):
            return value if len(value) <= most else value[:most] + _ELLIPSIS
        if isinstance(value, list):
            return [cap(entry) for entry in value]
        if isinstance(value, dict):
            return {key: entry if key in _KEPT else cap(entry) for key, entry in value.items()}
        return value

    return encode(cap(whole)).decode()


def _most(most: int, make: Callable[[int], str], room: int) -> int:
    """The greatest n of 0..most for which make(n) takes at most `room` bytes; 0 when none does."""
    fits, too_many = 0, most + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if size_of(make(middle)) <= room:
            fits = middle
        else:
            too_many = middle
    return fits
