"""/v1/users: accounts, sessions, presence, friends and blocks."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from chatd.errors import ErrorCode
from tests.harness.api import path_of
from tests.harness.deadline import wait_until
from tests.http.resources.conftest import SECRET, Server

OTHER = "second-secret-2"
NAMES = ("with space", "a/b", "中文名", "100%", "x?y#z", "Ünïcode")
"""All of them mean something else in a path, unless they are percent-encoded."""


# ---------------------------------------------------------------- making and changing


@pytest.mark.parametrize("like", NAMES)
def test_a_name_is_percent_encoded_in_a_path(server: Server, like: str) -> None:
    name = server.user(like)
    found = server.another().get(path_of("users", name))
    assert (found.status, found.body["name"]) == (200, name)
    assert server.api.get(path_of("users", name, "presence")).body["name"] == name
    assert server.phone(name).code == 0


def test_a_path_that_is_no_utf_8_is_refused(server: Server) -> None:
    found = server.api.get("/v1/users/%ff%fe")
    assert (found.status, found.code) == (422, ErrorCode.BAD_FIELD)


def test_the_same_user_put_again_is_not_changed(server: Server) -> None:
    name, wanted = "Put Again", {"password": SECRET, "profile": {"nickname": "P"}}
    first = server.api.put(path_of("users", name), wanted).body
    assert first["created"]
    phone = server.phone(name)
    again = server.another().put(path_of("users", name.upper()), wanted).body
    assert again == {**first, "created": False}
    assert phone.ask("profile.get")["result"]["profile"] == {"nickname": "P"}
    details = server.api.get(path_of("users", name)).body
    assert details["profile"] == {"nickname": "P"}
    assert details["locked_at_ms"] is None


def test_another_password_ends_the_sessions_on_both_workers(server: Server) -> None:
    for name, phone in server.on_both_workers().values():
        ended = server.api.put(path_of("users", name), {"password": OTHER}).body["sessions"]
        assert ended == {"sessions_ended": 1, "unanswered": []}
        assert "password" in phone.kicked()
        assert server.phone(name, SECRET).code == ErrorCode.BAD_CREDENTIALS
        again = server.phone(name, OTHER)
        assert server.api.put(path_of("users", name, "password"), {"password": SECRET}).body["sessions_ended"] == 1
        again.kicked()
    assert {one["api_key"] for one in server.trail("password_changed")} == {"all"}


@pytest.mark.parametrize(
    ("name", "wanted", "code"),
    [
        ("0", {}, ErrorCode.NAME_NOT_ALLOWED),
        ("#7", {}, ErrorCode.NAME_NOT_ALLOWED),
        (" x", {}, ErrorCode.NAME_NOT_ALLOWED),
        ("x" * 65, {}, ErrorCode.BAD_FIELD),
        ("admin", {}, ErrorCode.NAME_NOT_ALLOWED),
        ("fine", {"password": "x" * 1025}, ErrorCode.BAD_FIELD),
        ("fine", {"password": ""}, ErrorCode.PASSWORD_NOT_ALLOWED),
        ("fine", {"pasword": SECRET}, ErrorCode.BAD_FIELD),
        ("fine", {"profile": {"nickname": "\u0007"}}, ErrorCode.BAD_FIELD),
        ("fine", {"profile": {"nickname": 5}}, ErrorCode.BAD_FIELD),
    ],
)
def test_core_refuses(server: Server, name: str, wanted: dict[str, object], code: ErrorCode) -> None:
    refused = server.api.put(path_of("users", name), wanted)
    assert (refused.status, refused.code) == (422, code)
    assert server.api.get(path_of("users", "fine")).status == 404


def test_a_name_that_looks_like_another_is_taken(server: Server) -> None:
    server.api.put(path_of("users", "scope-one"), {})
    refused = server.api.put(path_of("users", "sc0pe-one"), {})
    assert (refused.status, refused.code) == (409, ErrorCode.NAME_TAKEN)
    assert server.api.put(path_of("users", "admin"), {"reserved": True}).status == 200


def test_the_user_called_2_is_not_account_2(server: Server) -> None:
    """On every path with a name, and in every body."""
    api = server.another()
    number, other, victim = "", server.user("digits"), None
    for one in api.get("/v1/users", limit=200).body["users"]:
        if one["name"] == other:
            number, victim = str(one["id"]), one["name"]
    assert victim
    group = api.post("/v1/groups", {"name": "g", "owner": other}).body["number"]
    paths = [
        ("GET", ()), ("PATCH", ()), ("DELETE", ()), ("PUT", ("password",)), ("PUT", ("lock",)), ("DELETE", ("lock",)),
        ("GET", ("sessions",)), ("DELETE", ("sessions",)), ("GET", ("presence",)), ("GET", ("groups",)),
        ("GET", ("friends",)), ("PUT", ("friends", other)), ("DELETE", ("friends", other)), ("GET", ("blocks",)),
        ("PUT", ("blocks", other)), ("DELETE", ("blocks", other)), ("GET", ("conversations",)),
        ("GET", ("conversations", other, "messages")), ("PUT", ("conversations", other, "read")),
    ]  # fmt: skip
    bodies = {("password",): {"password": SECRET}, ("conversations", other, "read"): {"seq": 1}}
    for method, rest in paths:
        body = None if method in ("GET", "DELETE") else bodies.get(rest, {})
        refused = api.call(method, path_of("users", number, *rest), body)
        assert (refused.status, refused.code) == (404, ErrorCode.UNKNOWN_RECIPIENT), (method, rest)
    for method, path in [
        ("PUT", path_of("users", other, "friends", number)),
        ("PUT", path_of("users", other, "blocks", number)),
        ("PUT", path_of("groups", group, "members", number)),
        ("DELETE", path_of("groups", group, "members", number)),
        ("PUT", path_of("groups", group, "bans", number)),
        ("PUT", path_of("groups", group, "mutes", number)),
        ("GET", path_of("users", other, "conversations", number, "messages")),
    ]:
        assert api.call(method, path, {} if method == "PUT" else None).code == ErrorCode.UNKNOWN_RECIPIENT, path
    for body in ({"owner": number}, {"owner": other, "members": [number]}):
        assert api.post("/v1/groups", {"name": "x", **body}).code == ErrorCode.UNKNOWN_RECIPIENT
    assert api.post("/v1/messages", {"to": number, "text": "hi"}).code == ErrorCode.UNKNOWN_RECIPIENT
    assert api.post("/v1/messages", {"to": other, "from": number, "text": "hi"}).code == ErrorCode.UNKNOWN_RECIPIENT

    made = api.put(path_of("users", number), {"password": SECRET}).body
    assert made["created"]
    assert str(made["id"]) != number
    assert api.put(path_of("users", number, "lock"), {}).status == 200
    assert api.get(path_of("users", number)).body["locked_at_ms"]
    assert not api.get(path_of("users", other)).body["locked_at_ms"]
    assert server.phone(other).code == 0
    api.delete(path_of("users", number, "lock"))
    api.post("/v1/messages", {"to": number, "text": "for the number"})
    assert server.phone(number).message("for the number")


def test_all_users_are_listed_page_by_page(server: Server) -> None:
    made = [server.user("page") for _ in range(5)]
    found: list[str] = []
    query: dict[str, object] = {"limit": 3}
    while True:
        page = server.another().get("/v1/users", **query).body
        assert len(page["users"]) == 3 or page["next"] is None
        found += [one["name"] for one in page["users"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert [name for name in found if name in made] == made
    assert len(found) == len(set(found))
    assert server.api.get("/v1/users", after="9" * 18).body == {"users": [], "next": None}
    for wrong in ({"limit": 0}, {"limit": 201}, {"after": "x"}, {"limit": "many"}):
        assert server.api.get("/v1/users", **wrong).code == ErrorCode.BAD_FIELD


def test_a_profile_is_changed_field_by_field(server: Server) -> None:
    name = server.user()
    path = path_of("users", name)
    assert server.api.patch(path, {"nickname": "N", "status": "S"}).body == {"nickname": "N", "status": "S"}
    for _ in range(2):
        assert server.another().patch(path, {"nickname": ""}).body == {"status": "S"}
    refused = server.api.patch(path, {"about": 5})
    assert (refused.code, refused.body["field"]) == (ErrorCode.BAD_FIELD, "$.about")


# ---------------------------------------------------------------- locked, erased


def test_a_locked_account_is_out_on_both_workers(server: Server) -> None:
    for name, phone in server.on_both_workers().values():
        locked = server.api.put(path_of("users", name, "lock"), {"reason": "why not", "tell": True})
        assert locked.body == {"sessions_ended": 1, "unanswered": []}
        assert phone.kicked() == "this account is locked: why not"
        assert server.phone(name).code == ErrorCode.ACCOUNT_LOCKED
        details = server.another().get(path_of("users", name)).body
        assert details["lock_reason"] == "why not"
        assert details["locked_at_ms"]
        again = [server.api.delete(path_of("users", name, "lock")).body["was_locked"] for _ in range(2)]
        assert again == [True, False]
        assert server.phone(name).code == 0
    (*_, record) = server.trail("account_locked")
    assert (record["api_key"], record["detail"]) == ("all", "why not")


def test_an_erased_user_is_gone(server: Server) -> None:
    name = server.user("erased")
    phone = server.phone(name)
    assert server.api.delete(path_of("users", name)).body["sessions_ended"] == 1
    phone.kicked()
    assert server.another().delete(path_of("users", name)).code == ErrorCode.UNKNOWN_RECIPIENT
    (*_, record) = server.trail("account_erased")
    assert (record["name"], record["api_key"]) == ("", "all")


@pytest.mark.slow
def test_the_texts_of_an_erased_user_are_gone_soon(server: Server) -> None:
    name, other = server.user("erased"), server.user()
    sent = server.api.post("/v1/messages", {"from": name, "to": other, "text": "my secret"}).body
    server.api.delete(path_of("users", name))

    def is_blank() -> bool:
        found = server.api.get(path_of("conversations", sent["conversation"], "messages", sent["seq"])).body
        return (found["text"], found["state"]) == ("", "erased")

    wait_until(40, "the text is gone", is_blank, 0.2)


def test_a_deleted_user_s_messages_stay(server: Server) -> None:
    name, other = server.user("kept"), server.user()
    sent = server.api.post("/v1/messages", {"from": name, "to": other, "text": "stays"}).body
    assert server.api.delete(path_of("users", name), messages="keep").status == 200
    found = server.api.get(path_of("conversations", sent["conversation"], "messages", sent["seq"])).body
    assert (found["text"], found["from"]["name"]) == ("stays", name)
    assert server.api.delete(path_of("users", other), messages="some").code == ErrorCode.BAD_FIELD


def test_everything_of_a_person_is_in_the_archive(server: Server) -> None:
    name, other = server.user("中文 export"), server.user()
    for text in ("to them", "to them again"):
        server.api.post("/v1/messages", {"from": name, "to": other, "text": text})
    found = server.another().get(path_of("users", name, "export"))
    assert (found.status, found.headers["content-type"]) == (200, "application/zip")
    archive = zipfile.ZipFile(io.BytesIO(found.body))
    account = json.loads(archive.read("account.json"))
    assert account["name"] == name
    assert found.headers["content-disposition"] == f'attachment; filename="user-{account["id"]}.zip"'
    (conversation,) = [one for one in archive.namelist() if one.startswith("conversations/")]
    lines = archive.read(conversation).splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["to them", "to them again"]
    (*_, record) = server.trail("account_exported")
    assert (record["name"], record["api_key"]) == (name, "all")
    assert server.api.get(path_of("users", "nobody at all", "export")).code == ErrorCode.UNKNOWN_RECIPIENT
    for key in ("users_read", "messages_read"):
        assert server.another(key).get(path_of("users", name, "export")).code == ErrorCode.SCOPE_MISSING


# ---------------------------------------------------------------- sessions, presence


def test_sessions_are_listed_and_ended_wherever_they_are(server: Server) -> None:
    for worker, (name, phone) in server.on_both_workers().items():
        found = server.another().get(path_of("users", name, "sessions")).body
        (session,) = found["sessions"]
        assert found["complete"]
        assert (session["wire"], session["worker"]) == ("mobileimsdk", worker)
        assert server.api.get(path_of("users", name, "presence")).body["online"]
        path = path_of("users", name, "sessions")
        assert server.api.delete(path, wire="chatserver").body["sessions_ended"] == 0
        assert server.api.delete(path, wire="mobileimsdk", reason="tea").body["sessions_ended"] == 1
        assert phone.kicked() == "tea"
        assert server.api.delete(path).body["sessions_ended"] == 0
        assert server.phone(name).code == 0
    assert server.api.delete(path, reason="\u202e").code == ErrorCode.BAD_FIELD
    assert server.trail("kicked")[-1]["api_key"] == "all"


def test_presence_says_when_a_user_was_last_seen(server: Server) -> None:
    name = server.user()
    path = path_of("users", name, "presence")
    assert server.api.get(path).body["last_seen_at_ms"] is None
    phone = server.phone(name)
    assert server.another().get(path).body["online"]
    phone.close()
    wait_until(10, "it is offline", lambda: not server.api.get(path).body["online"], 0.1)
    wait_until(10, "it was seen", lambda: server.api.get(path).body["last_seen_at_ms"], 0.1)


# ---------------------------------------------------------------- friends, blocks


def test_friends_are_made_without_asking_and_both_are_told(server: Server) -> None:
    one, other = server.user(), server.user()
    phones = server.phone(one), server.phone(other)
    path = path_of("users", one, "friends", other)
    assert server.api.put(path).body == {"created": True}
    assert server.another().put(path_of("users", other, "friends", one)).body == {"created": False}
    for phone, who in zip(phones, (other, one), strict=True):
        assert phone.notice("friend.accepted")["from"]["name"] == who
    (friend,) = server.api.get(path_of("users", one, "friends")).body["friends"]
    assert (friend["name"], friend["online"]) == (other, True)
    assert server.api.delete(path, repeat=f"end-{one}").status == 204
    assert server.another().delete(path, repeat=f"end-{one}").status == 204
    gone = server.api.delete(path)
    assert (gone.status, gone.code) == (404, ErrorCode.NOT_ALLOWED)
    assert server.api.get(path_of("users", other, "friends")).body["friends"] == []
    assert server.api.put(path_of("users", one, "friends", one)).code == ErrorCode.NOT_ALLOWED


def test_friends_are_listed_page_by_page_with_those_who_ask(server: Server) -> None:
    name = server.user()
    friends = [server.user("friend") for _ in range(3)]
    for friend in friends:
        server.api.put(path_of("users", name, "friends", friend))
    asking = server.user("asking")
    server.phone(asking).ask("friend.request", user=name)
    first = server.api.get(path_of("users", name, "friends"), limit=2).body
    second = server.api.get(path_of("users", name, "friends"), limit=2, after=first["next"]).body
    assert [one["name"] for one in first["friends"] + second["friends"]] == friends
    assert [[one["name"] for one in page["requests"]] for page in (first, second)] == [[asking], []]
    assert second["next"] is None


def test_a_block_ends_a_friendship_and_stops_messages(server: Server) -> None:
    one, other = server.user(), server.user()
    server.api.put(path_of("users", one, "friends", other))
    path = path_of("users", one, "blocks", other)
    assert [server.api.put(path).status for _ in range(2)] == [204, 204]
    assert [found["name"] for found in server.another().get(path_of("users", one, "blocks")).body["users"]] == [other]
    refused = server.another().post("/v1/messages", {"from": other, "to": one, "text": "hi"})
    assert (refused.status, refused.code) == (403, ErrorCode.NOT_ACCEPTED)
    assert server.api.put(path_of("users", other, "friends", one)).code == ErrorCode.NOT_ACCEPTED
    assert [server.api.delete(path).status for _ in range(2)] == [204, 404]
    assert server.another().post("/v1/messages", {"from": other, "to": one, "text": "hi"}).status == 201
    assert server.api.get(path_of("users", one, "blocks")).body == {"users": [], "next": None}
