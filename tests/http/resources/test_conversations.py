"""Conversations of users and groups: reading them, changing messages, read marks and what is unread."""

from __future__ import annotations

from typing import Any

from chatd.errors import ErrorCode
from tests.harness.api import Answer, path_of
from tests.http.resources.conftest import Server
from tests.http.resources.test_groups import is_refused, new_group


def said(server: Server, text: str, **more: Any) -> dict[str, Any]:
    """A message sent over HTTP."""
    sent = server.another().post("/v1/messages", {"text": text, **more})
    assert sent.status == 201, sent
    found: dict[str, Any] = sent.body
    return found


def texts(answer: Answer) -> list[str]:
    assert answer.status == 200, answer
    return [one["text"] for one in answer.body["messages"]]


# ---------------------------------------------------------------- reading


def test_a_conversation_is_read_forwards_and_backwards(server: Server) -> None:
    one, other = server.user(), server.user()
    for number in range(1, 8):
        sent = said(server, str(number), **{"from": (one, other)[number % 2], "to": (other, one)[number % 2]})
    paths = [
        path_of("conversations", sent["conversation"], "messages"),
        path_of("users", one, "conversations", other, "messages"),
        path_of("users", other, "conversations", one.upper(), "messages"),
    ]
    for path in paths:
        pages, after = [], 0
        while after is not None:
            page = server.another().get(path, after=after, limit=3)
            pages.append(texts(page))
            after = page.body["next"]
        assert pages == [["1", "2", "3"], ["4", "5", "6"], ["7"]]
        back = server.api.get(path, before=6, limit=3)
        assert (texts(back), back.body["next"]) == (["5", "4", "3"], 3)
        assert texts(server.api.get(path, before=3, limit=3)) == ["2", "1"]
        assert server.api.get(path, after=7).body == {"messages": [], "next": None}
        for wrong in ({"limit": 0}, {"limit": 201}, {"after": -1}, {"before": "x"}):
            assert is_refused(server.api.get(path, **wrong), 422, ErrorCode.BAD_FIELD)
    (last,) = server.api.get(paths[0], after=6).body["messages"]
    assert last == server.api.get(path_of("conversations", sent["conversation"], "messages", 7)).body
    assert (last["from"]["name"], last["to"]["name"], last["group"]) == (other, one, None)
    assert (last["id"], last["state"], last["version"]) == (sent["id"], "sent", 0)


def test_a_group_is_read_whole_by_the_system_and_from_joining_on_by_a_member(server: Server) -> None:
    owner, late = server.user(), server.user()
    number = new_group(server, owner)
    said(server, "before", group=number)
    server.api.put(path_of("groups", number, "members", late))
    said(server, "after", **{"from": owner, "group": number})
    assert texts(server.another().get(path_of("groups", number, "messages"))) == ["before", "after"]
    assert texts(server.another().get(path_of("conversations", -number, "messages"))) == ["before", "after"]
    assert texts(server.api.get(path_of("users", late, "conversations", f"#{number}", "messages"))) == ["after"]
    stranger = path_of("users", server.user(), "conversations", f"#{number}", "messages")
    assert is_refused(server.api.get(stranger), 403, ErrorCode.NOT_A_MEMBER)


def test_what_there_is_not_is_not_found(server: Server) -> None:
    name, other = server.user(), server.user()
    for path, code in [
        (path_of("conversations", 1 << 40, "messages"), ErrorCode.UNKNOWN_MESSAGE),
        (path_of("conversations", 0, "messages"), ErrorCode.UNKNOWN_MESSAGE),
        (path_of("conversations", -(1 << 40), "messages"), ErrorCode.UNKNOWN_GROUP),
        (path_of("conversations", 1 << 40, "messages", 1), ErrorCode.UNKNOWN_MESSAGE),
        (path_of("groups", 1 << 40, "messages"), ErrorCode.UNKNOWN_GROUP),
        (path_of("users", name, "conversations", "#x", "messages"), ErrorCode.UNKNOWN_GROUP),
        (path_of("users", name, "conversations", f"#{1 << 40}", "messages"), ErrorCode.UNKNOWN_GROUP),
        (path_of("users", name, "conversations", "nobody at all", "messages"), ErrorCode.UNKNOWN_RECIPIENT),
    ]:
        assert is_refused(server.api.get(path), 404, code), path
    assert texts(server.api.get(path_of("users", name, "conversations", other, "messages"))) == []


def test_a_user_s_conversations_have_what_is_unread_and_mentioned(server: Server) -> None:
    name, other = server.user(), server.user()
    number = new_group(server, other, name)
    said(server, "one", **{"from": other, "to": name})
    said(server, "two", **{"from": other, "to": name})
    said(server, "hey", **{"from": other, "group": number, "mentions": [name]})
    said(server, "system", to=name)
    path = path_of("users", name, "conversations")
    found = {one["with"]: one for one in server.another().get(path).body["conversations"]}
    assert {place: one["unread"] for place, one in found.items()} == {other: 2, f"#{number}": 1, "0": 1}
    assert found[f"#{number}"]["mentioned"] == [1]
    for place, seq in ((other, 1), (f"#{number}", 1), ("0", 1)):
        mark = path_of("users", name, "conversations", place, "read")
        assert server.api.put(mark, {"seq": seq}).body == {"seq": seq}
        assert server.another().put(mark, {"seq": 0}).body == {"seq": seq}
    found = {one["with"]: one for one in server.another().get(path).body["conversations"]}
    assert {place: one["unread"] for place, one in found.items()} == {other: 1, f"#{number}": 0, "0": 0}
    assert texts(server.api.get(path_of("users", name, "conversations", "0", "messages"))) == ["system"]

    pages, query = [], {"limit": 2}
    while True:
        page = server.api.get(path, **query).body
        pages.append([one["with"] for one in page["conversations"]])
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert [place for page in pages for place in page] == list(found)
    assert is_refused(server.api.get(path, after="x"), 422, ErrorCode.BAD_FIELD)


def test_a_read_mark_is_told_to_the_other_user_on_the_other_worker(server: Server) -> None:
    (one, first), (other, second) = server.on_both_workers().values()
    first.say(other, "hello")
    second.message("hello")
    assert server.api.put(path_of("users", other, "conversations", one, "read"), {"seq": 5}).body == {"seq": 1}
    told = first.notice("read")
    assert (told["by"]["name"], told["seq"]) == (other, 1)
    empty = path_of("users", other, "conversations", server.user(), "read")
    assert is_refused(server.api.put(empty, {"seq": 1}), 422, ErrorCode.BAD_FIELD)
    server.api.put(path_of("users", other, "lock"), {})
    refused = server.api.put(path_of("users", other, "conversations", one, "read"), {"seq": 5})
    assert is_refused(refused, 403, ErrorCode.ACCOUNT_LOCKED)


# ---------------------------------------------------------------- changing


def test_a_message_is_edited_and_recalled_in_the_name_of_its_sender(server: Server) -> None:
    one, other = server.user(), server.user()
    phone = server.phone(other)
    sent = said(server, "helo", **{"from": one, "to": other})
    phone.message("helo")
    path = path_of("conversations", sent["conversation"], "messages", sent["seq"])
    edited = server.api.patch(path, {"text": "hello", "from": one}, repeat=f"edit-{one}")
    again = server.another().patch(path, {"text": "hello", "from": one}, repeat=f"edit-{one}")
    assert edited.body == again.body == {"seq": 1, "version": 1, "state": "edited", "change": 1}
    told = phone.notice("message.changed")
    assert (told["text"], told["by"]["name"]) == ("hello", one)
    for wrong, status, code in [
        ({"text": "x"}, 403, ErrorCode.NOT_ALLOWED),
        ({"text": "x", "from": other}, 403, ErrorCode.NOT_ALLOWED),
        ({"text": "x", "from": server.user()}, 404, ErrorCode.UNKNOWN_MESSAGE),
        ({"text": "x", "from": "nobody at all"}, 404, ErrorCode.UNKNOWN_RECIPIENT),
        ({"text": ""}, 422, ErrorCode.BAD_FIELD),
        ({"text": "x" * 100_000, "from": one}, 422, ErrorCode.TOO_LONG),
    ]:
        assert is_refused(server.api.patch(path, wrong), status, code), wrong
    assert is_refused(server.api.post(f"{path}/recall", {}), 403, ErrorCode.NOT_ALLOWED)
    assert server.another().post(f"{path}/recall", {"from": one}).body["state"] == "recalled"
    found = server.api.get(path).body
    assert (found["text"], found["state"], found["version"]) == ("", "recalled", 2)
    assert is_refused(server.api.post(f"{path}/recall", {"from": one}), 404, ErrorCode.UNKNOWN_MESSAGE)


def test_the_system_changes_its_own_messages_and_removes_any(server: Server) -> None:
    one, other = server.user(), server.user()
    number = new_group(server, one, other)
    phone = server.phone(other)
    for more in ({"to": other}, {"group": number}):
        sent = said(server, "by the system", **more)
        path = path_of("conversations", sent["conversation"], "messages", sent["seq"])
        assert server.another().patch(path, {"text": "better"}).body["state"] == "edited"
        assert phone.told(lambda text: text.get("text") == "better")["by"] == {"id": 0, "name": "0"}
        phone.heard.clear()
        assert server.another().post(f"{path}/recall", {}).body["state"] == "recalled"
    for more in ({"to": other}, {"group": number}):
        sent = said(server, "by a user", **{"from": one, **more})
        path = path_of("conversations", sent["conversation"], "messages", sent["seq"])
        assert server.another().delete(path).body["state"] == "removed"
        assert (server.api.get(path).body["text"], server.api.get(path).body["state"]) == ("", "removed")
        assert is_refused(server.api.delete(path), 404, ErrorCode.UNKNOWN_MESSAGE)
        assert phone.told(lambda text: text.get("state") == "removed")["by"]["name"] == "0"
        phone.heard.clear()
    for path in (path_of("conversations", 1 << 40, "messages", 1), path_of("conversations", -number, "messages", 99)):
        assert is_refused(server.api.delete(path), 404, ErrorCode.UNKNOWN_MESSAGE)
        assert is_refused(server.api.patch(path, {"text": "x"}), 404, ErrorCode.UNKNOWN_MESSAGE)
