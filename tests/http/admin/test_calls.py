"""Keys, invite codes, bans, accounts, the log and the configuration on the operator's page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chatd.errors import ErrorCode
from chatd.http.admin.calls import ROUTES
from chatd.http.admin.requests import FRESH, READ, WRITE
from tests.harness.daemon import TOP
from tests.harness.deadline import wait_until
from tests.http.admin.operator import AdminHouse, Operator, fresh

pytestmark = pytest.mark.xdist_group("http admin")
EXAMPLES: dict[str, dict[str, object]] = {
    "keys": {"name": "shop", "scopes": ["users:read"]},
    "keys/rotate": {"name": "shop"},
    "keys/revoke": {"name": "shop"},
    "invites": {},
    "invites/revoke": {"id": 1},
    "bans": {"network": "192.0.2.0/24"},
    "bans/remove": {"network": "192.0.2.0/24"},
    "looks": {"cmd": "status"},
    "orders": {"cmd": "reload"},
    "orders/dangerous": {"cmd": "stop"},
}
"""A good body of every call that has one."""


# ---------------------------------------------------------------- every call


SESSION = {"login", "logout", "me"}
CALLS = [(one.method, one.path.removeprefix("/admin/"), one.scope) for one in ROUTES]


@pytest.mark.parametrize(("method", "path", "needs"), [one for one in CALLS if one[1] not in SESSION])
def test_whom_a_call_refuses(
    house: AdminHouse, admin: Operator, reader: Operator, method: str, path: str, needs: str
) -> None:
    """A stranger, a page of another origin, a form, a reader who changes something, an administrator without a code."""
    body = EXAMPLES[path] if method == "POST" else None
    assert Operator(house).ask(method, path, body).code == ErrorCode.NOT_LOGGED_IN
    assert admin._replace(origin="http://evil.example").ask(method, path, body).code == ErrorCode.NOT_ALLOWED
    if needs in (WRITE, FRESH):
        assert reader.ask(method, path, body).code == ErrorCode.SCOPE_MISSING
    if needs == FRESH:
        assert admin.ask(method, path, body).code == ErrorCode.CODE_NEEDED
    if body is not None and needs != FRESH:
        assert admin.ask(method, path, {**body, "more": 1}).code == ErrorCode.BAD_FIELD
        assert admin.ask(method, path, [1]).code == ErrorCode.BAD_FIELD
    assert {method, needs} & {"POST", READ}, "what changes something is a POST"


def test_the_page_about_the_calls_has_them_all() -> None:
    """And which of them need a code."""
    text = (TOP / "docs" / "internals" / "admin.md").read_text()
    told = re.findall(r"^\| `(GET|POST) /admin/(\S+)`( !)? \|", text, re.MULTILINE)
    assert sorted((method, path, bool(mark)) for method, path, mark in told) == sorted(
        (method, path, needs == FRESH) for method, path, needs in CALLS
    )


# ---------------------------------------------------------------- keys and invite codes


def test_a_key_from_its_making_to_its_end(house: AdminHouse, admin: Operator) -> None:
    wanted = {"name": "shop ☔", "scopes": ["users:read"], "for_s": 3600}
    made = admin.ask("POST", "keys", wanted, fresh(house, admin)).json()
    api = house.api(made["key"])
    wait_until(5, "every worker knows the key", lambda: api.get("/v1/users/alice").status == 200)
    (shown,) = [one for one in admin.get("keys").json()["keys"] if one["name"] == wanted["name"]]
    assert (shown["scopes"], shown["state"], shown["by"]) == (["users:read"], "valid", admin.get("me").json()["name"])
    assert made["key"] not in admin.get("keys").body.decode()
    rotated = admin.ask("POST", "keys/rotate", {"name": wanted["name"]}, fresh(house, admin)).json()
    assert rotated["key"] != made["key"]
    assert admin.post("keys/revoke", name=wanted["name"]).json() == {"revoked": 1}
    assert admin.post("keys/revoke", name=wanted["name"]).json() == {"revoked": 0}
    another = house.operator()  # who has codes that were not used
    said = another.ask("POST", "keys", {"name": "x", "scopes": ["nothing"]}, fresh(house, another))
    assert (said.status, said.code) == (422, ErrorCode.BAD_FIELD)


def test_an_invite_code_from_its_making_to_its_end(house: AdminHouse, admin: Operator) -> None:
    made = admin.post("invites", uses=2, for_s=3600, note="for the team").json()
    (shown,) = [one for one in admin.get("invites").json()["invites"] if one["id"] == made["id"]]
    assert (shown["uses"], shown["used"], shown["note"], shown["valid"]) == (2, 0, "for the team", True)
    assert admin.post("invites/revoke", id=made["id"]).json() == {"revoked": 1}
    (shown,) = [one for one in admin.get("invites").json()["invites"] if one["id"] == made["id"]]
    assert not shown["valid"]
    assert not house.daemon.logged(made["code"])


# ---------------------------------------------------------------- bans and penalties


def test_a_ban_is_in_force_at_once_and_is_taken_back(house: AdminHouse, admin: Operator) -> None:
    source = "127.7.2.9"
    said = admin.post("bans", network=source)
    assert (said.status, said.code) == (403, ErrorCode.NOT_ALLOWED), "this host itself"
    assert "this host" in said.json()["detail"]
    assert (
        admin.post("bans", network=source, for_s=60, reason="guesses", force=True).json()["network"] == f"{source}/32"
    )
    with pytest.raises((ConnectionError, EOFError)):
        Operator(house, source=source).get("me")
    (shown,) = admin.get("bans").json()["bans"]
    assert (shown["reason"], shown["by"]) == ("guesses", admin.get("me").json()["name"])
    assert admin.post("bans/remove", network=source).json()["removed"]
    assert not admin.post("bans/remove", network=source).json()["removed"]
    assert Operator(house, source=source).get("live").status == 401
    assert admin.post("bans", network="nowhere").code == ErrorCode.BAD_FIELD


def test_penalties_are_shown_and_cleared(house: AdminHouse, admin: Operator) -> None:
    source = "127.7.2.8"
    for _ in range(6):
        Operator(house, source=source).log_in("alice", "123456")
    shown = json.dumps(admin.post("looks", cmd="penalties").json())
    assert source in shown
    assert admin.post("orders", cmd="clear-penalties", arguments={"everything": True}).json()["reply"]["ok"]
    assert source not in json.dumps(admin.post("looks", cmd="penalties").json())


# ---------------------------------------------------------------- accounts, log, configuration


def test_accounts_are_found_page_by_page(house: AdminHouse, admin: Operator) -> None:
    names = sorted(house.account("page") for _ in range(3))
    first = admin.get("users?like=PAGE&limit=2").json()
    assert [one["name"] for one in first["users"]] == names[:2]
    second = admin.get(f"users?like=page&limit=2&after={first['next']}").json()
    assert ([one["name"] for one in second["users"]], second["next"]) == (names[2:], "")


def test_the_end_of_the_log_and_what_comes_after_it(house: AdminHouse, admin: Operator) -> None:
    name = house.account("logged")
    tail = admin.get(f"log?user={name}").json()
    assert [one["security"] for one in tail["lines"]] == ["account_created"]
    assert admin.ask("PUT", f"v1/users/{name}/lock", {}).status == 200
    more = admin.get(f"log?user={name}&after={tail['after']}").json()
    assert [one["security"] for one in more["lines"]] == ["account_locked"]
    assert admin.get(f"log?after={more['after']}&text=nothing+like+this").json()["lines"] == []
    assert all(one["level"] in ("WARNING", "ERROR") for one in admin.get("log?level=WARNING").json()["lines"])
    assert len(admin.get("log?lines=1").json()["lines"]) == 1
    for query in ("file=../chatd.toml", "file=other.log", "level=LOUD", "lines=0", "lines=501", "more=1"):
        assert admin.get(f"log?{query}").code == ErrorCode.BAD_FIELD, query


def test_the_log_after_a_rotation_begins_with_the_new_file(house: AdminHouse, admin: Operator) -> None:
    before = admin.get("log").json()["after"]
    log = Path(house.daemon.root, "log", "normal.log")
    log.rename(log.with_suffix(".old"))
    assert admin.post("orders", cmd="reopen").json()["reply"]["ok"]
    name = house.account("rotated")
    assert admin.ask("PUT", f"v1/users/{name}/lock", {}).status == 200
    assert [one["name"] for one in admin.get(f"log?after={before}&user={name}").json()["lines"]][:1] == [name]


def test_a_long_log_is_passed_over_and_that_is_said(house: AdminHouse, admin: Operator) -> None:
    before = admin.get("log").json()["after"]
    with Path(house.daemon.root, "log", "normal.log").open("a") as log:
        for number in range(4000):
            log.write(json.dumps({"level": "NORMAL", "event": f"filler {number}"}) + "\n")
    tail = admin.get(f"log?after={before}&text=filler&lines=500").json()
    assert (tail["skipped"], len(tail["lines"]), tail["lines"][-1]["event"]) == (True, 500, "filler 3999")


def test_the_configuration_and_what_will_change_it(house: AdminHouse, admin: Operator) -> None:
    house.daemon.config["limits"] = {**house.daemon.config.get("limits", {}), "in_flight": 33}
    house.daemon.write_config()
    found = admin.get("config").json()
    options = {one["key"]: one for one in found["options"]}
    assert options["server.workers"]["value"] == 2
    assert options["listen[0].protocol"]["value"]
    assert options["limits.in_flight"]["text"]
    (pending,) = found["pending"]
    assert (pending["key"], pending["file"]) == ("limits.in_flight", 33)
    assert admin.post("orders", cmd="reload").json()["reply"]["ok"]
    assert admin.get("config").json()["pending"] == [] or pending["waits_for"] != "reload"


def test_a_file_with_a_mistake_is_told_beside_the_configuration_in_force(house: AdminHouse, admin: Operator) -> None:
    file = house.daemon.config_file
    good = file.read_text()
    house.daemon.expect_error("configuration rejected")
    file.write_text(f"{good}\n[no_such_section]\n")
    try:
        found = admin.get("config").json()
        said = admin.post("orders", cmd="reload")
    finally:
        file.write_text(good)
    assert "no_such_section" in found["problem"]
    assert (found["pending"], len(found["options"]) > 100) == ([], True)
    assert (said.status, said.code) == (403, ErrorCode.NOT_ALLOWED)
