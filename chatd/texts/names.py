"""Names of accounts: which may be given to a new account, and when two are the same or look the same.

Owns: the form in which a new name is stored (PRECIS, RFC 8265), the limits on mixing scripts (UTS #39), the key by
which names are the same, the skeleton by which they look the same, reserved names.
Elsewhere: uniqueness in the store (store.sql.accounts), the option accounts.reserved_names (config.schema), all other
texts (texts.fields).
Fails: Refused NAME_NOT_ALLOWED. Its text says why, and never contains the name.

These rules are for new names. Accounts that exist, and those that are imported, keep their names and are found by them
(name_key accepts every text).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from hashlib import blake2b

from precis_i18n import get_profile

from chatd.errors import ErrorCode, Refused
from chatd.texts.fields import MAX_MARKS, shown, too_many_marks
from chatd.texts.unicode import prototype, scripts_of

OF_THE_WIRES = ("0", "-1")
"""Names that stand for the server, or for everybody, on the mobileimsdk wire. No account may have them."""

_EXPANSION = 4
"""A name this many times longer than allowed is not looked at any further."""
_GROUP_MARK = "#"
"""Begins the number of a group in requests."""
_SEPARATORS = str.maketrans("", "", " .-_")
"""Left out when a name is compared with the reserved ones: sys-admin, s.y.s.a.d.m.i.n."""
_ERASED_KEY = "eraseduser"
"""How erased_name() begins, without separators."""
_ALIKE_IN_CAPITALS = str.maketrans("i", "l")
"""The capital of i looks like l."""
_DOT = "\u0307"
_SECOND_DOT = re.compile(r"([ijl][\u0300-\u0306\u0308-\u036f]*)\u0307")
"""A combining dot on a letter that has one anyway cannot be seen; nor is it noticed on a capital I."""
_ANY_SCRIPT = frozenset(("Zyyy", "Zinh"))
_TOGETHER = (frozenset(("Hani", "Hira", "Kana")), frozenset(("Hani", "Bopo")), frozenset(("Hani", "Hang")))
"""Scripts that are written together: Japanese, Chinese with Bopomofo, Korean. Latin may join each of them."""
_RECOMMENDED = frozenset(
    (
        *("Arab", "Armn", "Beng", "Bopo", "Deva", "Ethi", "Geor", "Gujr", "Guru", "Hang", "Hani", "Hebr", "Hira"),
        *("Kana", "Khmr", "Knda", "Laoo", "Mlym", "Mymr", "Orya", "Sinh", "Taml", "Telu", "Thaa", "Thai", "Tibt"),
    )
)
"""Scripts in general use (UAX #31, table 5) that Latin may be mixed with: without Cyrillic and Greek, whose letters
look like Latin ones."""
_REASONS = {
    "empty": "it is empty",
    "bidi_rule": "it mixes directions of writing, or is written from right to left and begins with a digit",
    "unassigned": "it contains {}, which this server's version of Unicode does not know",
}
"""By the rule of PRECIS; {} is the character. For all others: it must not contain {}."""

_enforce = get_profile("UsernameCasePreserved").enforce


# ---------------------------------------------------------------- the same, or looking the same


def name_key(name: str) -> str:
    """Two names with the same key are the same name: upper and lower case, and compatible forms of characters, make no
    difference. Accepts every text."""
    return unicodedata.normalize("NFKC", name).casefold()


def skeleton(name: str) -> str:
    """Two names with the same skeleton look the same, at least in some font: scope in Latin and in Cyrillic letters,
    b0b and bob, modem and modern; also lvan and ivan, because names are the same whatever their case, and lvan looks
    like Ivan. Accepts every text. Cost: about 6 µs."""
    return _look(name).translate(_ALIKE_IN_CAPITALS)


def _look(name: str) -> str:
    """The skeleton as the name is written, without regard to capitals that look like other letters."""
    found = prototype(prototype(unicodedata.normalize("NFKC", name)).casefold())
    return _SECOND_DOT.sub(r"\1", found) if _DOT in found else found


def skeleton_hash(name: str) -> int:
    """A signed 64-bit hash of the skeleton, by which a store finds names that look the same. Two different skeletons
    with one hash (a chance of 1 in 2**64) only mean that one of the names cannot be registered."""
    return int.from_bytes(blake2b(skeleton(name).encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True)


def is_reserved(name: str, reserved: Iterable[str]) -> bool:
    """Whether a name is, or looks like, one of the reserved names, also with separators in between; or begins like the
    name of an erased account."""
    keys = _keys(name)
    if any(key.startswith(_ERASED_KEY) for key in keys):
        return True
    return not keys.isdisjoint(_keys_of_all(tuple(reserved)))


def in_namespace(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a name begins with, or looks as if it began with, one of these prefixes."""
    key, look = name_key(name), skeleton(name)
    return any(key.startswith(name_key(one)) or look.startswith(skeleton(one)) for one in prefixes)


def erased_name(user_id: int) -> str:
    """Shown instead of the name of an erased account."""
    return f"erased user {user_id}"


def _keys(name: str) -> frozenset[str]:
    """Everything by which a name is compared with the reserved ones. Also in upper case, where other letters look
    alike: ADMlN (with a small L) looks like ADMIN."""
    found = (one.translate(_SEPARATORS) for one in (name_key(name), skeleton(name), skeleton(name.upper())))
    return frozenset(filter(None, found))


@functools.lru_cache(maxsize=4)
def _keys_of_all(reserved: tuple[str, ...]) -> frozenset[str]:
    return frozenset().union(*map(_keys, reserved))


# ---------------------------------------------------------------- a new name


def new_name(name: str, longest: int, *, digits: bool) -> str:
    """The form in which a new account's name is stored: UsernameCasePreserved of RFC 8265, for each of the parts that
    single spaces separate.

    longest: in characters. digits: it may consist of digits; otherwise such a name would receive what is sent to the
    account with this number. Raises: Refused NAME_NOT_ALLOWED. Cost: about 40 µs."""
    if not 0 < len(name) <= _EXPANSION * longest:
        raise _length_refused(longest)
    parts = name.split(" ")
    if "" in parts:
        raise _refused("it has spaces at its beginning or end, or two in a row")
    stored = " ".join(map(_enforced, parts))
    if len(parts) > 1:
        _enforced("".join(parts))  # the directions of all parts together
    if len(stored) > longest:
        raise _length_refused(longest)
    _check_meaning(stored, digits=digits)
    _check_scripts(stored)
    if too_many_marks(stored):
        raise _refused(f"it has more than {MAX_MARKS} combining marks on one character")
    return stored


def _refused(why: str) -> Refused:
    return Refused(ErrorCode.NAME_NOT_ALLOWED, f"this name is not allowed: {why}")


def _length_refused(longest: int) -> Refused:
    return _refused(f"it must have 1 to {longest} characters")


def _enforced(part: str) -> str:
    """Raises: Refused NAME_NOT_ALLOWED."""
    try:
        return str(_enforce(part))
    except UnicodeEncodeError as error:
        rule = error.reason.rpartition("/")[2]
        text = _REASONS.get(rule, "it must not contain {}")
        raise _refused(text.format(shown(error.object[error.start : error.start + 1] or " "))) from None


def _check_meaning(name: str, *, digits: bool) -> None:
    """Raises: Refused NAME_NOT_ALLOWED if requests or clients would take the name for something else."""
    if name[0] == _GROUP_MARK:
        raise _refused(f"{_GROUP_MARK} at its beginning marks a group")
    if name_key(name) in OF_THE_WIRES or skeleton(name) in map(skeleton, OF_THE_WIRES):
        raise _refused("the protocol uses it, or one that looks like it, for the server")
    if not digits and _looks_like_number(name):
        raise _refused("it is, or looks like, a number, and numbers are ids of users")


def _looks_like_number(name: str) -> bool:
    """All digits, of whatever script; or digits together with letters that look like digits, such as l0."""
    plain = unicodedata.normalize("NFKC", name)
    return plain.isdigit() or (any(map(str.isdigit, plain)) and set(_look(plain)) <= _like_digits())


@functools.cache
def _like_digits() -> frozenset[str]:
    """The characters that skeletons of numbers are made of."""
    return frozenset("".join(map(_look, "0123456789")) + "0123456789")


def _check_scripts(name: str) -> None:
    """The restriction level "moderately restrictive" of UTS #39, section 5.2: one script, or scripts that are written
    together, or Latin and one other script that does not look like it. Digits of one system only.

    Raises: Refused NAME_NOT_ALLOWED."""
    sets = [found for one in name if not (found := scripts_of(one)) & _ANY_SCRIPT]
    if not (_is_one_script(sets) or _is_latin_with_one(sets)):
        raise _refused("it mixes scripts whose letters look alike")
    if len({ord(one) - unicodedata.decimal(one) for one in name if one.isdecimal()}) > 1:
        raise _refused("it mixes digits of different scripts")


def _is_one_script(sets: list[frozenset[str]]) -> bool:
    if not sets or frozenset.intersection(*sets):
        return True
    return any(all(found & together for found in sets) for together in _TOGETHER)


def _is_latin_with_one(sets: list[frozenset[str]]) -> bool:
    others = [found for found in sets if "Latn" not in found]
    if any(all(found & together for found in others) for together in _TOGETHER):
        return True
    return bool(frozenset.intersection(*others) & _RECOMMENDED) if others else True
