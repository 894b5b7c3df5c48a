"""Which tokens are accepted: every algorithm, every claim, and what attackers send."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import time
from typing import Any

import jwt
import pytest

from chatd.config.token_options import TokenKeyOptions, TokenOptions
from chatd.errors import ErrorCode, Refused
from chatd.tokens.contract import Claims, TokenProblem, TokenRefused, looks_like_token
from chatd.tokens.keys import KeyRing, configured_keys, keys_of_set
from chatd.tokens.minting import mint
from chatd.tokens.verifier import Verifier
from tests.tokens.keys import SECRET, claims, hs256, key_set, pair, part, raw

PAIRS = ("RS256", "ES256", "EdDSA")
HS = TokenKeyOptions(algorithm="HS256", secret=SECRET)


def verify(token: str, *keys: TokenKeyOptions, **options: Any) -> Claims:
    return Verifier(TokenOptions(**options)).verify(token, KeyRing(configured_keys(keys or (HS,))))


def problem(token: str, *keys: TokenKeyOptions, **options: Any) -> TokenProblem:
    with pytest.raises(TokenRefused) as refused:
        verify(token, *keys, **options)
    return refused.value.problem


def public(algorithm: Any, kid: str = "", number: int = 0) -> TokenKeyOptions:
    return TokenKeyOptions(kid=kid, algorithm=algorithm, public_key=pair(algorithm, number).public)


# ---------------------------------------------------------------- good ones


def test_a_secret_signs() -> None:
    found = verify(hs256("Alice", 600))
    assert found.name == "Alice"
    assert abs(found.expires_at - time.time() - 600) < 5
    assert abs(found.issued_at - time.time()) < 5


@pytest.mark.parametrize("algorithm", PAIRS)
def test_a_pair_signs(algorithm: str) -> None:
    assert verify(pair(algorithm).sign(claims("bob")), public(algorithm)).name == "bob"
    assert problem(pair(algorithm, 1).sign(claims("bob")), public(algorithm)) is TokenProblem.BAD_SIGNATURE


def test_keys_are_found_by_their_names() -> None:
    keys = [public(algorithm, kid=algorithm) for algorithm in PAIRS] + [
        TokenKeyOptions(kid="hs", algorithm="HS256", secret=SECRET)
    ]
    for algorithm in PAIRS:
        assert verify(pair(algorithm).sign(claims(), algorithm), *keys).name == "alice"
        assert verify(pair(algorithm).sign(claims()), *keys).name == "alice", "a token without kid may be of any key"
    assert verify(hs256(kid="hs"), *keys).name == "alice"
    assert problem(hs256(kid="other"), *keys) is TokenProblem.UNKNOWN_KEY
    assert problem(pair("ES256").sign(claims(), "RS256"), *keys) is TokenProblem.UNKNOWN_KEY


def test_two_keys_are_valid_while_one_replaces_the_other() -> None:
    old, new = public("EdDSA", "old"), public("EdDSA", "new", 1)
    for kid, number in (("old", 0), ("new", 1)):
        assert verify(pair("EdDSA", number).sign(claims(), kid), old, new).name == "alice"
    assert problem(pair("EdDSA").sign(claims(), "old"), new) is TokenProblem.UNKNOWN_KEY
    assert problem(pair("EdDSA").sign(claims(), "new"), old, new) is TokenProblem.BAD_SIGNATURE


# ---------------------------------------------------------------- forged ones


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS512", "PS256", "dir"])
def test_no_other_algorithm_is_possible(algorithm: str) -> None:
    header = {"alg": algorithm, "typ": "JWT"}
    unsigned = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims()).encode())}."
    for token in (unsigned, raw(header, claims())):
        assert problem(token, HS, public("RS256")) is TokenProblem.UNKNOWN_KEY


@pytest.mark.parametrize("algorithm", PAIRS)
def test_a_public_key_is_no_secret(algorithm: str) -> None:
    """Whoever signs with HS256 and the text of the public key, in any form of it."""
    text = pair(algorithm).public
    for secret in (text, text.strip(), text.replace("\n", "")):
        for kid in ("", "key"):
            token = raw({"alg": "HS256", "kid": kid}, claims(), secret)
            assert problem(token, public(algorithm, "key")) is TokenProblem.UNKNOWN_KEY
            assert problem(token, public(algorithm)) is TokenProblem.UNKNOWN_KEY


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/etc/passwd",
        "x' UNION SELECT 'secret",
        "http://evil.example/jwks.json",
        "\0",
        "é" * 100,
    ],
)
def test_the_name_of_a_key_is_only_compared(kid: str) -> None:
    named = TokenKeyOptions(kid="real", algorithm="HS256", secret=SECRET)
    for secret in ("", "\0", SECRET):
        assert problem(raw({"alg": "HS256", "kid": kid}, claims(), secret), named) is TokenProblem.UNKNOWN_KEY


def test_a_key_that_the_token_brings_is_not_used() -> None:
    mine = pair("EdDSA", 7)
    header = {"jwk": mine.jwk("mine"), "jku": "http://evil.example/", "x5u": "http://evil.example/", "x5c": ["AAAA"]}
    token = jwt.encode(claims(), mine.private, algorithm="EdDSA", headers=header)
    assert problem(token, public("EdDSA")) is TokenProblem.BAD_SIGNATURE


@pytest.mark.parametrize("extension", [{"crit": ["exp"]}, {"b64": False}, {"crit": []}, {"zip": "DEF"}])
def test_extensions_are_refused(extension: dict[str, Any]) -> None:
    assert problem(raw({"alg": "HS256", **extension}, claims())) is TokenProblem.MALFORMED


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_changed_character_is_noticed(place: int) -> None:
    parts = hs256(kid="k").split(".")
    middle = len(parts[place]) // 2
    parts[place] = f"{parts[place][:middle]}{'A' if parts[place][middle] != 'A' else 'B'}{parts[place][middle + 1 :]}"
    assert problem(".".join(parts)) in (TokenProblem.BAD_SIGNATURE, TokenProblem.MALFORMED, TokenProblem.UNKNOWN_KEY)


NESTED = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    "token",
    [
        "",
        "..",
        "a.b.c",
        "." * 100,
        part(b"{}") + ".e30.x",
        raw('{"alg":"HS256","alg":"none"}', claims()),
        raw('{"alg":"HS256","kid":1}', claims()),
        raw('{"alg":"HS256","kid":["a"]}', claims()),
        raw('{"alg":"HS256","kid":"' + "k" * 300 + '"}', claims()),
        raw('{"alg":"HS256","x":' + "[" * 400 + "]" * 400 + "}", claims()),
        raw('{"alg":"HS256","x":NaN}', claims()),
        raw('["HS256"]', claims()),
        raw('{"alg":{"alg":"HS256"}}', claims()),
        raw("\ufeff{}", claims()),
    ],
    ids=itertools.count(),
)
def test_what_is_no_token(token: str) -> None:
    assert problem(token) is TokenProblem.MALFORMED


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_another_encoding_is_not_guessed(encoding: str) -> None:
    header, payload = json.dumps({"alg": "HS256"}).encode(), json.dumps(claims()).encode(encoding)
    signed = f"{part(header)}.{part(payload)}"
    token = f"{signed}.{part(hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha256))}"
    assert problem(token) is TokenProblem.BAD_CLAIMS
    assert not looks_like_token(f"{part(json.dumps({'alg': 'HS256'}).encode(encoding))}.{part(payload)}.AAAA")


def test_a_huge_token_is_refused_unread() -> None:
    assert problem(hs256(padding="x" * 100_000)) is TokenProblem.TOO_LONG
    assert problem(hs256(padding="x" * 9000)) is TokenProblem.TOO_LONG
    assert verify(hs256(padding="x" * 5000)).name == "alice"


# ---------------------------------------------------------------- claims


def test_times() -> None:
    now = time.time()
    assert problem(hs256(lives_s=-60), leeway_s=10) is TokenProblem.EXPIRED
    assert verify(hs256(lives_s=-5), leeway_s=10).name == "alice"
    assert problem(hs256(lives_s=-5), leeway_s=0) is TokenProblem.EXPIRED
    assert problem(hs256(nbf=now + 60), leeway_s=10) is TokenProblem.NOT_YET_VALID
    assert verify(hs256(nbf=now + 5), leeway_s=10).name == "alice"
    assert problem(hs256(iat=now + 60), leeway_s=10) is TokenProblem.NOT_YET_VALID
    assert verify(hs256(iat=now - 5, exp=now + 100.5)).expires_at == pytest.approx(now + 100.5)


def test_how_long_a_token_may_live() -> None:
    assert problem(hs256(lives_s=7200), max_lifetime_s=3600) is TokenProblem.LIVES_TOO_LONG
    assert problem(hs256(lives_s=7200, iat=None), max_lifetime_s=3600) is TokenProblem.LIVES_TOO_LONG
    old = int(time.time()) - 4000
    assert problem(hs256(iat=old, exp=old + 4600), max_lifetime_s=3600) is TokenProblem.LIVES_TOO_LONG
    assert verify(hs256(lives_s=10 * 86400), max_lifetime_s=0).name == "alice"


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 2},
        {"sub": ["alice"]},
        {"sub": {"name": "alice"}},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": 1 << 60},
        {"exp": [9999999999]},
        {"nbf": "0"},
        {"iat": True},
        {"iat": -1},
    ],
)
def test_claims_of_another_kind(changed: dict[str, Any]) -> None:
    wrong = (TokenProblem.BAD_CLAIMS, TokenProblem.MALFORMED, TokenProblem.EXPIRED)
    assert problem(hs256(**changed), max_lifetime_s=0) in wrong


@pytest.mark.parametrize(
    "payload",
    [
        '{"sub":"alice","exp":%d,"sub":"root"}',
        '{"sub":"alice","exp":%d,"exp":99999999999}',
        '{"sub":"alice","exp":%d,"x":{"a":1,"a":2}}',
        '{"sub":"alice","exp":1e400,"x":%d}',
        '{"sub":"alice","exp":Infinity,"x":%d}',
        '{"sub":"alice","exp":NaN,"x":%d}',
        '["alice",%d]',
        '"%d"',
        '{"sub":"alice","exp":%d',
        '{"sub":"alice","exp":%d,"x":' + "[" * 2500 + "]" * 2500 + "}",
    ],
)
def test_payloads_that_readers_may_understand_in_two_ways(payload: str) -> None:
    token = raw({"alg": "HS256"}, payload % (time.time() + 60))
    assert problem(token) in (TokenProblem.BAD_CLAIMS, TokenProblem.MALFORMED, TokenProblem.EXPIRED)


def test_for_whom_and_by_whom() -> None:
    options = {"audience": ("chat", "chat2"), "issuer": ("https://app.example",)}
    good = {"aud": "chat", "iss": "https://app.example"}
    assert verify(hs256(**good), **options).name == "alice"
    assert verify(hs256(**{**good, "aud": ["shop", "chat2"]}), **options).name == "alice"
    for aud in ("shop", ["shop"], "chat3", "CHAT"):
        assert problem(hs256(**{**good, "aud": aud}), **options) is TokenProblem.WRONG_AUDIENCE
    for aud in (None, [], ""):
        assert problem(hs256(**{**good, "aud": aud}), **options) is TokenProblem.BAD_CLAIMS
    assert problem(hs256(**{**good, "aud": {"chat": 1}}), **options) in (
        TokenProblem.WRONG_AUDIENCE,
        TokenProblem.BAD_CLAIMS,
    )
    assert problem(hs256(**{**good, "iss": "https://evil.example"}), **options) is TokenProblem.WRONG_ISSUER
    assert problem(hs256(aud="chat"), **options) is TokenProblem.BAD_CLAIMS
    assert verify(hs256(aud="anything", iss="anybody")).name == "alice", "not configured, not looked at"


# ---------------------------------------------------------------- token or password


def test_what_looks_like_a_token() -> None:
    assert looks_like_token(hs256())
    assert looks_like_token(part(b'{ "alg" : "none" }') + "..")
    for secret in (
        "",
        "hello",
        "a.b.c",
        "www.example.org",
        "eyJ.eyJ.eyJ",
        hs256() + ".x",
        hs256() + "\n",
        f"{part(b'{}')}.e30.",
    ):
        assert not looks_like_token(secret)


def test_only_what_a_key_has_signed_cannot_be_a_password() -> None:
    signed = {TokenProblem.EXPIRED: hs256(lives_s=-60), TokenProblem.BAD_CLAIMS: hs256(sub="")}
    unsigned = {
        TokenProblem.BAD_SIGNATURE: raw({"alg": "HS256"}, claims(), "x" * 40),
        TokenProblem.UNKNOWN_KEY: raw({"alg": "RS256"}, claims()),
    }
    for found, expected in ((signed, True), (unsigned, False)):
        for what, token in found.items():
            refused = TokenRefused(problem(token))
            assert (refused.problem, refused.is_signed) == (what, expected)


# ---------------------------------------------------------------- minting


@pytest.mark.parametrize("algorithm", ["HS256", *PAIRS])
def test_what_is_minted_is_accepted(algorithm: Any) -> None:
    secret = SECRET if algorithm == "HS256" else pair(algorithm).private
    mints = TokenKeyOptions(kid="m", algorithm=algorithm, secret=secret, mints=True)
    options = TokenOptions(audience=("chat",), issuer=("chatd",), max_lifetime_s=3600)
    keys = configured_keys((public("RS256", "other"), mints))
    token = mint("Alice", 60, keys, options)
    found = Verifier(options).verify(token, KeyRing(keys))
    assert found.name == "Alice"
    assert 50 < found.expires_at - time.time() <= 60
    assert mint("Alice", 60, keys, options) != token
    for ttl_s in (0, -1, 3601, float("nan"), float("inf")):
        with pytest.raises(Refused) as refused:
            mint("Alice", ttl_s, keys, options)
        assert refused.value.code == ErrorCode.BAD_FIELD


def test_only_a_key_that_may_sign_does() -> None:
    for keys in ((), (HS,), (public("EdDSA"),)):
        with pytest.raises(Refused, match="mints") as refused:
            mint("Alice", 60, configured_keys(keys), TokenOptions())
        assert refused.value.code == ErrorCode.NOT_ALLOWED


# ---------------------------------------------------------------- key sets


def test_a_key_set_has_keys_of_each_kind() -> None:
    ring = KeyRing(keys_of_set(key_set(*(pair(algorithm) for algorithm in PAIRS))))
    verifier = Verifier(TokenOptions())
    for at, algorithm in enumerate(PAIRS):
        assert verifier.verify(pair(algorithm).sign(claims(), f"key{at}"), ring).name == "alice"
    assert [key.algorithm for key in keys_of_set(key_set(*map(pair, PAIRS)), "ES256")] == ["ES256"]
