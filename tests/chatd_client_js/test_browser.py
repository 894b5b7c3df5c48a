"""What only a browser does: tabs that are closed, reloaded and opened twice, a network that goes and comes, hidden
pages, a strict Content-Security-Policy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.chatd_client.people import People
from tests.chatd_client_js import places
from tests.chatd_client_js.conftest import server
from tests.chatd_client_js.places import HOME, Browser, Profile, Tab
from tests.harness.deadline import run
from tests.harness.proxy import Proxy

OPEN = """
    const journal = new IndexedDbJournal(`chat/${name}`, { takeOver });
    globalThis.chat = await make(server, name, { journal }).open();
"""
FORGETS_SENT = (
    "return this._try((journal) => journal.set(`sent:${message.fp}`, message));",
    "return Promise.resolve();",
)
FORGETS_TAKEN = ("await this._try((journal) => journal.set(`seen:${id}`, this.seen.kept(id)));", "")


def with_bug(bug: tuple[str, str]) -> bytes:
    text = (HOME / "chatd.js").read_text()
    assert text.count(bug[0]) == 1
    return text.replace(*bug).encode()


async def closed_and_opened(people: People, made: Profile) -> None:
    """A tab is closed while a message is not sent, and what it has taken is not acknowledged. Raises JavaScriptError if
    the next tab loses or doubles something."""
    ann, bob = await people.user("ann"), await people.user("bob")
    with Proxy(people.daemon.ports["mobileimsdk-ws"]) as proxy:
        where = {"name": ann, "server": server(people, port=proxy.port), "takeOver": False}
        async with people.client(bob) as b:
            for number in range(5):
                await b.send(ann, str(number))
            first = await made.tab()
            await first.run(OPEN + 'equal(await texts(chat, 3), ["0", "1", "2"]);', **where)
            proxy.refuse()
            await first.run(
                """
                equal(await texts(chat, 1), ["3"]); // so "2" is taken, and "3" is not
                for (const text of ["kept", "as well"]) chat.send(bob, text).catch(() => {});
                await until("it is in the journal", () => chat.heard.filter(({ event, data }) =>
                  event === "outbox" && data.state === "waiting").length === 2);
                equal(chat.outbox.map((one) => one.text), ["kept", "as well"]);
                """,
                bob=bob,
            )
            await first.close()
            proxy.allow()
            second = await made.tab()
            await second.run(
                OPEN
                + """
                equal(await texts(chat, 2), ["3", "4"]);
                await until("it is stored", () => chat.unacknowledged === 0);
                const told = chat.heard.filter(({ event }) => event === "outbox").map(({ data }) => data);
                equal(told.map(({ state, message, sent }) => [state, message.text, sent.seq]),
                  [["stored", "kept", 6], ["stored", "as well", 7]]);
                await nothing(chat);
                await chat.close();
                equal(violations, []);
                """,
                **where,
            )
            assert [(await b.receive(10)).text for _ in range(2)] == ["kept", "as well"]
            with pytest.raises(TimeoutError):
                await b.receive(0.2)
            await second.call("Page.enable")
            await second.call("Page.reload")
            await second.load()
            await second.run(OPEN + "await nothing(chat); equal(chat.outbox, []); await chat.close();", **where)


def in_profile(browser: Browser, story: Callable[[Profile], Awaitable[None]], module: bytes = b"") -> None:
    async def whole() -> None:
        async with places.profile(browser, module) as made:
            await story(made)

    run(whole(), 60)


def test_a_closed_tab_loses_nothing_and_doubles_nothing(people: People, browser: Browser) -> None:
    in_profile(browser, lambda made: closed_and_opened(people, made))


@pytest.mark.parametrize(
    ("bug", "found"),
    [(FORGETS_SENT, "it is stored|is not|in time"), (FORGETS_TAKEN, r'\["\d","\d"\] is not \["3","4"\]')],
    ids=["forgets what it sends", "forgets what was taken"],
)
def test_a_journal_with_a_bug_is_found(people: People, browser: Browser, bug: tuple[str, str], found: str) -> None:
    with pytest.raises(places.JavaScriptError, match=found):
        in_profile(browser, lambda made: closed_and_opened(people, made), with_bug(bug))


def test_two_tabs_of_one_user(people: People, browser: Browser) -> None:
    """The second one is told, and can take over; then the first one is over, and nothing is lost between them."""

    async def story(made: Profile) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        where = {"name": ann, "server": server(people), "takeOver": False}
        first, second = await made.tab(), await made.tab()
        async with people.client(bob) as b:
            for number in range(3):
                await b.send(ann, str(number))
            await first.run(OPEN + 'equal(await texts(chat, 2), ["0", "1"]);', **where)
            await second.run(
                "equal(await refused((async () => {" + OPEN + '})()), ["JournalUnusable", 0, false])', **where
            )
            await first.run("equal(chat.state, State.LIVE)")
            await second.run(OPEN + 'equal(await texts(chat, 2), ["1", "2"]);', **{**where, "takeOver": True})
            await first.run("""
                await until("it is over", () => chat.state === State.CLOSED);
                const ended = await chat.receive().catch((error) => [error.constructor.name, error.why]);
                equal(ended, ["Kicked", "duplicate"]);
                """)
            await second.run(
                """
                await chat.send(bob, "still here");
                const other = { journal: new IndexedDbJournal(`chat/${name}`, { takeOver: true }) };
                equal((await refused(make(server, bob, other).open()))[0], "JournalUnusable"); // it is ann's
                """,
                **where, bob=bob,
            )  # fmt: skip
            assert (await b.receive(10)).text == "still here"

    in_profile(browser, story)


@pytest.mark.slow
def test_a_tab_that_does_not_answer_is_taken_over_nevertheless(people: People, browser: Browser) -> None:
    """As one that the browser has frozen: its page runs in an endless loop, and its server's answers wait."""

    async def story(made: Profile) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        where = {"name": ann, "server": server(people), "takeOver": False}
        first, second = await made.tab(), await made.tab()
        async with people.client(bob) as b:
            await b.send(ann, "0")
            await first.run(OPEN + 'equal(await texts(chat, 1), ["0"]);', **where)
            await first.run("setTimeout(() => { for (const end = Date.now() + 6000; Date.now() < end; ); }, 0);")
            began = asyncio.get_running_loop().time()
            await second.run(OPEN + 'equal(await texts(chat, 1), ["0"]);', **{**where, "takeOver": True})
            assert asyncio.get_running_loop().time() - began < 5.5
            await first.run('await until("it is over", () => chat.state === State.CLOSED);')
            await second.run('await chat.send(bob, "here"); equal(chat.state, State.LIVE);', bob=bob)
            assert (await b.receive(10)).text == "here"

    in_profile(browser, story)


def test_the_network_goes_and_comes(people: People, browser: Browser) -> None:
    """A page is opened offline; it comes back when the browser says so, long before its pause is over."""

    async def story(made: Profile) -> None:
        ann, bob = await people.user("ann"), await people.user("bob")
        tab = await made.tab()
        await tab.call("Network.enable")
        with Proxy(people.daemon.ports["mobileimsdk-ws"]) as proxy:

            async def network(there: bool) -> None:
                await tab.call(
                    "Network.emulateNetworkConditions",
                    offline=not there, latency=0, downloadThroughput=-1, uploadThroughput=-1,
                )  # fmt: skip
                (proxy.thaw if there else proxy.freeze)()

            proxy.refuse()
            await network(False)
            await tab.run(
                """
                const never = { enter: Infinity, send: Infinity, backoffFirst: 600000, backoffMost: 600000 };
                const timing = { ...never, probe: 100 };
                globalThis.chat = make(server, name, { timing, journal: new IndexedDbJournal("chat") });
                globalThis.opening = chat.open();
                globalThis.sent = [chat.send(bob, "0"), chat.send(bob, "1")];
                await until("it waits", () => chat.state === State.WAITING);
                equal([navigator.onLine, chat.unacknowledged], [false, 2]);
                """,
                server=server(people, port=proxy.port), name=ann, bob=bob,
            )  # fmt: skip
            proxy.allow()
            await network(True)
            await tab.run("await opening; equal((await Promise.all(sent)).map((one) => one.seq), [1, 2]);")
            await network(False)
            await tab.run('await until("it is noticed", () => chat.state === State.WAITING);')
            sending = "globalThis.sent = [chat.send(bob, '2')]; equal(chat.state, State.WAITING);"
            await tab.run(sending, bob=bob)
            proxy.cut()
            await network(True)
            await tab.run("equal((await sent[0]).seq, 3); equal(chat.state, State.LIVE); equal(violations, []);")
        async with people.client(bob) as b:
            assert [(await b.receive(10)).text for _ in range(3)] == ["0", "1", "2"]

    in_profile(browser, story)


def test_timers_of_a_hidden_page_run_in_a_worker(people: People, browser: Browser) -> None:
    """Browsers let the timers of a hidden page fire once a minute: here, those of the page never do."""
    source = """
    document.hasFocus = () => false;
    const real = setTimeout;
    globalThis.setTimeout = (work, ms) => real(work, ms < 50 ? ms : 3600000);
    let signs = 0;
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
      signs += JSON.parse(data).type === 1;
      send.call(this, data);
    };
    const chat = await login(server, name, { timing: { keepAlive: 60 }, timers });
    Object.defineProperty(document, "hidden", { get: () => true });
    document.dispatchEvent(new Event("visibilitychange"));
    await until("signs of life", () => signs > 3, limit).catch(() => {});
    globalThis.setTimeout = real;
    await chat.close();
    equal(violations, []);
    return signs;
    """

    async def story(made: Profile) -> None:
        for timers, alive in (("/chatd.js", True), ("/there-is-none.js", False)):
            tab = await made.tab()
            name = await people.user("ann")
            signs = await tab.run(
                source,
                server=server(people), name=name, timers=timers, limit=10_000 if alive else 400,
            )  # fmt: skip
            assert (signs > 3) is alive, (timers, signs)

    in_profile(browser, story)


def test_wss_with_a_certificate(people: People, browser: Browser) -> None:
    async def story(made: Profile) -> None:
        tab: Tab = await made.tab()
        await tab.run(
            """
            const chat = await login(server, name);
            await chat.send(name, "to myself");
            equal(await texts(chat, 1), ["to myself"]);
            equal(violations, []);
            """,
            server=server(people, "wss"), name=await people.user("ann"),
        )  # fmt: skip

    in_profile(browser, story)
