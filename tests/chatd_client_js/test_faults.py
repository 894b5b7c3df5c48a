"""Under faults of the server and the network nothing is lost, and nothing is stored or given twice."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.chatd_client.people import People
from tests.chatd_client_js import places
from tests.chatd_client_js.conftest import server
from tests.chatd_client_js.places import HOME, Browser, Node, Place
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until, wait_until
from tests.harness.proxy import Proxy
from tests.upgrade.installation import upgrade_of

ROUNDS = 14
BUGS = {
    "messages that were taken are given again": (
        "  has({ conversationId, seq, sentAt }) {",
        "  has({ conversationId, seq, sentAt }) { return false;",
    ),
    "a message is sent again under another fp": (
        "this._send({ ...this._data(to, text, fp)",
        "this._send({ ...this._data(to, text, this.acks[fp] ? newFp() : (this.acks[fp] = fp))",
    ),
    "what is unanswered is not sent again": (
        "  start(transmit) {\n    this.transmit = transmit;",
        "  start(transmit) {\n    this.transmit = transmit; return;",
    ),
}
"""By their effect: a text of the module, and what is there instead."""


def with_bug(folder: Path, bug: str) -> Path:
    """The module with this bug; "" = without one."""
    if not bug:
        return HOME / "chatd.js"
    text = (HOME / "chatd.js").read_text()
    right, wrong = BUGS[bug]
    assert text.count(right) == 1
    path = folder / "chatd.mjs"
    path.write_text(text.replace(right, wrong))
    return path


class Loses:
    """A hook of a proxy: armed, it cuts a connection once. Frames of a client are masked, those of the server can be
    read. struck: it has."""

    def __init__(self) -> None:
        self.struck = threading.Event()
        self._marker: bytes | None = None
        self._waiting = False

    def arm(self, marker: bytes, *, reached: bool = False) -> None:
        """At the next bytes of the server with this marker: before the client gets them, or, reached, before the server
        gets what the client says next. b"" = before the server gets anything."""
        self.struck.clear()
        self._waiting = reached or not marker
        self._marker = marker

    def __call__(self, link: object, from_client: bool, data: bytes) -> bytes | None:
        if self._marker is None:
            return data
        if not from_client and self._marker and self._marker in data:
            if self._waiting:
                self._marker = b""
                return data
        elif not (from_client and self._waiting and not self._marker):
            return data
        self._marker = None
        self.struck.set()
        return None


class Talk:
    """Two users, each in a place of its own and behind a proxy, who write to each other."""

    def __init__(self, people: People, ends: list[Place]) -> None:
        self.people = people
        self.ends = ends
        self.names: list[str] = []
        self.proxies = [Proxy(people.daemon.ports["mobileimsdk-ws"]) for _ in ends]
        self.sent = 0

    async def begin(self, **options: Any) -> None:
        self.names = [await self.people.user(name) for name in ("ann", "bob")]
        for place, name, proxy in zip(self.ends, self.names, self.proxies, strict=True):
            where = server(self.people, port=proxy.port)
            await place.run(
                "globalThis.chat = await login(server, name, options); read(chat); globalThis.sending = [];",
                server=where, name=name, options=options,
            )  # fmt: skip

    async def write(self) -> None:
        """One message each way; nobody waits for it."""
        for place, to in zip(self.ends, reversed(self.names), strict=True):
            await place.run(
                "const one = chat.send(to, text, { fp: `fp of ${text}` }); one.catch(() => {}); sending.push(one);",
                to=to,
                text=str(self.sent),
            )
        self.sent += 1

    async def judge(self, limit_ms: int = 25_000) -> list[str]:
        """What is wrong; nothing, if each message was stored once and taken once, in order."""
        wrong = []
        for place, other in zip(self.ends, reversed(self.names), strict=True):
            found = await place.run(
                """
                const stored = await Promise.race([
                  Promise.allSettled(sending), new Promise((resolve) => setTimeout(resolve, limit, [])),
                ]);
                await until("all is taken", () => chat.got.length >= count, limit).catch(() => {});
                await new Promise((resolve) => setTimeout(resolve, 250)); // what is given twice would come now
                const past = await all(chat.conversations.history(other, { after: 0 }));
                const got = chat.got.map(([, text]) => text);
                return {
                  got, stored: stored.map((one) => one.status),
                  waiting: chat.unacknowledged,
                  written: past.filter((one) => one.from === other).map((one) => one.text),
                };
                """,
                count=self.sent, other=other, limit=limit_ms,
            )  # fmt: skip
            expected = [str(number) for number in range(self.sent)]
            if found["stored"] != ["fulfilled"] * self.sent or found["waiting"]:
                wrong.append(f"not acknowledged: {found['stored']}, {found['waiting']}")
            wrong += [f"{kind}: {found[kind]}" for kind in ("got", "written") if found[kind] != expected]
        return wrong

    def close(self) -> None:
        for proxy in self.proxies:
            proxy.close()


@asynccontextmanager
async def talk(people: People, *ends: Place, **options: Any) -> AsyncIterator[Talk]:
    made = Talk(people, list(ends))
    try:
        await made.begin(**options)
        yield made
    finally:
        made.close()


def test_nothing_is_lost_or_doubled_by_cuts_kills_and_silence(people: People, browser: Browser) -> None:
    """One user in a page, one in Node.js. A worker and then the whole server are killed while they write."""
    daemon = people.daemon

    async def story() -> None:
        timing = {"keepAlive": 300, "answer": 1500}
        async with (
            places.node() as here,
            places.profile(browser) as made,
            talk(people, here, await made.tab(), timing=timing) as both,
        ):
            await both.ends[1].run("chat.slow = 20")
            for number in range(ROUNDS):
                await both.write()
                await asyncio.to_thread(fault, number, both.proxies)
            assert await both.judge() == []
            connections = [
                await one.run('return chat.heard.filter((one) => one.data.state === "live").length')
                for one in both.ends
            ]
            assert min(connections) >= 2, "every client had to come back"
            assert await both.ends[1].run("return violations") == []

    def fault(number: int, proxies: list[Proxy]) -> None:
        victim = proxies[number % 2]
        match number:
            case 1 | 6 | 7 | 10 | 12:
                victim.cut()
            case 2 | 11:
                victim.freeze()  # the other side looks alive, and answers nothing
            case 4 | 13:
                for one in proxies:
                    one.thaw()
            case 5:
                os.kill(daemon.workers()[0], signal.SIGKILL)
            case 8:
                wait_until(20, "every worker ready", daemon.all_ready, 0.05)
                daemon.kill_all()
                daemon.start()

    run(story(), 100)


def test_a_client_with_a_bug_is_found(people: People, tmp_path: Path) -> None:
    async def story(bug: str) -> list[str]:
        loses = Loses()
        folder = tmp_path / (bug or "none")
        folder.mkdir()
        module = with_bug(folder, bug)
        async with places.node(module) as here, places.node() as there, talk(people, here, there) as both:
            both.proxies[0].hook = loses
            await both.write()
            await until_taken(here, 1)
            # The answer of the server is lost: has it stored the message?
            loses.arm(b'"dataContent":"fp of 1"')
            await both.write()
            await until(10, "the answer is lost", loses.struck.is_set)
            await until_taken(here, 2)
            # What the client acknowledges is lost: has the program taken the message?
            loses.arm(b'"dataContent":"2"', reached=True)
            await both.write()
            await until(10, "the acknowledgement is lost", loses.struck.is_set)
            await until_taken(here, 3)
            # The last message is lost, and no later one reminds the client of it.
            loses.arm(b'"dataContent":"fp of 3"')
            await both.write()
            try:
                await until(2, "the answer is lost", loses.struck.is_set)
            except TimeoutError:
                return ["nothing is sent any more"]
            return await both.judge(10_000 if not bug else 1200)

    async def until_taken(place: Node, count: int) -> None:
        await place.run('await until("it is taken", () => chat.got.length >= count)', count=count)

    async def all_of_them() -> dict[str, list[str]]:
        bugs = ["", *BUGS]
        return dict(zip(bugs, await asyncio.gather(*map(story, bugs)), strict=True))

    found = run(all_of_them(), 60)
    assert found.pop("") == []
    assert all(found.values()), found


def test_what_the_server_has_stored_without_an_answer_is_stored_once(people: People) -> None:
    async def story(proxy: Proxy, loses: Loses) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        async with places.node() as place:
            await place.run(
                "globalThis.a = await login(server, ann); globalThis.b = await login(direct, bob);",
                server=server(people, port=proxy.port), direct=server(people), ann=ann, bob=bob,
            )  # fmt: skip
            for number, marker in enumerate((b'"fp of 0"', b"")):
                loses.arm(marker)
                source = "return await a.send(bob, text, { fp: `fp of ${text}` })"
                sent = await place.run(source, bob=bob, text=str(number))
                assert loses.struck.is_set()
                assert sent["seq"] == number + 1
            for marker in (b"lost", b""):
                loses.arm(marker)
                assert await place.run('return await a.profiles.set({ status: "lost" })') == {"status": "lost"}
                assert loses.struck.is_set()
            await place.run('equal(await texts(b, 2), ["0", "1"]); await nothing(b);')
            proxy.refuse()
            await place.run(
                """
                equal(await refused(a.send(bob, "late", { fp: "mine", timeout: 50 })), ["NotAcknowledged", 0, true]);
                equal([a.unacknowledged, a.outbox.map((one) => one.text)], [1, ["late"]]);
                globalThis.again = a.send(bob, "late", { fp: "mine" });
                """,
                bob=bob,
            )
            proxy.allow()
            await place.run('equal((await again).fp, "mine"); equal(await texts(b, 1), ["late"]); await nothing(b);')

    loses = Loses()
    with Proxy(people.daemon.ports["mobileimsdk-ws"], hook=loses) as proxy:
        run(story(proxy, loses))


def test_who_reads_too_slowly_disconnects_until_there_is_room(people: People) -> None:
    async def story(place: Place, where: dict[str, str]) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        await place.run(
            """
            const a = await login(server, ann, { inboxMessages: 8 }), b = await login(server, bob);
            const many = Array.from({ length: 40 }, (_, at) => String(at));
            await Promise.all(many.map((text) => b.send(ann, text)));
            await until("the inbox is full", () => a.state === State.WAITING);
            equal(await texts(a, 40), many);
            await nothing(a);
            """,
            server=where, ann=ann, bob=bob,
        )  # fmt: skip

    async def whole() -> None:
        async with places.node() as place:
            await story(place, server(people))

    run(whole())


# ---------------------------------------------------------------- what an operator does


def test_draining_an_upgrade_and_a_kick(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """An upgrade is not noticed. When workers are replaced, a client with TLS, which cannot be handed over, comes back
    when it was told to. One whose session is ended does not."""
    people = People(make_daemon(workers=2, certificate=Certificate(tmp_path / "certificate")).start())

    async def story(place: Node) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        await place.run(
            "globalThis.a = await login(server, ann); globalThis.b = await login(server, bob); await b.send(ann, '0');",
            server=server(people), ann=ann, bob=bob,
        )  # fmt: skip
        await order(upgrade_of, people.daemon)
        await place.run(
            """
            await b.send(ann, "1");
            equal(await texts(a, 2), ["0", "1"]);
            for (const one of [a, b]) equal(one.heard.filter((heard) => heard.event === "state").length, 1);
            await a.close();
            globalThis.a = await login(secure, ann);
            """,
            ann=ann, secure=server(people, "wss"),
        )  # fmt: skip
        await order(people.daemon.ctl, "restart-workers")
        waited, asked = await place.run("""
            const told = await event(a, "draining");
            const back = await until("it is back", () => a.heard.find((one) => one.data.state === "live"));
            return [back.data.at - told.at, told.retry_after_ms];
            """)
        assert asked <= waited + 1 < asked + 10_000
        await place.run('await b.send(ann, "2"); equal(await texts(a, 1), ["2"]);', ann=ann)
        code, _, said = await asyncio.to_thread(people.daemon.ctl_said, "kick", ann)
        assert code == 0, said
        await place.run("""
            await until("it is ended", () => a.state === State.CLOSED);
            equal(await a.receive().catch((error) => [error.constructor.name, error.why]), ["Kicked", "admin"]);
            """)

    async def order(does: Callable[..., Any], *arguments: Any) -> None:
        done = await asyncio.to_thread(does, *arguments)
        assert done.returncode == 0, done.stderr

    run(inside(story, people.daemon.certificate), 100)


async def inside(story: Callable[[Node], Awaitable[None]], trusted: Certificate | None = None) -> None:
    async with places.node(trusted=trusted) as place:
        await story(place)


def test_limits_of_the_server(make_daemon: Callable[..., Daemon]) -> None:
    """A full mailbox is tried again, and taken back when the time is over; too many requests are put off."""
    people = People(make_daemon(limits={"waiting_from_one": 10, "commands_per_s": 40}).start())

    async def story(place: Node) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        await place.run("""
            const b = await login(server, bob);
            for (let at = 0; at < 10; at += 1) await b.send(ann, String(at));
            equal(await refused(b.send(ann, "10", { timeout: 300 })), ["LimitReached", Code.MAILBOX_FULL, true]);
            equal(b.unacknowledged, 0);
            const waiting = b.send(ann, "11", { fp: "mine" });
            equal(await refused(b.send(ann, "12", { fp: "mine" })), ["Invalid", Code.FP_REUSED, false]);
            const a = await login(server, ann);
            equal(await texts(a, 11), [..."0123456789", "11"]);
            await waiting;
            const many = Array.from({ length: 80 }, (_, at) => `${at}`);
            const answers = await Promise.all(many.map((text) => b.request("echo", { text })));
            equal(answers.map((one) => one.text), many);
            """, server=server(people), ann=ann, bob=bob)  # fmt: skip

    run(inside(story))
