"""Names of accounts: which a new account may have, and which are, or look, the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.config.account_options import RESERVED_NAMES
from chatd.errors import ErrorCode, Refused
from chatd.texts.names import is_reserved, name_key, new_name, skeleton, skeleton_hash

CYRILLIC_SCOPE = "\u0455\u0441\u043e\u0440\u0435"
"""Every letter is Cyrillic; it looks like "scope"."""


def why_not(name: str, longest: int = 50, *, digits: bool = False) -> str:
    with pytest.raises(Refused) as refused:
        new_name(name, longest, digits=digits)
    assert refused.value.code == ErrorCode.NAME_NOT_ALLOWED
    return refused.value.text


# ---------------------------------------------------------------- new names


@pytest.mark.parametrize(
    "name",
    [
        "a", "Zoë", "two words", "a b c", "x" * 50, "O'Neil & Söhne", "a1", "日本", "日本語テスト", "日本 abc",
        "한국어", "Москва", "λόγος", "אלף", "\u0646\u0627\u0645\u200c\u0647\u0627", "<b>", "lol", "user_1",
        "Hanna-Lena",
    ],
)  # fmt: skip
def test_a_name_that_is_stored_as_it_is(name: str) -> None:
    assert new_name(name, 50, digits=False) == name


@pytest.mark.parametrize(
    ("name", "stored"),
    [("\uff21nna", "Anna"), ("Jose\u0301", "José"), ("\uff83\uff7d\uff84", "テスト"), ("a\uff0e b", "a. b")],
)
def test_a_name_is_stored_in_one_form(name: str, stored: str) -> None:
    assert new_name(name, 50, digits=False) == stored


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "1 to 50 characters"),
        ("x" * 51, "1 to 50 characters"),
        ("x" * 100_000, "1 to 50 characters"),
        *((name, "spaces at its beginning or end, or two in a row") for name in (" ", " a", "a ", "a  b")),
        ("a\nb", "U+000A"),
        ("a\0b", "U+0000"),
        ("\x1b[31mred", "U+001B"),
        ("a\u200bb", "U+200B (ZERO WIDTH SPACE)"),
        ("a\u00adb", "U+00AD (SOFT HYPHEN)"),
        ("a\ufeffb", "U+FEFF (ZERO WIDTH NO-BREAK SPACE)"),
        ("gpj.\u202egnp", "U+202E (RIGHT-TO-LEFT OVERRIDE)"),
        ("a\u2066b", "U+2066 (LEFT-TO-RIGHT ISOLATE)"),
        ("a\u200cb", "U+200C (ZERO WIDTH NON-JOINER)"),
        ("a\u00a0b", "U+00A0 (NO-BREAK SPACE)"),
        ("a\u3000b", "U+3000 (IDEOGRAPHIC SPACE)"),
        ("a\u3164b", "U+3164 (HANGUL FILLER)"),
        ("\ud800", "U+D800"),
        ("\ue000", "U+E000"),
        ("a\u0378", "U+0378, which this server's version of Unicode does not know"),
        ("\U0001f600", "U+1F600 (GRINNING FACE)"),
        ("\ufb01ona", "U+FB01 (LATIN SMALL LIGATURE FI)"),
        ("a" + "\u0301" * 9, "more than 5 combining marks"),
        ("#5", "marks a group"),
        ("\uff035", "marks a group"),
        *((name, "for the server") for name in ("0", "\uff10", "O", "o", "\u043e", "-1", "-l", "\uff0d1")),
        *((name, "a number") for name in ("123", "\uff11\uff12", "\u0e51", "l0", "1O", "I23")),
        ("\u0663", "begins with a digit"),
        ("\u0430lice", "mixes scripts"),
        ("p\u0430ypal", "mixes scripts"),
        ("\u03a9mega", "mixes scripts"),
        ("\u0430\u03b1", "mixes scripts"),
        ("\u0e01\u0e51" + "1", "mixes digits"),
        ("\u05d0\u05dc\u05e3 bob", "mixes directions"),
    ],
)
def test_a_name_that_no_new_account_may_have(name: str, why: str) -> None:
    assert why in why_not(name)


def test_numbers_are_names_only_where_anybody_may_have_any() -> None:
    assert new_name("123", 50, digits=True) == "123"
    assert "for the server" in why_not("0", digits=True)


@given(st.text(max_size=80))
def test_every_text_is_stored_in_a_form_that_is_stable_or_is_refused(name: str) -> None:
    try:
        stored = new_name(name, 50, digits=False)
    except Refused:
        why_not(name).encode("ascii")
    else:
        assert new_name(stored, 50, digits=False) == stored
        assert name_key(stored) == name_key(name)
        assert stored.isprintable()
        assert not stored.isdigit()


# ---------------------------------------------------------------- the same, or looking the same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("scope", CYRILLIC_SCOPE),
        ("SCOPE", "\u0405\u0421\u041e\u0420\u0415"),
        ("paypal", "\u0440\u0430\u0443\u0440\u0430l"),
        ("paypal", "pay\u200bpal"),
        ("paypal", "\uff50\uff41\uff59\uff50\uff41\uff4c"),
        ("paypal", "PaypaI"),
        ("paypal", "paypa1"),
        ("bob", "b0b"),
        ("ivan", "lvan"),
        ("niko", "\u039d\u0399\u039a\u039f"),
        ("alice", "ali\u0307ce"),
        ("alice", "AL\u0130CE"),
        ("modern", "modem"),
        ("anna", "\u202eanna"),
        ("\u30a2", "\uff71"),
    ],
)
def test_names_that_look_the_same(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)
    assert skeleton_hash(one) == skeleton_hash(other)


@pytest.mark.parametrize(
    ("one", "other"), [("anna", "änna"), ("anna", "hanna"), ("pay pal", "paypal"), ("user1", "user2"), ("", "a")]
)
def test_names_that_look_different(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)
    assert skeleton_hash(one) != skeleton_hash(other)


@given(st.text(st.characters(), max_size=80))
def test_every_text_has_a_skeleton_of_a_bounded_size(name: str) -> None:
    """Also what no new account may have, because accounts from before are compared too."""
    assert len(skeleton(name)) <= 400 * (len(name) + 1)
    assert -(2**63) <= skeleton_hash(name) < 2**63


# ---------------------------------------------------------------- reserved names


@pytest.mark.parametrize(
    "name",
    ["admin", "Admin", "ADMIN", "\uff21dmin", "\u0410dmin", "adm1n", "ADMlN", "a.d.m.i.n", "sys-admin", "Sys Admin",
     "_root_", "r00t", "supp0rt", "\u0455upport"],
)  # fmt: skip
def test_a_reserved_name_is_known_in_every_spelling(name: str) -> None:
    assert is_reserved(name, RESERVED_NAMES)


@pytest.mark.parametrize("name", ["administer", "badmin", "rooty", "alice", "systems", "-", "_"])
def test_a_name_that_contains_a_reserved_one_is_another(name: str) -> None:
    assert not is_reserved(name, RESERVED_NAMES)


def test_without_reserved_names_none_is_reserved() -> None:
    assert not is_reserved("admin", ())
    assert is_reserved("Boss", ("admin", "boss"))
