"""/v1/tokens: what is minted lets in, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from chatd.errors import ErrorCode
from tests.harness.api import path_of
from tests.http.resources.conftest import Server, make_server


@pytest.fixture(scope="module")
def minting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("minting")
    secret = root / "secret"
    secret.touch(mode=0o600)
    secret.write_text("0123456789abcdef" * 4)
    key = {"kid": "one", "algorithm": "HS256", "secret": f"file:{secret}", "mints": True}
    with ExitStack() as stack:
        accounts = {"login": ["token", "password"], "number_names": True}
        yield make_server(root / "chatd", stack, {"token_key": [key]}, accounts=accounts)


def test_a_token_lets_its_user_in_on_every_worker(minting: Server) -> None:
    for name in ("Token User", "中文", "2", minting.user()):
        made = minting.another().post("/v1/tokens", {"name": name, "ttl_s": 60})
        assert (made.status, made.body["name"], made.body["expires_in_s"]) == (201, name, 60)
        for _ in range(3):
            assert minting.phone(name, made.body["token"]).code == 0
        assert minting.phone("somebody else", made.body["token"]).code == ErrorCode.BAD_CREDENTIALS
        assert minting.api.get(path_of("users", name)).body["name"] == name
    assert {one["api_key"] for one in minting.trail("token_minted")} == {"all"}


def test_a_token_for_2_does_not_let_account_2_in(minting: Server) -> None:
    minting.user()
    accounts = {str(one["id"]): one["name"] for one in minting.api.get("/v1/users", limit=200).body["users"]}
    number = next(number for number in sorted(accounts) if number not in accounts.values())
    token = minting.api.post("/v1/tokens", {"name": number}).body["token"]
    assert minting.phone(accounts[number], token).code == ErrorCode.BAD_CREDENTIALS
    assert minting.phone(number, token).code == 0
    made = minting.api.get(path_of("users", number)).body
    assert (made["name"], str(made["id"]) != number) == (number, True)


def test_no_token_is_made_for_a_locked_account_or_a_name_that_cannot_be(minting: Server) -> None:
    name = minting.user()
    minting.api.put(path_of("users", name, "lock"), {})
    for wanted, status, code in [
        ({"name": name.upper()}, 403, ErrorCode.ACCOUNT_LOCKED),
        ({"name": "0"}, 422, ErrorCode.NAME_NOT_ALLOWED),
        ({"name": "admin"}, 422, ErrorCode.NAME_NOT_ALLOWED),
        ({"name": "x", "ttl_s": 10**6}, 422, ErrorCode.BAD_FIELD),
        ({"name": "x", "ttl_s": 0}, 422, ErrorCode.BAD_FIELD),
        ({"ttl_s": 60}, 422, ErrorCode.BAD_FIELD),
    ]:
        refused = minting.api.post("/v1/tokens", wanted)
        assert (refused.status, refused.code) == (status, code), wanted


def test_a_server_without_a_key_makes_no_tokens(on_sqlite: Server) -> None:
    refused = on_sqlite.api.post("/v1/tokens", {"name": "x"})
    assert (refused.status, refused.code) == (403, ErrorCode.NOT_ALLOWED)
    assert "token_key" in refused.body["detail"]
