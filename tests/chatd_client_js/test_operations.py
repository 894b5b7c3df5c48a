"""Every operation of the JavaScript client against the real server, in Node.js and in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chatd_client.people import People
from tests.chatd_client_js import places
from tests.chatd_client_js.conftest import server
from tests.chatd_client_js.places import Place
from tests.harness.deadline import run

Tell = Callable[..., Any]
ENTER = "const [a, b, c] = await Promise.all(names.map((name) => login(server, name))); const [ann, bob, cy] = names;"
LEAVE = "await Promise.all([a, b, c].map((one) => one?.close()));"
ONCE = pytest.mark.parametrize("tell", ["node"], indirect=True)
"""Nothing in it depends on where the client runs."""


def story(people: People, tell: Tell, source: str, users: int = 2) -> Any:
    async def told(place: Place, where: dict[str, str]) -> Any:
        names = [await people.user(name) for name in ("ann", "bob", "cy")[:users]]
        return await place.run(ENTER + source + LEAVE, server=where, names=names)

    return tell(told)


def test_messages_go_there_and_answers_back(people: People, tell: Tell) -> None:
    story(
        people,
        tell,
        r"""
    equal(a.state, State.LIVE);
    check(a.features.includes("seq"), "it has numbers");
    const sent = await a.send(bob, "hello ü 🙂\n\0", { typeu: 7 });
    const message = await b.receive({ timeout: 9000 });
    equal([message.conversation, message.sender, message.text], [ann, ann, "hello ü 🙂\n\0"]);
    equal([message.seq, message.sentAt, message.fp, message.typeu], [1, sent.sentAt, sent.fp, 7]);
    const answered = await b.reply(message, "yes");
    equal(answered.seq, 2);
    const answer = await a.receive({ timeout: 9000 });
    equal([answer.reply, answer.text, answer.sentAt], [1, "yes", answered.sentAt]);

    const twice = await Promise.all([1, 2].map(() => a.send(bob, "once", { fp: "mine-1" })));
    equal(twice[0], twice[1]);
    equal(await a.send(bob, "once", { fp: "mine-1" }), twice[0]);
    equal(await refused(a.send(bob, "another", { fp: "mine-1" })), ["Invalid", Code.FP_REUSED, false]);

    const many = Array.from({ length: 150 }, (_, at) => String(at));
    const numbers = (await Promise.all(many.map((text) => a.send(bob, text)))).map((one) => one.seq);
    equal(numbers, many.map((_, at) => at + 4));
    equal(await texts(b, 151), ["once", ...many]);

    await a.send(bob, "half \ud83d of a pair");
    equal(await texts(b, 1), ["half \ufffd of a pair"]);
    equal((await a.request("echo", { text: "half \udc00" })).text, "half \ufffd");
    await nothing(b);
    """,
    )


@ONCE
def test_what_is_refused_says_why(people: People, tell: Tell) -> None:
    story(
        people,
        tell,
        r"""
    equal(await refused(a.send("nobody-has-this-name", "x")), ["NotFound", Code.UNKNOWN_RECIPIENT, false]);
    equal((await refused(a.send("#999999", "x")))[0], "NotFound");
    equal(await refused(a.send(bob, "x".repeat(70000))), ["Invalid", Code.TOO_LONG, false]);
    equal(await refused(a.send(bob, "x".repeat(20000))), ["Invalid", Code.TOO_LONG, false]);
    equal((await refused(a.request("no.such.operation")))[0], "NotOffered");
    equal((await refused(a.request("echo", { text: "x".repeat(70000) })))[0], "Invalid");
    equal((await refused(a.request("echo", { text: 5 })))[0], "Invalid");
    for (const to of ["#team", "", "0", -1, 1.5, null]) equal((await refused(a.send(to, "x")))[0], "RangeError");
    equal((await refused(a.send(bob, 5)))[0], "TypeError");
    equal((await refused(a.send(bob, "x", { fp: "x".repeat(65) })))[0], "RangeError");
    const token = { token: "x" };
    for (const [url, name, options] of [
      [server.url, ann, {}], [server.url, ann], ["http://x", ann, token], [server.url, "", token],
      [server.url, ann, { ...token, password: "y" }],
    ]) equal((await refused((async () => new Client(url, name, options))()))[0], "TypeError");
    const wrong = make({ ...server, secret: "wrong" }, ann);
    equal(await refused(wrong.open()), ["LoginRefused", Code.BAD_CREDENTIALS, false]);
    equal(wrong.state, State.CLOSED);
    equal((await refused(wrong.send(bob, "x")))[0], "LoginRefused");
    equal((await refused(wrong.open()))[0], "ClientClosed");
    equal((await refused(make(server, ann).send(bob, "x")))[0], "ClientClosed");
    equal((await refused(make(server, ann).friends.list()))[0], "ClientClosed");
    const nowhere = make({ ...server, url: "ws://127.0.0.1:9/websocket" }, ann, { timing: { enter: 300 } });
    equal((await refused(nowhere.open()))[0], "Unreachable");
    equal(a.state, State.LIVE);
    """,
    )


def test_history_unread_counts_edits_and_deletion(people: People, tell: Tell) -> None:
    story(
        people,
        tell,
        r"""
    const long = Array.from({ length: 600 }, (_, at) => `${String(at).padStart(7, "0")}ü `).join("");
    const calls = Array.from({ length: 105 }, (_, at) => a.send(bob, at === 50 ? long : `m${at}`));
    await Promise.all(calls);
    equal((await all(b.conversations.history(ann, { after: 100 }))).map((one) => one.seq), [101, 102, 103, 104, 105]);
    equal((await all(b.conversations.history(ann, { before: 4 }))).map((one) => one.seq), [3, 2, 1]);
    const newest = await all(b.conversations.history(ann, { limit: 102 }));
    equal(newest.map((one) => one.seq), Array.from({ length: 102 }, (_, at) => 105 - at));
    check(newest[105 - 51].text === long, "a long text is whole");
    equal((await all(b.conversations.history(ann))).length, 105);

    const [unread] = await b.conversations.unread();
    equal([unread.with, unread.unread, unread.last], [ann, 105, 105]);
    equal(await b.conversations.markRead(ann, 104), 104);
    equal((await all(b.conversations.list())).map((head) => head.unread), [1]);
    const read = await event(a, "read");
    equal([read.by.name, read.seq], [bob, 104]);

    const made = await a.conversations.edit(bob, 1, "one!");
    const changed = await event(b, "message.changed");
    const { with: where, seq, state, text, change } = changed;
    equal([where, seq, state, text, change], [ann, 1, "edited", "one!", made.change]);
    await a.conversations.recall(bob, 2);
    const past = await all(b.conversations.history(ann, { before: 3 }));
    equal(past.map((one) => [one.text, one.state]), [["", "recalled"], ["one!", "edited"]]);
    const changes = await b.conversations.changes({ [ann]: 0 });
    equal(changes.map((one) => [one.seq, one.state]), [[1, "edited"], [2, "recalled"]]);
    equal((await refused(b.conversations.edit(ann, 1, "mine")))[0], "NotPermitted");
    equal((await refused(a.conversations.recall(bob, 999)))[0], "NotFound");
    await a.conversations.typing(bob);
    equal((await event(b, "typing")).by.name, ann);

    await b.conversations.delete(ann, { upTo: 100 });
    await b.conversations.delete(ann, { seqs: [103] });
    equal((await all(b.conversations.history(ann))).map((one) => one.seq), [105, 104, 102, 101]);
    equal((await all(a.conversations.history(bob, { limit: 3 }))).map((one) => one.seq), [105, 104, 103]);
    """,
    )


@ONCE
def test_people(people: People, tell: Tell) -> None:
    story(
        people,
        tell,
        r"""
    equal((await a.friends.request(bob)).friends, false);
    equal((await event(b, "friend.request")).from.name, ann);
    equal((await b.friends.requests()).map((one) => one.name), [ann]);
    equal((await b.friends.accept(ann)).name, ann);
    equal((await event(a, "friend.accepted")).from, b.me);
    equal((await a.friends.list()).map((one) => [one.name, one.online]), [[bob, true]]);
    equal((await a.presence.watch([bob])).map((one) => one.online), [true]);

    await b.profiles.set({ nickname: "Bobby", status: "here" });
    equal((await a.profiles.get(bob)).profile, { nickname: "Bobby", status: "here" });
    equal(await b.profiles.set({ status: "" }), { nickname: "Bobby" });
    equal((await a.profiles.get()).user.name, ann);

    equal((await b.privacy.set({ write: "friends" })).write, "friends");
    equal((await b.privacy.get()).defaults.write, "everybody");
    await b.friends.remove(ann);
    equal(await refused(a.send(bob, "x")), ["NotPermitted", Code.NOT_ACCEPTED, false]);
    await b.privacy.set({ write: "default", see: "everybody" });
    await a.blocks.add(bob);
    equal((await a.blocks.list()).map((one) => one.name), [bob]);
    equal(await refused(a.send(bob, "x")), ["NotPermitted", Code.BLOCKED_BY_YOU, false]);
    equal((await a.blocks.remove(bob)).name, bob);
    equal((await a.send(bob, "x")).seq, 1);
    await a.friends.request(bob);
    await b.friends.refuse(ann);
    equal((await event(a, "friend.refused")).from, b.me);
    equal((await refused(b.friends.accept(ann)))[1] > 0, true);

    equal(await a.account.whoami().then((me) => [me.id, me.name, me.wire]), [a.me.id, ann, "mobileimsdk"]);
    equal((await a.account.sessions()).sessions.map((one) => [one.wire, one.this]), [["mobileimsdk", true]]);
    equal((await refused(a.account.changePassword("wrong", "new secret")))[0], "NotPermitted");
    await a.account.changePassword(server.secret, "new secret");
    await b.close();
    const [seen] = await a.presence.get([bob]);
    equal(seen.online, false);
    await a.close();
    equal(await refused(make(server, ann).open()), ["LoginRefused", Code.BAD_CREDENTIALS, false]);
    const again = await make({ ...server, secret: "new secret" }, ann).open();
    equal(await refused(again.account.endSession("mobileimsdk")), ["NotPermitted", Code.NOT_ALLOWED, false]);
    await again.account.endSession("chatserver"); // there is none
    await again.close();
    """,
    )


@ONCE
def test_groups(people: People, tell: Tell) -> None:
    story(
        people,
        tell,
        r"""
    const team = (await a.groups.create("team", { description: "ours", join: "approval", history: "all" })).id;
    equal((await b.groups.join(team)).joined, false);
    equal((await event(a, "group.requested")).user, b.me);
    equal((await a.groups.requests(team)).map((one) => one.user), [b.me]);
    equal((await a.groups.approve(team, bob)).joined, true);
    equal((await event(b, "group.entered")).group, team);
    equal((await c.groups.join(team)).joined, false);
    await a.groups.reject(team, cy);
    equal((await event(c, "group.rejected")).group, team);
    await c.privacy.set({ add: "everybody" });
    await a.groups.set(team, { join: "invite" });
    equal((await a.groups.add(team, cy)).joined, true);
    const roles = Object.fromEntries((await a.groups.members(team)).map((one) => [one.name, one.role]));
    equal([roles[ann], roles[bob], roles[cy]], ["owner", "member", "member"]);

    await a.send(`#${team}`, "hello all", { mentions: [bob] });
    const message = await b.receive({ timeout: 9000 });
    equal([message.conversation, message.sender, message.mentions], [`#${team}`, ann, [b.me.id]]);
    await a.send(`#${team}`, "everybody", { mentions: "all" });
    equal((await b.receive({ timeout: 9000 })).mentions, "all");
    await a.groups.mute(team, bob, 60);
    equal((await event(b, "group.muted")).group, team);
    equal(await refused(b.send(`#${team}`, "x")), ["NotPermitted", Code.MUTED, false]);
    await a.groups.unmute(team, bob);
    const said = await b.reply(message, "thanks");
    await a.conversations.remove(team, said.seq);
    equal((await all(c.conversations.history(`#${team}`, { limit: 1 })))[0].state, "removed");

    await a.groups.role(team, bob, "admin");
    equal((await a.groups.rename(team, "crew", "us")).name, "crew");
    equal((await event(c, "group.renamed")).details.name, "crew");
    equal((await b.groups.set(team, { announcements: true })).announcements, true);
    equal(await refused(c.send(`#${team}`, "x")), ["NotPermitted", Code.ANNOUNCEMENTS_ONLY, false]);
    const details = await b.groups.get(team);
    equal([details.group.name, details.role, details.members], ["crew", "admin", 3]);
    await b.groups.kick(team, cy);
    equal((await event(c, "group.kicked")).group, team);
    equal((await a.groups.bans(team)).map((one) => one.user), [c.me]);
    await a.groups.unban(team, cy);
    await a.groups.ban(team, cy);
    equal((await refused(c.groups.join(team)))[1], Code.BANNED);
    equal((await b.groups.list()).map((one) => one.id), [team]);
    equal((await b.groups.leave(team)).ended, false);
    equal((await a.groups.invite(team, cy)).joined, false);
    equal((await c.groups.invitations()).map((one) => one.group.id), [team]);
    await c.groups.decline(team);
    equal((await refused(b.groups.get(team)))[0], "NotPermitted");
    await a.groups.dissolve(team);
    equal(await a.groups.list(), []);
    equal((await refused(a.groups.get(team)))[0], "NotFound");
    """,
        users=3,
    )


@ONCE
def test_events_are_read_one_by_one_and_those_lost_are_counted(people: People, tell: Tell) -> None:
    story(
        people,
        tell,
        r"""
    const team = (await b.groups.create("team")).id;
    await a.privacy.set({ add: "everybody" });
    const events = a.events();
    await b.groups.add(team, ann);
    equal((await events.next()).value.event, "group.entered");
    await a.close();
    equal((await events.next()).value.data.state, "closed");
    equal((await events.next()).done, true);

    const few = await make(server, ann, { feedEvents: 4 }).open();
    const late = few.events();
    for (let at = 0; at < 6; at += 1) await b.groups.rename(team, `team ${at}`);
    await few.groups.get(team);
    equal((await late.next()).value, { event: "events.lost", data: { count: 2 } });
    equal((await late.next()).value.data.details.name, "team 2");
    await late.return();
    await few.close();
    """,
    )


def test_a_second_login_ends_the_first_client_which_does_not_come_back(people: People, tell: Tell) -> None:
    story(
        people,
        tell,
        r"""
    for (const text of ["0", "1", "2"]) await b.send(ann, text);
    equal(await texts(a, 2), ["0", "1"]); // "0" counts as taken
    const second = await make(server, ann).open();
    await until("the first is ended", () => a.state === State.CLOSED);
    equal(await refused(a.receive()), ["Kicked", 0, false]);
    equal(a.heard.at(-1).data.state, "closed");
    const why = await a.send(bob, "x").catch((error) => error.why);
    equal(why, "duplicate");
    equal((await refused(a.friends.list()))[0], "Kicked");
    equal(await texts(second, 2), ["1", "2"]);
    await nothing(second);
    equal(second.state, State.LIVE);

    const events = all(second.events());
    const waiting = [refused(second.messages().next()), refused(events)];
    const third = await make(server, ann).open();
    equal(await Promise.all(waiting), [["Kicked", 0, false], ["Kicked", 0, false]]);
    await third.close();
    """,
    )


def test_tls_is_verified_and_the_package_ws_does_as_well(people: People) -> None:
    source = """
    const chat = await login(server, name, library ? { WebSocket: ws() } : {});
    await chat.send(name, "to myself");
    equal(await texts(chat, 1), ["to myself"]);
    await chat.close();
    """
    unknown = """
    const options = { timing: { enter: 300 }, ...(library ? { WebSocket: ws() } : {}) };
    equal((await refused(make(server, name, options).open()))[0], "Unreachable");
    """

    async def told() -> None:
        name = await people.user("ann")
        where = server(people, "wss")
        async with places.node(trusted=people.daemon.certificate) as one:
            for library in (False, True):
                await one.run(source, server=where, name=name, library=library)
        async with places.node() as one:
            for library in (False, True):
                await one.run(unknown, server=where, name=name, library=library)

    run(told())
