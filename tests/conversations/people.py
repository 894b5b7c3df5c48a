"""Plays a script about people and their say: consent, groups with rules, messages that change.

Owns: PeoplePlayer, the lines that such a script may have besides those of any script (player.LINES), and how each
person asks for an operation, whatever the wire.
Fails: as Player.

A person on the mobileimsdk wire asks over their own connection, and so does one on "asking", the chatserver wire with
requests. The others have a client that knows no requests: they do it on an errand, a mobileimsdk connection of the same
account that acknowledges nothing, so that what waits for them goes on waiting.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any

from chatd.errors import ErrorCode
from tests.conversations.asking import Client
from tests.conversations.player import LINES, WHO, Player
from tests.harness.chatserver import AskingLink
from tests.harness.deadline import until
from tests.harness.link import Seen
from tests.harness.mobileimsdk import ACK, DATA, NumberedLink, StockLink
from tests.harness.person import Town, Wire

Answer = dict[str, Any]
AUDIENCES = {
    "everybody": "everybody", "only contacts": "contacts", "only friends": "friends", "nobody": "nobody"
}  # fmt: skip
ACTIONS = {"write to": "write", "ask": "ask", "see": "see", "add": "add"}
CHATSERVER_WIRES = ("old", "streaming", "acking", "streaming-tls", "acking-tls")
"""Wires on which a change of a message is shown as a text."""


class PeoplePlayer(Player):
    def __init__(self, town: Town, cast: Sequence[Wire]) -> None:
        super().__init__(town, cast)
        self.lines = [*PEOPLE_LINES, *LINES]

    # ------------------------------------------------------------ asking

    async def ask(self, name: str, op: str, arguments: dict[str, Any]) -> Answer:
        """The answer, whole."""
        person = await self.person(name)
        link = None if person.away.is_set() else person.link
        ref = str(uuid.uuid4())
        if isinstance(link, AskingLink):
            link.request(op, ref, arguments)
            return await until(10, f"{name} is answered", lambda: link.answers.get(ref))
        if isinstance(link, StockLink):
            text = json.dumps({"op": op, "ref": ref, **arguments})
            link.put({"type": DATA, "from": person.name, "to": "0", "dataContent": text, "fp": ref, "QoS": True})
            return await until(10, f"{name} is answered", lambda: link.answers.get(ref))
        client = Client(person.town, person.name)
        client.acknowledging = False
        await client.arrive()
        try:
            return await client.answer(
                client.put(op, **{key.replace("with", "with_"): arguments[key] for key in arguments})
            )
        finally:
            client.leave()

    async def result(self, name: str, op: str, arguments: dict[str, Any], code: str | None = None) -> Any:
        """code: of the refusal that is expected; None = it is done."""
        answer = await self.ask(name, op, arguments)
        if code is not None:
            assert not answer["ok"], answer
            assert answer["error"]["code"] == ErrorCode[code], answer
            return None
        assert answer["ok"], answer
        return answer["result"]

    async def user(self, name: str) -> str:
        return (await self.person(name)).name

    # ------------------------------------------------------------ consent

    async def blocks(self, name: str, un: str | None, other: str, code: str | None) -> None:
        await self.result(name, "unblock" if un else "block", {"user": await self.user(other)}, code)

    async def asks(self, name: str, other: str, code: str | None) -> None:
        await self.result(name, "friend.request", {"user": await self.user(other)}, code)

    async def answers(self, name: str, how: str, other: str, code: str | None) -> None:
        await self.result(name, f"friend.{how}", {"user": await self.user(other)}, code)

    async def befriends_no_more(self, name: str, other: str) -> None:
        await self.result(name, "friend.remove", {"user": await self.user(other)})

    async def admits(self, audience: str, action: str, name: str) -> None:
        await self.result(name, "privacy.set", {ACTIONS[action]: AUDIENCES[audience]})

    async def looks_at(self, name: str, other: str, code: str | None) -> None:
        await self.result(name, "profile.get", {"user": await self.user(other)}, code)

    # ------------------------------------------------------------ groups

    async def makes(self, name: str, group: str, join: str | None) -> None:
        policy = {"join": {"by invitation": "invite", "by approval": "approval"}.get(join, "open")} if join else {}
        self.groups[group] = (await self.result(name, "group.create", {"name": group, **policy}))["group"]["id"]

    async def joins(self, name: str, how: str, group: str, code: str | None) -> None:
        """Who asks to join waits for an admin; who joins is a member."""
        found = await self.result(name, "group.join", {"group": self.groups[group]}, code)
        assert found is None or found["joined"] == (how == "joins"), found

    async def leaves_group(self, name: str, group: str) -> None:
        await self.result(name, "group.leave", {"group": self.groups[group]})

    async def declines(self, name: str, group: str) -> None:
        await self.result(name, "group.decline", {"group": self.groups[group]})

    async def dissolves(self, name: str, group: str, code: str | None) -> None:
        await self.result(name, "group.dissolve", {"group": self.groups[group]}, code)

    async def decides(self, name: str, what: str, other: str, group: str, code: str | None) -> None:
        """invites, approves, rejects, adds, kicks, bans, unbans, mutes, unmutes."""
        op = {"approves": "approve", "invites": "invite", "mutes": "mute", "unmutes": "unmute"}.get(what, what[:-1])
        op = "reject" if what == "rejects" else op
        await self.result(name, f"group.{op}", {"group": self.groups[group], "user": await self.user(other)}, code)

    async def promotes(self, name: str, other: str, role: str, group: str, code: str | None) -> None:
        named = {"group": self.groups[group], "user": await self.user(other), "role": role}
        await self.result(name, "group.role", named, code)

    async def rules(self, name: str, group: str, rules: str, code: str | None) -> None:
        """rules: `join approval, announcements yes, history all`, as the arguments of group.set."""
        values: dict[str, object] = {"yes": True, "no": False}
        pairs = [rule.split(" ") for rule in rules.split(", ")]
        arguments = {key: values.get(value, value) for key, value in pairs}
        await self.result(name, "group.set", {"group": self.groups[group], **arguments}, code)

    async def members_are(self, name: str, group: str, names: str) -> None:
        found = (await self.result(name, "group.members", {"group": self.groups[group]}))["members"]
        assert [one["name"] for one in found] == [await self.user(one) for one in re.split(r", | and ", names)]

    # ------------------------------------------------------------ messages that change

    async def seq_of(self, name: str, place: str, text: str) -> int:
        """Of the last message of the conversation with this text, as `name` can read it."""
        found = await self.result(name, "history", {"with": place, "after": 0})
        return int(next(one["seq"] for one in reversed(found["messages"]) if one.get("text") == text))

    async def edits(self, name: str, to: str, text: str, new: str, code: str | None) -> None:
        place = await self.address(to)
        seq = await self.seq_of(name, place, text)
        await self.result(name, "message.edit", {"with": place, "seq": seq, "text": new}, code)

    async def takes_back(self, name: str, how: str, to: str, text: str, code: str | None) -> None:
        place = await self.address(to)
        await self.result(name, f"message.{how}", {"with": place, "seq": await self.seq_of(name, place, text)}, code)

    async def deletes(self, name: str, to: str, text: str) -> None:
        place = await self.address(to)
        await self.result(name, "history.delete", {"with": place, "seqs": [await self.seq_of(name, place, text)]})

    async def clears(self, name: str, to: str) -> None:
        place = await self.address(to)
        found = (await self.result(name, "history", {"with": place, "after": 0}))["messages"]
        await self.result(name, "history.delete", {"with": place, "up_to": found[-1]["seq"]})

    async def reads_history(self, name: str, to: str, code: str | None, texts: str | None) -> None:
        """texts: in their order, separated by ` | `; a message without its text is its state in brackets."""
        found = await self.result(name, "history", {"with": await self.address(to), "after": 0}, code)
        if found is not None:
            shown = [one.get("text") or f"({one['state']})" for one in found["messages"]]
            assert shown == (texts.split(" | ") if texts else []), shown

    async def has_unread(self, name: str, number: str, to: str, mentions: str | None) -> None:
        place = await self.address(to)
        found = (await self.result(name, "sync", {}))["conversations"]
        (head,) = [one for one in found if one["with"] == place]
        assert head["unread"] == int(number), head
        assert len(head.get("mentioned", ())) == int(mentions or 0), head

    async def has_read(self, name: str, to: str) -> None:
        place = await self.address(to)
        found = (await self.result(name, "history", {"with": place, "before": 1 << 60, "limit": 1}))["messages"]
        await self.result(name, "read", {"with": place, "seq": found[-1]["seq"]})

    async def answers_to(self, name: str, to: str, text: str, reply: str) -> None:
        place = await self.address(to)
        await self._say_with(name, place, reply, reply=await self.seq_of(name, place, text))

    async def mentions(self, name: str, other: str, group: str, text: str) -> None:
        who = "all" if other == "everybody" else [(await self.person(other)).town.ids[await self.user(other)]]
        await self._say_with(name, await self.address(f"#{group}"), text, mentions=who)

    async def _say_with(self, name: str, place: str, text: str, **more: object) -> None:
        """Only a client that has asked for numbers may answer and mention; the others do it on an errand."""
        person = await self.person(name)
        fp = str(uuid.uuid4())
        if isinstance(person.link, StockLink):
            assert isinstance(person.link, NumberedLink), "a stock client cannot answer and mention"
            person.link.say(person.name, place, text, fp, **more)
            assert (await person.told(fp)).ok
            return
        peer = await person.town.mobile_peer()
        peer.extra = NumberedLink.extra
        await peer.log_in(person.name, person.town.secret)
        peer.say(person.name, place, text, fp, **more)
        await peer.find(type=ACK, dataContent=fp)
        peer.close()

    async def types(self, name: str, to: str) -> None:
        """Whether anybody is told is not told."""
        await self.ask(name, "typing", {"with": await self.address(to)})

    async def heard_no_typing(self, name: str) -> None:
        link = (await self.person(name)).link
        if isinstance(link, StockLink | AskingLink):
            await self.result(name, "echo", {})
            assert not [one for one in link.notices if one["event"] == "typing"], link.notices

    # ------------------------------------------------------------ what is seen of it

    async def hears(self, name: str, event: str, by: str | None) -> None:
        """A notice, on a wire that has notices."""
        person = await self.person(name)
        link = person.link
        if not isinstance(link, StockLink | AskingLink):
            return

        def there() -> Answer | None:
            return next((one for one in link.notices if one["event"] == event), None)

        found = await until(10, f"{name} hears {event}", there)
        link.notices.remove(found)
        if by is not None:
            who = found.get("by") or found.get("user") or found["from"]
            assert who["name"] == await self.user(by), found

    async def is_shown(self, name: str, sender: str, group: str | None, text: str) -> None:
        """What a client without notices is shown in their place: a text, in which `*` stands for anything."""
        person = await self.person(name)
        if person.wire not in CHATSERVER_WIRES:
            return
        who, place = await self.user(sender), self.groups[group] if group else 0
        pattern = re.compile(".*".join(map(re.escape, text.split("*"))))

        def there() -> Seen | None:
            person.check()
            shown = (one for one in person.unnoticed if (one.sender, one.group) == (who, place))
            return next((one for one in shown if pattern.fullmatch(one.text)), None)

        try:
            person.unnoticed.remove(await until(10, f"{name} is shown {text}", there))
        except TimeoutError as error:
            raise TimeoutError(f"{error}; unnoticed are {person.unnoticed}") from None


DECISIONS = "invites|approves|rejects|adds|kicks|bans|unbans|mutes|unmutes"
REFUSED = r"(?: -- and is refused: (\w+))?"
PEOPLE_LINES = [
    (re.compile(pattern), act)
    for pattern, act in [
        (rf"{WHO} (un)?blocks {WHO}{REFUSED}", PeoplePlayer.blocks),
        (rf"{WHO} asks {WHO} to be friends{REFUSED}", PeoplePlayer.asks),
        (rf"{WHO} (accept|refuse)s {WHO} as a friend{REFUSED}", PeoplePlayer.answers),
        (rf"{WHO} is no longer friends with {WHO}", PeoplePlayer.befriends_no_more),
        (rf"({'|'.join(AUDIENCES)}) may ({'|'.join(ACTIONS)}) {WHO}", PeoplePlayer.admits),
        (rf"{WHO} looks at the profile of {WHO}{REFUSED}", PeoplePlayer.looks_at),
        (rf"{WHO} makes the group (\w+)(?:, (open|by invitation|by approval))?", PeoplePlayer.makes),
        (rf"{WHO} (joins|asks to join) #(\w+){REFUSED}", PeoplePlayer.joins),
        (rf"{WHO} leaves #(\w+)", PeoplePlayer.leaves_group),
        (rf"{WHO} declines #(\w+)", PeoplePlayer.declines),
        (rf"{WHO} dissolves #(\w+){REFUSED}", PeoplePlayer.dissolves),
        (
            rf"{WHO} ({DECISIONS}) {WHO} (?:to|in|from|for) #(\w+){REFUSED}",
            PeoplePlayer.decides,
        ),
        (rf"{WHO} makes {WHO} an? (owner|admin|member) of #(\w+){REFUSED}", PeoplePlayer.promotes),
        (rf"{WHO} sets in #(\w+): (.+?){REFUSED}", PeoplePlayer.rules),
        (rf"{WHO} sees the members of #(\w+): (.+)", PeoplePlayer.members_are),
        (rf"{WHO} edits for {WHO}: (.*) => (.*?){REFUSED}", PeoplePlayer.edits),
        (rf"{WHO} (recall|remove)s for {WHO}: (.*?){REFUSED}", PeoplePlayer.takes_back),
        (rf"{WHO} deletes from the own history with {WHO}: (.*)", PeoplePlayer.deletes),
        (rf"{WHO} deletes the own history with {WHO}", PeoplePlayer.clears),
        (rf"{WHO} reads the history of {WHO}{REFUSED}(?:: (.*))?", PeoplePlayer.reads_history),
        (rf"{WHO} has (\d+) unread from {WHO}(?:, (\d+) with a mention)?", PeoplePlayer.has_unread),
        (rf"{WHO} has read everything from {WHO}", PeoplePlayer.has_read),
        (rf"{WHO} answers to {WHO}: (.*) => (.*)", PeoplePlayer.answers_to),
        (rf"{WHO} mentions (\w+) in #(\w+): (.*)", PeoplePlayer.mentions),
        (rf"{WHO} types to {WHO}", PeoplePlayer.types),
        (rf"{WHO} heard no typing", PeoplePlayer.heard_no_typing),
        (rf"{WHO} hears ([a-z.]+)(?: by {WHO})?", PeoplePlayer.hears),
        (rf"{WHO} is shown from {WHO}(?: in #(\w+))?: (.*)", PeoplePlayer.is_shown),
    ]
]
"""Operations by a line each. A refusal is told at its end."""
