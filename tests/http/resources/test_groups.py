"""/v1/groups: making and ruling groups, and who is in them, as the system."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from typing import Any

import pytest

from chatd.errors import ErrorCode
from tests.harness.api import Answer, path_of
from tests.harness.chatserver import GROUP_CHAT, LOGIN, LOGIN_ACK
from tests.http.resources.conftest import SECRET, Server

LIMIT_S = 15.0


class OldMember:
    """A client of the chatserver wire, which splits frames at NUL."""

    def __init__(self, port: int, name: str, secret: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), LIMIT_S)
        self._data = b""
        login = {"msgid": LOGIN, "name": name, "password": secret, "framing": "nul"}
        self._socket.sendall(json.dumps(login).encode() + b"\0")
        assert self.frame(LOGIN_ACK)["errno"] == 0

    def frame(self, kind: int) -> dict[str, Any]:
        """The next one of this kind; others are dropped."""
        while True:
            while b"\0" not in self._data:
                more = self._socket.recv(65536)
                assert more, "the connection has ended"
                self._data += more
            text, _, self._data = self._data.partition(b"\0")
            found: dict[str, Any] = json.loads(text)
            if found["msgid"] == kind:
                return found

    def close(self) -> None:
        self._socket.close()


def new_group(server: Server, owner: str, *members: str, **more: object) -> int:
    made = server.api.post("/v1/groups", {"name": "team", "owner": owner, "members": members, **more})
    assert made.status == 201, made
    number: int = made.body["number"]
    return number


def roles(server: Server, group: int) -> dict[str, str]:
    found = server.another().get(path_of("groups", group, "members")).body["members"]
    return {one["name"]: one["role"] for one in found}


def is_refused(answer: Answer, status: int, code: ErrorCode) -> bool:
    return (answer.status, answer.code) == (status, code)


# ---------------------------------------------------------------- groups


def test_a_group_is_made_once_and_its_members_are_told_on_both_workers(server: Server) -> None:
    (owner, first), (member, second) = server.on_both_workers().values()
    wanted = {"name": "Chess Club", "description": "d", "owner": owner, "members": [member, member], "join": "open"}
    made = server.api.post("/v1/groups", wanted, repeat=f"make-{owner}")
    again = server.another().post("/v1/groups", wanted, repeat=f"make-{owner}")
    assert (made.status, again.status) == (201, 201)
    assert made.body == again.body
    assert "idempotency-replayed" not in made.headers
    assert again.headers["idempotency-replayed"] == "true"
    number = made.body["number"]
    assert made.body["owner"]["name"] == owner
    assert (made.body["members"], made.body["join"], made.body["history"]) == (2, "open", "joining")
    for phone in (first, second):
        assert phone.notice("group.entered")["details"]["id"] == number
    first.say(f"#{number}", "from the owner")
    assert second.message("from the owner")["from"] == owner
    assert server.another().get(path_of("groups", number)).body == made.body
    changed = server.api.post("/v1/groups", {**wanted, "name": "Other"}, repeat=f"make-{owner}")
    assert is_refused(changed, 422, ErrorCode.FP_REUSED)


def test_a_group_that_cannot_be_made_leaves_nothing(server: Server) -> None:
    owner = server.user()
    for wrong, status, code in [
        ({"owner": "nobody at all"}, 404, ErrorCode.UNKNOWN_RECIPIENT),
        ({"members": ["nobody at all"]}, 404, ErrorCode.UNKNOWN_RECIPIENT),
        ({"name": "\u202e"}, 422, ErrorCode.BAD_FIELD),
        ({"name": ""}, 422, ErrorCode.BAD_FIELD),
        ({"join": "never"}, 422, ErrorCode.BAD_FIELD),
        ({"unknown": 1}, 422, ErrorCode.BAD_FIELD),
        ({"members": ["x"] * 101}, 422, ErrorCode.BAD_FIELD),
    ]:
        assert is_refused(server.api.post("/v1/groups", {"name": "g", "owner": owner, **wrong}), status, code), wrong
    assert server.api.get(path_of("users", owner, "groups")).body == {"groups": [], "next": None}


def test_groups_are_listed_page_by_page(server: Server) -> None:
    owner = server.user()
    made = [new_group(server, owner) for _ in range(4)]
    for path, among in ((path_of("groups"), False), (path_of("users", owner, "groups"), True)):
        found: list[int] = []
        query: dict[str, object] = {"limit": 3}
        while True:
            page = server.another().get(path, **query).body
            found += [one["number"] for one in page["groups"]]
            if page["next"] is None:
                break
            query["after"] = page["next"]
        assert [number for number in found if number in made] == made
        assert len(found) == len(set(found))
        assert found == made or not among


def test_name_and_rules_are_changed_and_members_are_told(server: Server) -> None:
    owner, member = server.user(), server.user()
    number = new_group(server, owner, member)
    phone = server.phone(member)
    path = path_of("groups", number)
    changed = server.api.patch(path, {"name": "New", "history": "all", "announcements": True}).body
    assert (changed["name"], changed["history"], changed["announcements"]) == ("New", "all", True)
    told = phone.notice("group.changed")
    assert (told["history"], told["by"]) == ("all", {"id": 0, "name": "0"})
    assert phone.notice("group.renamed")["details"]["name"] == "New"
    refused = server.another().post("/v1/messages", {"from": member, "group": number, "text": "hi"})
    assert is_refused(refused, 403, ErrorCode.ANNOUNCEMENTS_ONLY)
    assert server.api.post("/v1/messages", {"group": number, "text": "by the system"}).status == 201
    assert phone.message("by the system")["from"] == "0"
    assert server.another().patch(path, {"description": "about us"}).body["description"] == "about us"
    assert server.another().patch(path, {}).body["name"] == "New"
    assert is_refused(server.api.patch(path, {"name": ""}), 422, ErrorCode.BAD_FIELD)


def test_the_system_writes_to_a_group_and_every_member_receives_it(server: Server) -> None:
    """Members on both workers and on both wires, one who is away and one who is muted; once for a key; in a group in
    which only the staff writes, too. Nobody else receives it."""
    (owner, first), (member, second) = server.on_both_workers().values()
    away, old, outsider = server.user("away"), server.user("old"), server.user("outsider")
    number = new_group(server, owner, member, away, old)
    stranger = server.phone(outsider)
    server.api.patch(path_of("groups", number), {"announcements": True})
    assert server.api.put(path_of("groups", number, "mutes", member), {}).status in (200, 204)
    client = server.connections.enter_context(closing(OldMember(server.daemon.ports["chatserver"], old, SECRET)))
    text = f"to group {number}"
    sent = [server.another().post("/v1/messages", {"group": number, "text": text}, repeat=text) for _ in range(3)]
    assert [one.status for one in sent] == [201] * 3
    assert sent[0].body == sent[1].body == sent[2].body
    assert sent[0].body["conversation"] == -number
    for phone in (first, second, server.phone(away)):
        got = phone.message(text)
        assert (got["from"], got["to"], got["fp"]) == ("0", f"#{number}", text)
    heard = client.frame(GROUP_CHAT)
    assert (heard["groupid"], heard["id"], heard["msg"]) == (number, 0, text)
    server.api.post("/v1/messages", {"to": outsider, "text": "afterwards"})
    stranger.message("afterwards")
    assert text not in [one["dataContent"] for one in stranger.heard]
    read = server.another().get(path_of("groups", number, "messages")).body["messages"]
    assert [(one["from"]["name"], one["text"]) for one in read] == [("0", text)]
    assert is_refused(
        server.api.post("/v1/messages", {"group": number, "from": outsider, "text": "hi"}), 403, ErrorCode.NOT_A_MEMBER
    )


def test_a_dissolved_group_is_gone_for_its_members(server: Server) -> None:
    owner = server.user()
    number = new_group(server, owner)
    phone = server.phone(owner)
    path = path_of("groups", number)
    for _ in range(2):
        assert server.another().delete(path, repeat=f"end-{number}").status == 204
    assert phone.notice("group.dissolved")["group"] == number
    for answer in (server.api.delete(path), server.api.get(path), server.api.get(path_of("groups", number, "members"))):
        assert is_refused(answer, 404, ErrorCode.UNKNOWN_GROUP)
    assert server.api.get(path_of("users", owner, "groups")).body["groups"] == []


# ---------------------------------------------------------------- members


def test_members_are_added_given_roles_and_removed(server: Server) -> None:
    owner, member = server.user(), server.user()
    number = new_group(server, owner)
    phone = server.phone(member)
    assert phone.ask("privacy.set", add="nobody")["ok"]
    path = path_of("groups", number, "members", member)
    assert server.api.put(path, {"role": "admin"}).body["created"]
    assert phone.notice("group.entered")["by"]["name"] == "0"
    again = server.another().put(path).body
    assert (again["role"], again["created"]) == ("admin", False)
    assert roles(server, number) == {owner: "owner", member: "admin"}
    assert server.api.put(path, {"role": "owner"}).body["role"] == "owner"
    assert roles(server, number) == {owner: "admin", member: "owner"}
    assert is_refused(server.api.put(path, {"role": "member"}), 403, ErrorCode.NOT_ALLOWED)
    assert is_refused(server.api.put(path, {"role": "king"}), 422, ErrorCode.BAD_FIELD)
    other = path_of("groups", number, "members", owner)
    assert [server.another().delete(other, repeat=f"rm-{number}").status for _ in range(2)] == [204, 204]
    assert is_refused(server.api.delete(other), 404, ErrorCode.NOT_A_MEMBER)
    assert roles(server, number) == {member: "owner"}
    assert [one["user"]["name"] for one in server.api.get(path_of("groups", number, "bans")).body["bans"]] == [owner]
    assert server.another().put(other).body["created"]
    assert server.api.get(path_of("groups", number, "bans")).body["bans"] == []


def test_members_are_listed_page_by_page_with_presence(server: Server) -> None:
    names = [server.user("listed") for _ in range(5)]
    number = new_group(server, names[0], *names[1:])
    server.phone(names[2])
    path = path_of("groups", number, "members")
    first = server.another().get(path, limit=3).body
    second = server.another().get(path, limit=3, after=first["next"]).body
    found = first["members"] + second["members"]
    assert [one["name"] for one in found] == names
    assert [one["name"] for one in found if one["online"]] == [names[2]]
    assert second["next"] is None


def test_a_muted_member_cannot_write_until_it_is_ended(server: Server) -> None:
    owner, member = server.user(), server.user()
    number = new_group(server, owner, member)
    path = path_of("groups", number, "mutes", member)
    message = {"from": member, "group": number, "text": "hi"}
    assert server.api.put(path, {"seconds": 3600}).status == 204
    assert is_refused(server.another().post("/v1/messages", message), 403, ErrorCode.MUTED)
    (_, muted) = server.api.get(path_of("groups", number, "members")).body["members"]
    assert muted["muted"]
    assert muted["until_ms"]
    assert server.api.put(path, {}).status == 204
    assert server.api.get(path_of("groups", number, "members")).body["members"][1]["until_ms"] is None
    assert server.another().delete(path).status == 204
    assert server.another().post("/v1/messages", message).status == 201
    stranger = server.user()
    assert is_refused(server.api.put(path_of("groups", number, "mutes", stranger)), 404, ErrorCode.NOT_A_MEMBER)
    assert is_refused(server.api.put(path, {"seconds": 0}), 422, ErrorCode.BAD_FIELD)


def test_a_banned_user_cannot_join_until_it_is_ended(server: Server) -> None:
    owner, other = server.user(), server.user()
    number = new_group(server, owner, join="open")
    phone = server.phone(other)
    path = path_of("groups", number, "bans", other)
    assert [server.api.put(path).status for _ in range(2)] == [204, 204]
    (banned,) = server.another().get(path_of("groups", number, "bans")).body["bans"]
    assert (banned["user"]["name"], banned["by"]) == (other, {"id": 0, "name": "0"})
    assert phone.ask("group.join", group=number)["error"]["code"] == ErrorCode.BANNED
    assert [server.another().delete(path).status for _ in range(2)] == [204, 404]
    assert phone.ask("group.join", group=number)["result"]["joined"]


def test_who_asks_to_join_is_listed_admitted_or_refused(server: Server) -> None:
    owner = server.user()
    number = new_group(server, owner, join="approval")
    names = [server.user("asks") for _ in range(3)]
    phones = [server.phone(name) for name in names]
    for phone in phones:
        assert not phone.ask("group.join", group=number)["result"]["joined"]
    path = path_of("groups", number, "requests")
    first = server.another().get(path, limit=2).body
    second = server.another().get(path, limit=2, after=first["next"]).body
    assert [one["user"]["name"] for one in first["requests"] + second["requests"]] == names
    assert server.api.put(path_of("groups", number, "members", names[0])).body["created"]
    assert [server.api.delete(path_of("groups", number, "requests", names[1])).status for _ in range(2)] == [204, 404]
    phones[0].notice("group.entered")
    phones[1].notice("group.rejected")
    assert [one["user"]["name"] for one in server.another().get(path).body["requests"]] == names[2:]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_what_is_no_number_is_no_group(server: Server, method: str) -> None:
    for number in ("0", "-1", "x", "%231", str(1 << 62)):
        refused = server.api.call(method, f"/v1/groups/{number}", {} if method == "PATCH" else None)
        assert is_refused(refused, 422, ErrorCode.BAD_FIELD), number
    refused = server.api.call(method, "/v1/groups/999999999", {"name": "x"} if method == "PATCH" else None)
    assert is_refused(refused, 404, ErrorCode.UNKNOWN_GROUP)
