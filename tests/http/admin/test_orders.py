"""What administrators have the server do, by the API and by orders to the master; what each role may."""

from __future__ import annotations

import pytest

from chatd.errors import ErrorCode
from chatd.http.admin import orders
from chatd.http.admin.api import needs
from chatd.http.admin.calls import ROUTES
from chatd.http.admin.requests import FRESH, READ
from chatd.http.table import ROUTES as API
from tests.harness.deadline import wait_until
from tests.harness.switches import stops
from tests.http.admin.operator import PASSWORD, AdminHouse, Operator, fresh

pytestmark = pytest.mark.xdist_group("http admin")


# ---------------------------------------------------------------- the good path


def test_a_sample_of_live_data(house: AdminHouse, reader: Operator) -> None:
    sample = reader.get("live").json()
    status = sample["status"]
    assert (status["state"], len(status["workers"])) == ("running", 2)
    delivery = status["durations"]["delivery_delay"]
    assert len(delivery["counts"]) == len(delivery["bounds_us"]) + 1
    assert delivery["counts"] == sorted(delivery["counts"])


def test_users_are_found_shown_locked_and_made_by_the_routes_of_the_api(house: AdminHouse, admin: Operator) -> None:
    name = house.account("shown")
    assert name in [one["name"] for one in admin.get("v1/users?limit=100").json()["users"]]
    assert admin.get(f"v1/users/{name}").json()["name"] == name
    assert admin.ask("PUT", f"v1/users/{name}/lock", {"reason": "spam"}).status == 200
    assert admin.ask("DELETE", f"v1/users/{name}/lock").status == 200
    assert admin.ask("PUT", f"v1/users/{name}new", {"password": PASSWORD}, fresh(house, admin)).json()["created"]
    trail = [one for one in house.daemon.records() if str(one.get("name", "")).startswith(name)]
    by = {one["security"]: one.get("administrator") for one in trail if "administrator" in one}
    me = admin.get("me").json()["name"]
    assert by == {"account_locked": me, "account_unlocked": me, "account_created": me}
    assert not any("api_key" in one for one in trail if one.get("administrator"))


def test_an_order_is_carried_out_and_recorded_with_the_account(house: AdminHouse, admin: Operator) -> None:
    reply = admin.post("orders", cmd="log-level", arguments={"level": "DEBUG"}).json()["reply"]
    assert reply["master"] == "DEBUG"
    assert admin.post("looks", cmd="log-levels").json()["reply"]["master"] == "DEBUG"
    assert admin.post("orders", cmd="reload").json()["reply"]["ok"]
    me = admin.get("me").json()["name"]
    found = [one for one in house.daemon.records() if one.get("administrator") == me and one.get("security") == "order"]
    assert ("log-level", "ok", {"level": "DEBUG", "workers": None}) in [
        (one["order"], one["result"], one["arguments"]) for one in found
    ]


def test_workers_are_replaced_while_the_page_waits_for_nothing(house: AdminHouse) -> None:
    """The worker that has the page's connection leaves, too."""
    operator = house.operator()
    before = {one["pid"] for one in operator.get("live").json()["status"]["workers"]}
    code = fresh(house, operator)
    said = operator.ask("POST", "orders/dangerous", {"cmd": "restart-workers"}, code)
    assert said.status == 200, said

    def replaced() -> bool:
        workers = operator.get("live").json()["status"]["workers"]
        return len(workers) == 2 and before.isdisjoint(one["pid"] for one in workers)

    wait_until(30, "all workers replaced", replaced, 0.2)


# ---------------------------------------------------------------- refused


def test_every_route_of_the_page_wants_a_session() -> None:
    """And every route of the API that it has."""
    assert {route.path for route in ROUTES if not route.scope} == {"/admin/login", "/admin/logout", "/admin/me"}
    assert {needs(route) for route in API if route.scope == "admin"} == {FRESH}
    assert all(needs(route) != READ for route in API if route.method != "GET")


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("orders", {"cmd": "stop"}),
        ("orders", {"cmd": "record"}),
        ("orders", {"cmd": "status"}),
        ("orders", {"cmd": "nothing"}),
        ("orders", {"cmd": "reload", "arguments": {"administrator": "somebody else"}}),
        ("orders", {"cmd": "reload", "arguments": {"cmd": "stop"}}),
        ("looks", {"cmd": "reload"}),
        ("looks", {}),
    ],
)
def test_what_is_no_order_here(admin: Operator, path: str, given: dict[str, object]) -> None:
    said = admin.post(path, **given)
    assert (said.status, said.code) == (422, ErrorCode.BAD_FIELD), said


def test_the_masters_words_are_told(admin: Operator) -> None:
    said = admin.post("orders", cmd="kick", arguments={"user": "nobody at all"})
    assert (said.status, said.code) == (403, ErrorCode.NOT_ALLOWED)
    assert "nobody at all" in said.json()["detail"]
    assert admin.post("orders", cmd="log-level", arguments={"level": "loud"}).status == 403


def test_what_people_write_and_their_tokens_are_not_on_the_page(admin: Operator) -> None:
    for method, path in (
        ("GET", "v1/users/alice/conversations"),
        ("POST", "v1/messages"),
        ("POST", "v1/tokens"),
        ("GET", "v1/groups/1/messages"),
    ):
        assert admin.ask(method, path, {} if method == "POST" else None).code == ErrorCode.UNKNOWN_ROUTE, path


def test_what_is_dangerous_needs_a_fresh_code(house: AdminHouse) -> None:
    operator, name = house.operator(), house.account()
    path = f"v1/users/{name}/password"
    said = operator.ask("PUT", path, {"password": "second-secret-2"})
    assert (said.status, said.code) == (403, ErrorCode.CODE_NEEDED)
    codes = house.codes[operator.get("me").json()["name"]]
    said = operator.ask("PUT", path, {"password": "second-secret-2"}, f"Chatd-Code: {codes.wrong()}")
    assert (said.status, said.code) == (403, ErrorCode.WRONG_CODE)
    code = codes.next()
    assert operator.ask("PUT", path, {"password": "second-secret-2"}, f"Chatd-Code: {code}").status == 200
    said = operator.ask("DELETE", f"v1/users/{name}", None, f"Chatd-Code: {code}")
    assert (said.status, said.code) == (403, ErrorCode.WRONG_CODE), "it was used"
    failed = [one for one in house.daemon.records() if one.get("security") == "admin_code_failed"]
    assert [one["reason"] for one in failed[-2:]] == ["wrong_code", "used_code"]


# ---------------------------------------------------------------- attacks, with the guard and without


def attack_as_a_reader(house: AdminHouse, reader: Operator) -> None:
    for said in (
        reader.post("orders", cmd="reopen"),
        reader.ask("PUT", "v1/users/alice/lock", {}),
        reader.ask("DELETE", "v1/users/alice/lock"),
    ):
        assert (said.status, said.code) == (403, ErrorCode.SCOPE_MISSING), said


def test_a_reader_changes_nothing(house: AdminHouse, reader: Operator) -> None:
    stops("readers_may_write", lambda: attack_as_a_reader(house, reader), house.daemon)


def test_a_reader_with_a_code_is_still_a_reader(house: AdminHouse, reader: Operator) -> None:
    said = reader.ask("POST", "orders/dangerous", {"cmd": "stop"}, fresh(house, reader))
    assert (said.status, said.code) == (403, ErrorCode.SCOPE_MISSING)


def test_all_orders_are_orders_of_the_master() -> None:
    from chatd.master.requests import COMMANDS, REQUESTS

    named = {*orders.LOOKS, *orders.ORDERS, *orders.DANGEROUS}
    assert named <= set(COMMANDS)
    changing = {str(kind.__struct_config__.tag) for kind in REQUESTS if kind.is_order}
    assert changing & set(orders.LOOKS) == {"config", "config-diff"}, "what only looks is recorded as an order, too"
