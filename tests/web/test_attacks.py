"""What other pages and other people try against the page, in a real browser.

The other pages come from another origin: another port, and "localhost" beside "127.0.0.1", which browsers call another
site as well.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.async_api import Page

from tests.web.desk import Desk, Site, Stage, Visitor, secret_of

PAYLOADS = (
    "<img src=x onerror=owned()>",
    "<svg/onload=owned()>",
    '"><script>owned()</script>',
    "'onmouseover='owned()",
    "javascript:owned()",
    "${owned()}{{owned()}}",
    "</textarea></title><script>owned()</script>",
)
GUARD = "window.owned = () => { window.isOwned = true; };"
IS_CLEAN = """() => !window.isOwned && [...document.querySelectorAll("*")].every((one) =>
    ![...one.attributes].some(({ name }) => name.startsWith("on")) && !/^javascript:/i.test(one.href ?? ""))
    && document.querySelectorAll("#app img[src=x], #app script, #app svg[onload], body > script").length === 0"""


class _Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><meta charset=utf-8><title>elsewhere</title><body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Not."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of an empty page of another origin and site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    server.server_close()


async def hostile(stage: Stage, victim: Visitor, elsewhere: str) -> Page:
    """A page of another origin, in the browser of the victim. What the browser reports in it is expected."""
    page = await victim.page.context.new_page()
    page.set_default_timeout(20_000)
    await page.goto(elsewhere)
    return page


def test_no_other_page_frames_it(desk: Desk, site: Site, elsewhere: str) -> None:
    """A page that could be framed could be clicked unseen. The browser is shown to frame, by a page of its own."""
    framed = """async (src) => {
        const frame = document.createElement("iframe");
        frame.src = src;
        document.body.append(frame);
        await new Promise((resolve) => frame.addEventListener("load", resolve));
    }"""

    async def story(stage: Stage) -> None:
        victim = await stage.person("fay1")
        page = await hostile(stage, victim, elsewhere)
        for path in ("", "#x"):
            await page.evaluate(framed, site.url + path)
            frame = page.frames[-1]
            assert not frame.url.startswith(site.url), frame.url
            assert await frame.locator("#app").count() == 0
        await page.evaluate(framed, elsewhere)
        assert await page.frames[-1].title() == "elsewhere"

    desk.play(site, story)


CALLS = """async (url) => {
    const told = {};
    const tries = {
        json: { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" },
        plain: { method: "POST", headers: { "Content-Type": "text/plain" }, body: "{}" },
        unseen: { method: "POST", mode: "no-cors", body: "{}" },
        read: { method: "GET" },
    };
    for (const [name, options] of Object.entries(tries)) {
        try {
            const what = name === "read" ? "ways" : "pass";
            const answer = await fetch(`${url}chat/${what}`, { credentials: "include", ...options });
            told[name] = `${answer.type} ${await answer.text()}`;
        } catch {
            told[name] = "failed";
        }
    }
    return told;
}"""
FORM = """([url, type, name, secret]) => {
    const form = document.createElement("form");
    Object.assign(form, { method: "post", action: url, enctype: type, target: "answer" });
    const field = document.createElement("input");
    field.name = `{"name":"${name}","secret":"${secret}","stay":true,"x":"`;
    field.value = `"}`;
    form.append(field);
    document.body.append(form);
    form.submit();
}"""
TARGET = """() => {
    const frame = document.createElement("iframe");
    frame.name = "answer";
    document.body.append(frame);
}"""
SOCKET = """(url) => new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve("open");
    socket.onerror = () => resolve("refused");
})"""


async def cookies(visitor: Visitor) -> list[tuple[str, str]]:
    return [(one["name"], one["value"]) for one in await visitor.page.context.cookies()]


def test_no_other_page_acts_in_the_name_of_the_user(desk: Desk, site: Site, elsewhere: str) -> None:
    """By fetch, form or WebSocket; nor does it log the user out, or in as somebody else."""

    async def story(stage: Stage) -> None:
        victim = await stage.person("fay2")
        before = await cookies(victim)
        page = await hostile(stage, victim, elsewhere)
        told = await page.evaluate(CALLS, site.url)
        assert told == {"json": "failed", "plain": "failed", "unseen": "opaque ", "read": "failed"}
        await page.evaluate(TARGET)
        for path in ("chat/login", "chat/logout", "chat/register"):
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
                async with page.expect_response(site.url + path) as answered:
                    await page.evaluate(FORM, [site.url + path, kind, "gus2", secret_of("gus2")])
                assert (await answered.value).status in (403, 415)
        assert await page.evaluate(SOCKET, site.url.replace("http", "ws", 1) + "websocket") == "refused"
        assert await cookies(victim) == before
        await victim.page.reload()
        await victim.is_live()
        assert await victim.page.inner_text("h1") == "fay2"
        own = site.url.replace("http", "ws", 1) + "websocket"
        assert await victim.page.evaluate(SOCKET, own) == "open"  # so that it was refused for where it came from

    desk.play(site, story)


def test_a_cookie_from_before_the_login_is_worth_nothing_after_it(desk: Desk, site: Site) -> None:
    """Session fixation: whoever could plant a cookie, or had one of the browser, has no login by it."""

    async def story(stage: Stage) -> None:
        victim, thief = await stage.visitor(), await stage.person("gus3")
        (planted,) = await thief.page.context.cookies()
        made_up: Any = {**{key: planted.get(key) for key in ("name", "domain", "path")}, "value": "fixed"}
        await victim.page.context.add_cookies([made_up])
        await victim.log_in("fay3")
        (cookie,) = await victim.page.context.cookies()
        assert cookie["name"] == planted["name"]
        assert cookie["value"] not in ("fixed", planted["value"])
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert cookie["name"] not in await victim.page.evaluate("document.cookie")
        await thief.page.context.clear_cookies()
        await thief.page.context.add_cookies([made_up])
        await thief.page.reload()
        await thief.page.wait_for_selector("input[name=secret]")
        again = await stage.visitor()
        await again.log_in("fay3")
        (other,) = await again.page.context.cookies()
        assert other["value"] != cookie["value"]  # each login has its own

    desk.play(site, story)


def test_the_address_leads_nowhere_else_and_says_nothing(desk: Desk, site: Site, elsewhere: str) -> None:
    """Open redirects and addresses with markup: the page is shown, or an error, and from this origin."""
    ways = [
        f"?next={elsewhere}", f"?url=//localhost/&redirect={elsewhere}", f"#{elsewhere}", f"//{elsewhere[7:]}",
        "#<img src=x onerror=owned()>", "?<script>owned()</script>", "#javascript:owned()", "%2f%2flocalhost/",
        "\\localhost",
        "chat/..//localhost/", "?conversation=<svg/onload=owned()>", "#conversation=%3Csvg/onload=owned()%3E",
    ]  # fmt: skip

    async def story(stage: Stage) -> None:
        visitor = await stage.person("fay4")
        await visitor.page.add_init_script(GUARD)
        for way in ways:
            await visitor.page.goto("about:blank")
            answer = await visitor.page.goto(site.url + way)
            assert visitor.page.url.startswith(site.url), (way, visitor.page.url)
            assert answer is not None
            assert answer.request.redirected_from is None, way
            if answer.status == 200:
                await visitor.is_live()
            assert await visitor.page.evaluate(IS_CLEAN), way
        visitor.errors[:] = [one for one in visitor.errors if "404" not in one and "400" not in one]

    desk.play(site, story)


def test_markup_of_others_is_text_everywhere(desk: Desk, site: Site) -> None:
    """In texts, answers, drafts, profiles, names of groups and their descriptions, titles and notifications."""
    notes = """
        window.notes = [];
        window.Notification = class {
          static permission = "granted";
          static requestPermission = async () => "granted";
          constructor(title, options) { notes.push([title, options.body]); }
        };
        localStorage.setItem("chatd.notifications", "yes");
        Object.defineProperty(document, "hidden", { get: () => true });
    """
    whole = " ".join(PAYLOADS)

    async def story(stage: Stage) -> None:
        alice, bob = await stage.person("fay8"), await stage.visitor()
        await bob.page.add_init_script(GUARD + notes)
        await alice.page.add_init_script(GUARD)
        await bob.log_in("gus8")
        await alice.open("gus8")
        for payload in PAYLOADS:
            await alice.write(payload)
        await bob.page.locator(".row", has_text="fay8").click()
        for payload in PAYLOADS:
            await bob.sees(payload)
        assert [body for _, body in await bob.page.evaluate("notes")] == list(PAYLOADS)
        await bob.page.locator(".message").first.get_by_role("button", name="Actions").click()
        await bob.page.get_by_role("button", name="Reply").click()
        await bob.page.fill(".composer textarea", whole)
        await bob.page.locator(".replying").wait_for()
        assert await bob.page.evaluate(IS_CLEAN)
        await bob.page.press(".composer textarea", "Enter")
        await alice.page.locator("blockquote", has_text=PAYLOADS[0]).wait_for()
        await alice.page.get_by_label("Find in this conversation").fill("<svg")
        await alice.page.get_by_text("2 found").wait_for()
        await groups(alice, bob, PAYLOADS[0])
        for one in (alice, bob):
            assert await one.page.evaluate(IS_CLEAN)
            assert "<" not in await one.page.title()

    desk.play(site, story)


async def groups(alice: Visitor, bob: Visitor, payload: str) -> None:
    """A group that is called like this, to which the other one is invited."""
    await alice.page.click("#tab-groups")
    await alice.page.get_by_placeholder("Name of a new group").fill(payload)
    await alice.page.get_by_role("button", name="Create").click()
    await alice.page.get_by_role("button", name="Members and rules").click()
    dialog = alice.page.get_by_role("dialog")
    await dialog.get_by_placeholder("Name of the person").fill("gus8")
    await dialog.get_by_role("button", name="Invite").click()
    await bob.page.click("#tab-groups")
    await bob.page.locator(".person", has_text=payload).get_by_role("button", name="Join").click()
    await bob.page.locator(".open", has_text=payload).wait_for()


def test_scripts_that_get_in_all_the_same_do_not_run(desk: Desk, site: Site) -> None:
    """The policy is the second guard: with the first one gone, what is set as markup fails."""
    tries = """() => {
        const told = [];
        const attempt = (work) => { try { work(); told.push("done"); } catch (error) { told.push(error.name); } };
        attempt(() => { document.body.innerHTML = "<img src=x onerror=owned()>"; });
        attempt(() => document.write("<script>owned()</script>"));
        attempt(() => { document.createElement("script").text = "owned()"; });
        attempt(() => document.createElement("p").setAttribute("onclick", "owned()"));
        return told;
    }"""

    async def story(stage: Stage) -> list[str]:
        visitor = await stage.visitor()
        await visitor.page.add_init_script(GUARD)
        await visitor.page.goto(site.url)
        await visitor.page.wait_for_selector("form")
        told: list[str] = await visitor.page.evaluate(tries)
        assert not await visitor.page.evaluate("Boolean(window.isOwned)")
        assert visitor.errors, "the browser reports each of them"
        visitor.errors.clear()
        return told

    told = desk.play(site, story)
    assert set(told) == {"TypeError"}, told
