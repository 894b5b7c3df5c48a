"""Sending by the API: in whose name, to whom, stored before the answer, once for each Idempotency-Key."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any

import pytest

from chatd.errors import ErrorCode
from tests.harness.api import Answer, path_of
from tests.harness.deadline import wait_until
from tests.harness.phone import Phone
from tests.http.conftest import House
from tests.http.raw import message, post


def send(house: House, repeat: str = "", **body: Any) -> Answer:
    """Over a connection of its own, which may be with either worker."""
    api = house.api(house.admin)
    try:
        return api.post("/v1/messages", body, repeat=repeat)
    finally:
        api.close()


def texts(house: House, of: str, with_: str) -> list[str]:
    api = house.api(house.admin)
    try:
        found = api.get(path_of("users", of, "conversations", with_, "messages"), limit=100)
        return [one["text"] for one in found.body["messages"]]
    finally:
        api.close()


def user(house: House, name: str) -> str:
    api = house.api(house.admin)
    assert api.put(path_of("users", name), {"password": f"secret of {name}"}).status == 200
    api.close()
    return name


def test_it_reaches_clients_on_every_worker_from_whom_it_says(pair: House) -> None:
    name = user(pair, "reached")
    for _ in range(4):
        phone = Phone(pair.daemon.ports["mobileimsdk"], name, f"secret of {name}")
        text = f"for {id(phone)}"
        assert send(pair, to=name, text=text).status == 201
        got = phone.until(lambda one, text=text: one.get("dataContent") == text)
        assert (got["from"], got["to"], got["QoS"]) == ("0", name, True)
        answer = send(pair, to=name, text=f"{text} by alice", typeu=7, **{"from": "alice"})
        got = phone.until(lambda one, text=text: one.get("dataContent") == f"{text} by alice")
        assert (got["from"], got["typeu"], got["fp"]) == ("alice", 7, answer.body["id"])
        phone.close()


def test_a_user_who_is_away_finds_it(pair: House) -> None:
    name = user(pair, "away")
    answer = send(pair, to=name, text="news")
    assert answer.body["seq"] == 1
    phone = Phone(pair.daemon.ports["mobileimsdk"], name, f"secret of {name}")
    assert phone.until(lambda one: one.get("dataContent") == "news")["fp"] == answer.body["id"]
    phone.close()


def test_a_user_is_bound_by_consent_and_the_system_is_not(pair: House) -> None:
    name = user(pair, "blocking")
    api = pair.api(pair.admin)
    assert api.put(path_of("users", name, "blocks", "alice")).status in (200, 204)
    api.close()
    refused = send(pair, to=name, text="hi", **{"from": "alice"})
    assert (refused.status, refused.code) == (403, ErrorCode.NOT_ACCEPTED)
    assert send(pair, to=name, text="hi").status == 201


def test_nobody_acts_for_a_locked_account(pair: House) -> None:
    name = user(pair, "locked")
    assert send(pair, to="bob", text="hi", **{"from": name}).status == 201
    assert pair.daemon.ctl_said("user", "lock", name)[0] == 0

    def refusals() -> set[int]:
        return {send(pair, to="bob", text="hi", **{"from": name}).status for _ in range(6)}

    wait_until(5, "every worker knows it", lambda: refusals() == {403})
    assert send(pair, to="bob", text="hi", **{"from": name}).code == ErrorCode.ACCOUNT_LOCKED


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"text": "hi"}, 422, "$.to"),
        ({"text": "hi", "to": "bob", "group": 1}, 422, "$.to"),
        ({"text": 7, "to": "bob"}, 422, "$.text"),
        ({"to": "bob"}, 422, "$"),
        ({"text": "", "to": "bob"}, 422, "$.text"),
        ({"text": "hi", "to": "bob", "from": "nobody"}, 404, "$.from"),
        ({"text": "hi", "to": "bob", "from": 0}, 422, "$.from"),
        ({"text": "hi", "to": "nobody"}, 404, ""),
        ({"text": "hi", "to": "2"}, 404, "$.to"),
        ({"text": "hi", "to": "0"}, 404, "$.to"),
        ({"text": "hi", "group": 4711}, 404, ""),
        ({"text": "hi", "to": "bob", "typo": 1}, 422, "$"),
        ({"text": "é" * 4000, "to": "bob"}, 422, "$.text"),
        ({"text": "hi", "to": "bob", "mentions": ["x" * 65]}, 422, "$.mentions[0]"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(pair: House, body: Any, status: int, field: str) -> None:
    answer = send(pair, **body)
    assert (answer.status, answer.body.get("field", "")) == (status, field), answer
    assert answer.body["status"] == status
    assert answer.body["type"].startswith("urn:chatd:error:")


# ---------------------------------------------------------------- once


def test_a_repetition_has_the_first_answer_and_stores_nothing(pair: House) -> None:
    name = user(pair, "once")
    first = send(pair, "key 1", to=name, text="only once")
    answers = [send(pair, "key 1", to=name, text="only once") for _ in range(10)]
    assert {(one.status, json.dumps(one.body)) for one in answers} == {(201, json.dumps(first.body))}
    assert first.body["id"] == "key 1"
    other = send(pair, "key 1", to=name, text="something else")
    assert (other.status, other.code) == (422, ErrorCode.FP_REUSED)
    assert send(pair, "key 1", to=name, text="only once", **{"from": "alice"}).status == 201, "another sender's key"
    assert len(texts(pair, "alice", name)) == 1
    assert send(pair, to=name, text="only once").body["seq"] == 2, "without a key it is another message"


@pytest.mark.parametrize("bad", ["x" * 65, "é", "a\tb"])
def test_a_key_that_cannot_be_kept_is_refused(pair: House, bad: str) -> None:
    with pair.connect() as raw:
        said = raw.ask(post(pair.key, message("bob", "hi"), b"Idempotency-Key: " + bad.encode()))
    assert said.status == 422


def test_the_same_request_at_the_same_time_is_stored_once(pair: House) -> None:
    name, answers = user(pair, "raced"), []

    def ask() -> None:
        answers.append(send(pair, "race", to=name, text="one").body["seq"])

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert answers == [1] * 12


def test_what_was_answered_outlives_every_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    """kill -9 of the whole server as soon as the answers come; then each request is repeated: the same answers, and
    each message is there once."""
    house = House(tmp_path_factory.mktemp("killed"), 2)
    try:
        first = [send(house, f"key {n}", to="bob", text=f"text {n}", **{"from": "alice"}).body for n in range(20)]
        house.daemon.kill_all()
        house.daemon.start()
        again = [send(house, f"key {n}", to="bob", text=f"text {n}", **{"from": "alice"}).body for n in range(20)]
        assert again == first
        assert texts(house, "bob", "alice") == [f"text {n}" for n in range(20)]
    finally:
        assert house.daemon.discard() == []


def test_a_worker_that_dies_loses_nothing_that_was_answered(pair: House) -> None:
    """One worker is killed while requests come; an application repeats what was not answered, with the same key."""
    name, answered = user(pair, "killed"), 0
    victim = pair.daemon.workers()[0]
    pair.daemon.expect_error("worker died")
    pair.daemon.expect_error(str(victim))
    for number in range(40):
        if number == 20:
            os.kill(victim, signal.SIGKILL)
        for _ in range(50):
            try:
                answer = send(pair, f"k{number}", to=name, text=f"{number}", **{"from": "alice"})
            except OSError:
                time.sleep(0.1)
                continue
            answered += answer.status == 201
            break
    assert answered == 40
    assert texts(pair, name, "alice") == [str(number) for number in range(40)]
    wait_until(20, "two workers again", pair.daemon.all_ready)
