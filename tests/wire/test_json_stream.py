"""The splitter of glued JSON objects, and cutting."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.errors import ErrorCode, WireError
from chatd.wire.json_stream import MAX_NESTING, ObjectSplitter, fit, too_deep

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('{}[]"\\\n é\0'), max_size=9),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(st.sampled_from('{}[]"\\ab'), max_size=4), values, max_size=4)
separators = st.sampled_from([b"", b"\0", b"\n", b"\r\n\0", b" \0\0 "])


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def split(splitter: ObjectSplitter, stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    reads = [stream[a:b] for a, b in itertools.pairwise(places)]
    return [frame for read in reads for frame in splitter.split(read)]


@given(st.lists(st.tuples(objects, separators), max_size=6), st.lists(st.integers(0, 10**6), max_size=6))
def test_objects_come_out_as_they_went_in(sent: list[tuple[dict[str, object], bytes]], cuts: list[int]) -> None:
    texts = [json.dumps(content, ensure_ascii=False).encode() for content, _ in sent]
    stream = b"".join(text + separator for text, (_, separator) in zip(texts, sent, strict=True))
    if any(depth(content) > MAX_NESTING for content, _ in sent):
        return
    assert split(ObjectSplitter(10**6), stream, cuts) == texts


@given(values)
def test_depth(value: object) -> None:
    wrapped = {"x": value}
    for _ in range(12):
        wrapped = {"x": wrapped}
    assert too_deep(json.dumps(wrapped).encode()) == (depth(wrapped) > MAX_NESTING)


def test_brackets_in_strings_are_no_depth() -> None:
    assert not too_deep(json.dumps({"x": "[{" * 100 + '"\\"' * 5}).encode())


@pytest.mark.parametrize("short", [b'{"a":"x', b'{"a":"\\', b'{"a":[1', b'{"a', b"{"])
def test_a_frame_cut_by_nul_is_given_as_far_as_it_came(short: bytes) -> None:
    assert list(ObjectSplitter(100).split(short + b"\0{}")) == [short, b"{}"]
    assert next(ObjectSplitter(100).split(short + b"\0}\0")) == short


def test_good_frames_before_garbage_are_given() -> None:
    frames = ObjectSplitter(100).split(b"{} {}\0x{}")
    assert [next(frames), next(frames)] == [b"{}", b"{}"]
    with pytest.raises(WireError):
        next(frames)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_an_endless_frame_is_cut_at_the_limit(size: int) -> None:
    splitter = ObjectSplitter(50)
    endless = b'{"' + b"x" * 10_000
    seen: list[int] = []

    def reads() -> None:
        for at in range(0, len(endless), size):
            seen.append(at + size)
            assert list(splitter.split(endless[at : at + size])) == []

    with pytest.raises(WireError) as refused:
        reads()
    assert refused.value.code == ErrorCode.TOO_LONG
    assert 50 < seen[-1] <= 50 + size


def test_fit_takes_what_it_can() -> None:
    def make(text: str) -> bytes:
        return b"<" + text.encode() + b">"

    assert fit(make, "hello", 7) == b"<hello>"
    assert fit(make, "hello", 6) == "<h…>".encode()
    assert fit(make, "éé", 5) == "<…>".encode()
    assert fit(make, "hello", 4) == b"<>"
    assert fit(make, "hello", 1) == b"<>"
    assert fit(make, "", 1) == b"<>"
