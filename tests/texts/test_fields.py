"""The filter for texts that people see: one table per class of text."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.errors import ErrorCode, Refused
from chatd.texts import fields

Filter = Callable[[str, str, int], str]
CLASSES: list[Filter] = [fields.name, fields.line, fields.paragraphs]
EMOJI = [
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u2764\ufe0f\u200d\U0001f525",
    "1\ufe0f\u20e3",
    "\U0001f44d\U0001f3fd",
    "\U0001f9d1\U0001f3fd\u200d\U0001f680",
    "\U0001f3f3\ufe0f\u200d\U0001f308",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "\U0001f1e9\U0001f1ea",
    "\U0001faea",  # a code point that may become an emoji after this Python's Unicode
]
WRITING = [
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a non-joiner
    "\u0915\u094d\u200d\u0937",  # Hindi, with a joiner
    "\u8fbb\U000e0100",  # a variant of a Han character
    "\u05e9\u05bc\u05c1\u0596",  # pointed Hebrew: three marks on one letter
    "Vi\u1ec7t Nam",
    "team #1 (old)",
]
NEVER = [
    ("\x1b[31mred", "U+001B"),
    ("bell\a", "U+0007"),
    ("a\0b", "U+0000"),
    ("a\x7fb", "U+007F"),
    ("a\x9bb", "U+009B"),
    ("a\u202eb", "U+202E (RIGHT-TO-LEFT OVERRIDE)"),
    ("a\u202ab", "U+202A"),
    ("a\u2067b", "U+2067"),
    ("a\u200bb", "U+200B (ZERO WIDTH SPACE)"),
    ("a\u200cb", "U+200C"),
    ("a\u200db", "U+200D"),
    ("\u200da", "U+200D"),
    ("\U0001f468\u200d", "U+200D"),
    ("a\ufe0fb", "U+FE0F"),
    ("a\u2060b", "U+2060"),
    ("a\ufeffb", "U+FEFF"),
    ("a\u00adb", "U+00AD"),
    ("a\u034fb", "U+034F"),
    ("a\u3164b", "U+3164"),
    ("a\u2800b", "U+2800"),
    ("a\U000e0041", "U+E0041"),
    ("a\u2028b", "U+2028"),
    ("a\ufff9b", "U+FFF9"),
    ("a\ud800", "U+D800"),
    ("a\ue000", "U+E000"),
    ("a\u0378", "U+0378"),
    ("a\uffff", "U+FFFF"),
    ("Z" + "\u0301\u0302\u0303" * 4, "combining marks"),
    ("\u0301a", "without a character before it"),
    ("x" * 201, "longer than 200 characters"),
    ("x" * 100_000, "longer than 200 characters"),
    ("\ufdfa" * 2000, "longer than 200 characters"),
]


def why_not(accept: Filter, text: str) -> str:
    with pytest.raises(Refused) as refused:
        accept("the text", text, 200)
    assert refused.value.code == ErrorCode.BAD_FIELD
    assert refused.value.text.startswith("the text ")
    return refused.value.text


@pytest.mark.parametrize("text", [*EMOJI, *WRITING, "team", "O'Neil & Söhne", "日本", "x" * 200])
@pytest.mark.parametrize("accept", CLASSES)
def test_what_people_write_is_accepted(accept: Filter, text: str) -> None:
    assert accept("the text", text, 200) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(("text", "why"), NEVER)
@pytest.mark.parametrize("accept", CLASSES)
def test_what_is_never_accepted(accept: Filter, text: str, why: str) -> None:
    assert why in why_not(accept, text)


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("a\nb", "p"),
        ("a\tb", "p"),
        ("a\rb", ""),
        ("a\u200fb", "lp"),
        ("a\u061cb", "lp"),
        ("a\u00a0b", "lp"),
        ("a\u3000b", "lp"),
        ("", "lp"),
        ("  ", "lp"),
    ],
)
def test_what_only_some_classes_accept(text: str, classes: str) -> None:
    for letter, accept in zip("nlp", CLASSES, strict=True):
        if letter in classes:
            assert accept("the text", text, 200) == text
        else:
            why_not(accept, text)


def test_the_form_that_is_stored() -> None:
    assert fields.name("the text", " caf\u0065\u0301 ", 200) == "caf\u00e9"
    assert fields.line("the text", " e\u0301 ", 200) == " \u00e9 "
    assert fields.paragraphs("the text", "a\r\nb", 200) == "a\nb"


@given(st.text(st.characters(), max_size=60))
def test_what_is_accepted_is_stable_and_has_nothing_hidden(text: str) -> None:
    for accept in CLASSES:
        try:
            stored = accept("the text", text, 50)
        except Refused as refused:
            refused.text.encode("ascii")
            continue
        assert accept("the text", stored, 50) == stored
        assert len(stored) <= 50
        stored.encode()
        assert not any(unicodedata.category(one) in ("Cc", "Co", "Cs") and one not in "\n\t" for one in stored)
        assert not set(stored) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
