"""Every operation of the library against the real server."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from chatd_client import (
    Client,
    Code,
    EndReason,
    Invalid,
    Kicked,
    LoginRefused,
    NotFound,
    NotOffered,
    NotPermitted,
    Options,
    Sent,
    State,
    Unreachable,
    UntrustedServer,
    events,
)
from tests.chatd_client.people import TRANSPORTS, People, quick
from tests.harness.daemon import free_port
from tests.harness.deadline import run, until, within
from tests.harness.proxy import Proxy


async def event_of(client: Client, kind: type[Any]) -> Any:
    """The next event of this kind; others are skipped."""

    async def search() -> Any:
        async for event in client.events():
            if isinstance(event, kind):
                return event
        raise AssertionError(f"the events ended without {kind.__name__}")

    return await within(10, kind.__name__, search())


@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_a_message_goes_there_and_its_answer_back(people: People, scheme: str) -> None:
    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann, scheme) as a, people.client(bob, scheme) as b:
            assert a.state is State.LIVE
            assert "seq" in a.features
            sent = await a.send(bob, "hello ü\n\0", typeu=7)
            message = await b.receive(10)
            assert (message.conversation, message.sender, message.text) == (ann, ann, "hello ü\n\0")
            assert (message.seq, message.sent_at_ms, message.fp, message.typeu) == (1, sent.sent_at_ms, sent.fp, 7)
            assert (message.group, message.state) == (0, "sent")
            answered = await b.reply(message, "yes")
            assert answered.seq == 2
            answer = await a.receive(10)
            assert (answer.reply, answer.text, answer.time) == (1, "yes", answered.time)

    run(story())


def test_the_same_fp_is_stored_once_and_another_text_under_it_is_refused(people: People) -> None:
    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann) as a, people.client(bob) as b:
            first, second = await asyncio.gather(a.send(bob, "once", fp="mine-1"), a.send(bob, "once", fp="mine-1"))
            assert first == second == await a.send(bob, "once", fp="mine-1")
            with pytest.raises(Invalid) as refused:
                await a.send(bob, "another", fp="mine-1")
            assert refused.value.code == Code.FP_REUSED
            assert not refused.value.temporary
            assert (await b.receive(10)).text == "once"
            assert [one.text async for one in a.conversations.history(bob)] == ["once"]

    run(story())


def test_what_is_refused_says_why(people: People) -> None:
    async def story() -> None:
        ann = await people.user("ann")
        async with people.client(ann) as a:
            with pytest.raises(NotFound) as unknown:
                await a.send("nobody-has-this-name", "x")
            assert (unknown.value.code, str(unknown.value)) == (Code.UNKNOWN_RECIPIENT, "no such user")
            with pytest.raises(NotFound):
                await a.send("#999999", "x")
            with pytest.raises(Invalid):
                await a.send(ann, "x" * 70_000)
            with pytest.raises(Invalid) as long:
                await a.send(ann, "x" * 20_000)
            assert long.value.code == Code.TOO_LONG
            with pytest.raises(NotOffered):
                await a.request("no.such.operation", dict[str, int])
            with pytest.raises(ValueError, match="is not a group"):
                await a.send("#team", "x")
            assert await a.request("echo", dict[str, str], text="again") == {"text": "again"}

    run(story())


def test_messages_of_a_conversation_are_stored_in_the_order_of_the_calls(people: People) -> None:
    async def story() -> None:
        ann, bob, cy = [await people.user(name) for name in ("ann", "bob", "cy")]
        async with people.client(ann) as a, people.client(bob) as b:
            calls = [a.send(to, str(number)) for number in range(150) for to in (bob, cy)]
            sent: list[Sent] = await asyncio.gather(*calls)
            assert [one.seq for one in sent if one.conversation == bob] == list(range(1, 151))
            assert [(await b.receive(10)).text for _ in range(150)] == [str(number) for number in range(150)]

    run(story())


def test_history_is_read_from_both_ends_and_long_texts_whole(people: People) -> None:
    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann, "ws") as a, people.client(bob) as b:
            long = "".join(f"{number:07d}ü " for number in range(600))
            for number in range(105):
                await a.send(bob, f"m{number}" if number != 50 else long)
            numbers = [one.seq async for one in b.conversations.history(ann, after=100)]
            assert numbers == [101, 102, 103, 104, 105]
            numbers = [one.seq async for one in b.conversations.history(ann, before=4)]
            assert numbers == [3, 2, 1]
            newest = [one async for one in b.conversations.history(ann, limit=102)]
            assert [one.seq for one in newest] == list(range(105, 3, -1))
            assert newest[105 - 51].text == long
            assert newest[0].sender == ann

    run(story())


def test_unread_counts_read_marks_and_deletion(people: People) -> None:
    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann) as a, people.client(bob) as b:
            for number in range(3):
                await a.send(bob, str(number))
            (unread,) = await b.conversations.unread()
            assert (unread.place, unread.unread, unread.last) == (ann, 3, 3)
            assert await b.conversations.mark_read(ann, 2) == 2
            assert [head.unread async for head in b.conversations.list()] == [1]
            read = await event_of(a, events.ReadElsewhere)
            assert (read.by.name, read.seq) == (bob, 2)
            await b.conversations.delete(ann, up_to=1)
            await b.conversations.delete(ann, seqs=[3])
            assert [one.seq async for one in b.conversations.history(ann)] == [2]
            assert [one.seq async for one in a.conversations.history(bob)] == [3, 2, 1]

    run(story())


def test_messages_are_edited_and_recalled(people: People) -> None:
    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann) as a, people.client(bob) as b:
            first, second = await a.send(bob, "one"), await a.send(bob, "two")
            await b.receive(10)
            made = await a.conversations.edit(bob, first.seq, "one!")
            changed = await event_of(b, events.MessageChanged)
            assert (changed.place, changed.seq, changed.state, changed.text) == (ann, 1, "edited", "one!")
            assert changed.change == made.change == 1
            await a.conversations.recall(bob, second.seq)
            past = [(one.text, one.state) async for one in b.conversations.history(ann)]
            assert past == [("", "recalled"), ("one!", "edited")]
            changes = await b.conversations.changes({ann: 0})
            assert [(one.seq, one.state) for one in changes] == [(1, "edited"), (2, "recalled")]
            await a.conversations.typing(bob)
            assert (await event_of(b, events.SomebodyTypes)).by.name == ann
            with pytest.raises(NotPermitted):
                await b.conversations.edit(ann, first.seq, "mine")

    run(story())


def test_friends_blocks_privacy_profiles_and_presence(people: People) -> None:
    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann) as a, people.client(bob) as b:
            assert not (await a.friends.request(bob)).friends
            assert (await event_of(b, events.FriendAsks)).user.name == ann
            assert [one.name for one in await b.friends.requests()] == [ann]
            await b.friends.accept(ann)
            assert (await event_of(a, events.FriendAccepted)).user == b.me
            assert [(one.name, one.online) for one in await a.friends.list()] == [(bob, True)]
            assert [one.online for one in await a.presence.watch([bob])] == [True]

            await b.profiles.set(nickname="Bobby", status="here")
            profile = await a.profiles.get(bob)
            assert profile.profile == {"nickname": "Bobby", "status": "here"}
            assert await b.profiles.set(status="") == {"nickname": "Bobby"}

            assert (await b.privacy.set(write="friends")).write == "friends"
            assert (await b.privacy.get()).defaults.write == "everybody"
            await b.friends.remove(ann)
            with pytest.raises(NotPermitted) as refused:
                await a.send(bob, "x")
            assert refused.value.code == Code.NOT_ACCEPTED
            await b.privacy.set(write="default", see="everybody")

            await a.blocks.add(bob)
            assert [one.name for one in await a.blocks.list()] == [bob]
            with pytest.raises(NotPermitted):
                await a.send(bob, "x")
            await a.blocks.remove(bob)
            assert (await a.send(bob, "x")).seq == 1
            await a.friends.request(bob)
            await b.friends.refuse(ann)
            assert (await event_of(a, events.FriendRefused)).user == b.me
        async with people.client(ann) as a:
            (seen,) = await a.presence.get([bob])
            assert not seen.online

    run(story())


def test_those_who_allow_it_are_watched_and_after_a_reconnect_again(people: People) -> None:
    """One of three forbids it, and another one while the watcher is away: that must not end watching the third."""

    async def story(proxy: Proxy) -> None:
        ann, bob, cy, dee = [await people.user(name) for name in ("ann", "bob", "cy", "dee")]
        async with people.client(ann, port=proxy.port) as a, people.client(bob) as b, people.client(cy) as c:
            await b.privacy.set(see="nobody")
            await c.privacy.set(see="everybody")
            async with people.client(dee) as d:
                await d.privacy.set(see="everybody")
            with pytest.raises(NotPermitted):
                await a.presence.watch([bob, cy, dee])
            found = await a.presence.watch_allowed([bob, cy, dee])
            assert {(one.name, one.online) for one in found} == {(cy, True), (dee, False)}
            proxy.refuse()
            proxy.cut()
            await c.privacy.set(see="nobody")
            proxy.allow()
            told = asyncio.create_task(event_of(a, events.PresenceChanged))
            while not told.done():
                async with people.client(dee):
                    await asyncio.wait([told], timeout=0.3)
                await asyncio.wait([told], timeout=4)  # a short absence is told to nobody
            assert (await told).user.name == dee

    with Proxy(people.daemon.ports["mobileimsdk"]) as proxy:
        run(story(proxy))


def test_every_operation_of_groups(people: People) -> None:
    async def story() -> None:
        ann, bob, cy = [await people.user(name) for name in ("ann", "bob", "cy")]
        async with people.client(ann) as a, people.client(bob) as b, people.client(cy) as c:
            team = (await a.groups.create("team", "ours", join="approval", history="all")).id
            assert not (await b.groups.join(team)).joined
            assert (await event_of(a, events.JoinRequested)).user == b.me
            assert [one.user for one in await a.groups.requests(team)] == [b.me]
            assert (await a.groups.approve(team, bob)).joined
            assert (await event_of(b, events.GroupEntered)).group == team
            assert not (await c.groups.join(team)).joined
            await a.groups.reject(team, cy)
            await c.privacy.set(add="everybody")
            await a.groups.set(team, join="invite")
            assert (await a.groups.add(team, cy)).joined
            assert {one.name: one.role for one in await a.groups.members(team)} == {
                ann: "owner", bob: "member", cy: "member",
            }  # fmt: skip

            await a.send(f"#{team}", "hello all", mentions=[bob])
            message = await b.receive(10)
            assert (message.conversation, message.group, message.sender) == (f"#{team}", team, ann)
            assert message.names(b.me)
            assert not message.names(c.me)
            await a.send(f"#{team}", "everybody", mentions="all")
            assert (await b.receive(10)).mentions == "all"

            await a.groups.mute(team, bob, 60)
            with pytest.raises(NotPermitted) as muted:
                await b.send(f"#{team}", "x")
            assert muted.value.code == Code.MUTED
            await a.groups.unmute(team, bob)
            said = await b.reply(message, "thanks")
            await a.conversations.remove(team, said.seq)
            assert [one.state async for one in c.conversations.history(f"#{team}", limit=1)] == ["removed"]

            await a.groups.role(team, bob, "admin")
            assert (await a.groups.rename(team, "crew", "us")).name == "crew"
            assert (await b.groups.set(team, announcements=True)).announcements
            details = await b.groups.get(team)
            assert (details.group.name, details.role, details.members) == ("crew", "admin", 3)
            await b.groups.kick(team, cy)
            assert (await event_of(c, events.MemberKicked)).group == team
            assert [one.user for one in await a.groups.bans(team)] == [c.me]
            await a.groups.unban(team, cy)
            await a.groups.ban(team, cy)
            assert [one.id for one in await b.groups.list()] == [team]
            assert not (await b.groups.leave(team)).ended
            await a.groups.invite(team, cy)
            assert [one.group.id for one in await c.groups.invitations()] == [team]
            await c.groups.decline(team)
            await a.groups.dissolve(team)
            assert await a.groups.list() == ()

    run(story())


def test_a_changed_password_is_used_for_the_next_login(people: People) -> None:
    async def story() -> None:
        ann = await people.user("ann")
        async with people.client(ann) as a:
            await a.account.change_password(people.town.secret, "another secret")
            sessions = await a.account.sessions()
            assert [(one.wire, one.this) for one in sessions.sessions] == [("mobileimsdk", True)]
            assert people.daemon.ctl_said("kick", "--address", "127.255.255.254")[0] in (0, 1)  # nobody
            assert (await a.account.whoami()).name == ann
        with pytest.raises(LoginRefused) as refused:
            async with people.client(ann):
                pass
        assert refused.value.code == Code.BAD_CREDENTIALS
        async with Client(people.url(), ann, password="another secret", options=people.options()) as a:
            assert a.me.name == ann

    run(story())


def test_a_second_login_ends_the_first_client_which_does_not_come_back(people: People) -> None:
    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(bob) as b, people.client(ann) as first:
            for number in range(3):
                await b.send(ann, str(number))
            assert (await first.receive(10)).text == "0"
            assert (await first.receive(10)).text == "1"  # "0" counts as taken
            async with people.client(ann) as second:
                await until(10, "the first client is ended", lambda: first.state is State.CLOSED)
                with pytest.raises(Kicked) as kicked:
                    await first.receive(10)
                assert kicked.value.why is EndReason.DUPLICATE
                with pytest.raises(Kicked):
                    await first.send(bob, "x")
                with pytest.raises(Kicked):
                    await first.friends.list()
                assert [(await second.receive(10)).text for _ in range(2)] == ["1", "2"]
                assert second.state is State.LIVE

    run(story())


def test_an_operator_ends_the_session(people: People) -> None:
    async def story() -> None:
        ann = await people.user("ann")
        async with people.client(ann) as a:
            code, _, said = await asyncio.to_thread(people.daemon.ctl_said, "kick", ann)
            assert code == 0, said
            with pytest.raises(Kicked) as kicked:
                await a.receive(10)
            assert kicked.value.why is EndReason.ADMIN

    run(story())


def test_who_cannot_be_reached_or_is_not_trusted_is_told_at_once(people: People) -> None:
    async def story() -> None:
        ann = await people.user("ann")
        nobody = Client(f"tcp://127.0.0.1:{free_port()}", ann, password="x", options=Options(timing=quick(enter_s=0.5)))
        with pytest.raises(Unreachable, match="Connection refused"):
            await nobody.__aenter__()
        for scheme in ("tls", "wss"):
            with pytest.raises(UntrustedServer, match="signed by itself"):
                async with people.client(ann, scheme, ca=""):
                    pass
        with pytest.raises(Unreachable):
            async with people.client(ann, "tls", port=people.daemon.ports["mobileimsdk"], timing=quick(enter_s=0.5)):
                pass
        with pytest.raises(ValueError, match="a password or a token"):
            Client(people.url(), ann)

    run(story())


def test_features_are_negotiated(people: People) -> None:
    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann, features=("typing", "no-such")) as a, people.client(bob) as b:
            assert a.features == ("typing",)
            sent = await a.send(bob, "without a number")
            assert sent.seq == 0
            assert (await b.receive(10)).seq == 1
            await b.send(ann, "so")
            assert (await a.receive(10)).seq == 0

    run(story())


def test_events_that_nobody_reads_are_dropped_and_counted(people: People) -> None:
    async def story() -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with people.client(ann, feed_events=4) as a, people.client(bob) as b:
            team = (await b.groups.create("team")).id
            await a.privacy.set(add="everybody")
            await b.groups.add(team, ann)
            for number in range(6):
                await b.groups.rename(team, f"team {number}")
            assert (await a.groups.get(team)).group.name == "team 5"
            lost = await event_of(a, events.EventsLost)
            assert lost.count >= 3
            names = [(await event_of(a, events.GroupRenamed)).details.name for _ in range(4)]
            assert names == ["team 2", "team 3", "team 4", "team 5"]

    run(story())


def test_a_group_description_is_typed(people: People) -> None:
    """Results are structs, which a program can compare, print and encode."""

    async def story() -> None:
        ann = await people.user("ann")
        async with people.client(ann) as a:
            made = await a.groups.create("team", "about")
            assert msgspec.to_builtins(made) == {"id": made.id, "name": "team", "description": "about"}

    run(story())
