"""Notifications while the user is away, in a real browser: the setting, the service worker, and what a click opens.

A browser without a window has no push service to subscribe to. So PushManager is replaced in the page by one that
subscribes to the push service of the test, which decrypts what the server sends; the browser's own machinery is then
given it (CDP, ServiceWorker.deliverPushMessage), and runs the service worker.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Page

from tests.harness.browser import WHOLE_CHROMIUM
from tests.harness.deadline import until
from tests.push.house import noted, options_of
from tests.push.receiver import Browser, PushService
from tests.web.desk import Desk, Site, Stage, Visitor

MANAGER = """((told) => {
  if (!("ServiceWorkerRegistration" in globalThis)) return; // about:blank
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (one) => one.charCodeAt(0));
  const subscription = {
    endpoint: told.endpoint,
    get options() { return { applicationServerKey: bytes(localStorage.stub).buffer }; },
    toJSON: () => ({ expirationTime: null, ...told }),
    unsubscribe: async () => (localStorage.removeItem("stub"), true),
  };
  const manager = {
    getSubscription: async () => ("stub" in localStorage ? subscription : null),
    subscribe: async ({ userVisibleOnly, applicationServerKey }) => {
      if (!userVisibleOnly || "stub" in localStorage) throw new DOMException("no", "NotAllowedError");
      localStorage.stub = applicationServerKey;
      return subscription;
    },
  };
  Object.defineProperty(ServiceWorkerRegistration.prototype, "pushManager", { get: () => manager });
})(TOLD);"""
NOTIFICATIONS = """async () => {
  const found = await (await navigator.serviceWorker.ready).getNotifications();
  return found.map(({ title, body, tag, data }) => ({ title, body, tag, data }));
}"""
CLICK = """async () => {
  const [notification] = await self.registration.getNotifications();
  self.dispatchEvent(new NotificationEvent("notificationclick", { notification }));
}"""


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(WHOLE_CHROMIUM)
    yield desk
    desk.close()


@pytest.fixture(scope="module")
def pushing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, PushService]]:
    root = tmp_path_factory.mktemp("push")
    public, table = options_of(root)
    service = PushService(public)
    site = Site(root / "site", workers=1, push=table)
    site.start()
    site.people("ann", "bob", "carol", "dave")
    yield site, service
    assert site.discard() == []
    service.close()
    assert service.complaints == []


async def with_browser(stage: Stage, name: str, browser: Browser) -> Visitor:
    """Who is logged in, and whose browser subscribes to the push service of the test."""
    visitor = await stage.visitor()
    told = {"endpoint": browser.endpoint, "keys": browser.keys}
    await visitor.page.context.add_init_script(MANAGER.replace("TOLD", json.dumps(told)))
    await visitor.page.context.grant_permissions(["notifications"], origin=stage.site.url.rstrip("/"))
    await visitor.log_in(name)
    return visitor


async def switch(page: Page, *, on: bool) -> None:
    await page.get_by_role("button", name="Settings").click()
    box = page.get_by_label("Notify me when I am away")
    await (box.check() if on else box.uncheck())
    await page.keyboard.press("Escape")


def subscribed(site: Site) -> int:
    code, out, said = site.ctl_said("push", "show", "--json")
    assert code == 0, said
    return int(json.loads(out)["subscriptions"])


async def subscriptions(site: Site, count: int) -> None:
    await until(10, f"{count} subscriptions", lambda: subscribed(site) == count, 0.1)


async def deliver(page: Page, site: Site, note: dict[str, Any]) -> None:
    """To the service worker, as a push service does."""
    session = await page.context.new_cdp_session(page)
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def registered(event: Any) -> None:
        for one in event["registrations"]:
            if not one["isDeleted"] and not found.done():
                found.set_result(one["registrationId"])

    session.on("ServiceWorker.workerRegistrationUpdated", registered)
    await session.send("ServiceWorker.enable")
    number = await asyncio.wait_for(found, 10)
    await session.send(
        "ServiceWorker.deliverPushMessage",
        {"origin": site.url.rstrip("/"), "registrationId": number, "data": json.dumps(note)},
    )
    await session.detach()


async def shown(page: Page, count: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for _ in range(100):
        found = await page.evaluate(NOTIFICATIONS)
        if len(found) >= count:
            break
        await asyncio.sleep(0.05)
    assert len(found) == count, found
    return found


def test_who_is_away_is_notified_and_a_click_opens_the_conversation(
    desk: Desk, pushing: tuple[Site, PushService]
) -> None:
    site, service = pushing
    browser = Browser(service)

    async def story(stage: Stage) -> None:
        ann, bob = await with_browser(stage, "ann", browser), await stage.person("bob")
        before = subscribed(site)
        await switch(ann.page, on=True)
        await subscriptions(site, before + 1)
        await bob.open("ann")
        await ann.open("bob")
        await bob.write("you are here")
        await bob.state_of("you are here", "read")
        await ann.page.goto("about:blank")  # her last page is closed
        await asyncio.to_thread(_has_left, site, "ann")
        await bob.write("are you there?")
        (note,) = await noted(browser)
        assert (note["for"], note["sender"], note["text"]) == ("ann", "bob", "are you there?")
        # and what the browser does with it, while no page of the chat is open
        await deliver(ann.page, site, {**note, "count": 2})
        await ann.page.goto(site.url)
        await ann.is_live()
        (told,) = await shown(ann.page)
        assert told["title"] == "bob"
        assert told["body"] == "are you there?\n2 messages wait for you"
        (worker,) = ann.page.context.service_workers
        await worker.evaluate(CLICK)
        await ann.page.wait_for_selector('.thread header h2:has-text("bob")')
        await ann.sees("are you there?")

    desk.play(site, story)


def _has_left(site: Site, name: str) -> None:
    from tests.harness.deadline import wait_until

    def left() -> bool:
        code, out, _ = site.ctl_said("user", "sessions", name, "--json")
        return code == 0 and json.loads(out)["sessions"] == []

    wait_until(20, f"{name} has left", left)


def test_a_notification_opens_its_conversation_in_a_new_page(desk: Desk, pushing: tuple[Site, PushService]) -> None:
    """That of the one for whom it was, and of nobody whom the user cannot write to."""
    site, _ = pushing

    async def story(stage: Stage) -> None:
        carol = await stage.visitor()
        await carol.log_in("carol", stay=True)
        for asked, heading in (
            ("for=carol&open=dave", "dave"),
            ("for=ann&open=dave", ""),
            ("for=carol&open=nobody", ""),
        ):
            await carol.page.goto("about:blank")
            await carol.page.goto(f"{site.url}#{asked}")
            await carol.is_live()
            if heading:
                await carol.page.wait_for_selector(f".thread header h2:has-text({heading!r})")
            else:
                await asyncio.sleep(0.3)
                assert await carol.page.locator(".thread header h2").count() == 0
            assert carol.page.url == site.url

    desk.play(site, story)


def test_whoever_logs_out_is_notified_no_more(desk: Desk, pushing: tuple[Site, PushService]) -> None:
    """And is again after the next login; somebody else who logs in there is not."""
    site, service = pushing
    browser = Browser(service)

    async def story(stage: Stage) -> None:
        dave = await with_browser(stage, "dave", browser)
        before = subscribed(site)
        await switch(dave.page, on=True)
        await subscriptions(site, before + 1)
        await dave.page.get_by_role("button", name="Log out").click()
        await dave.page.wait_for_selector(".login form")
        await subscriptions(site, before)
        assert await dave.page.evaluate("localStorage.stub ?? ''") == ""
        await dave.log_in("dave")
        await subscriptions(site, before + 1)
        await dave.page.get_by_role("button", name="Log out").click()
        await dave.page.wait_for_selector(".login form")
        await dave.log_in("carol")
        await subscriptions(site, before)
        await dave.page.get_by_role("button", name="Log out").click()
        await dave.page.wait_for_selector(".login form")
        await dave.log_in("dave")
        await subscriptions(site, before + 1)
        await switch(dave.page, on=False)
        await subscriptions(site, before)

    desk.play(site, story)


@pytest.mark.slow
def test_another_password_ends_the_subscription_and_the_page_renews_it(
    desk: Desk, pushing: tuple[Site, PushService]
) -> None:
    site, service = pushing
    browser = Browser(service)

    async def story(stage: Stage) -> None:
        carol, bob = await with_browser(stage, "carol", browser), await stage.person("bob")
        before = subscribed(site)
        await switch(carol.page, on=True)
        await subscriptions(site, before + 1)
        await carol.page.get_by_role("button", name="Settings").click()
        await carol.page.get_by_label("Present password").fill("secret of carol")
        await carol.page.get_by_label("New password").fill("another secret of carol")
        await carol.page.get_by_role("button", name="Change").click()
        await carol.page.get_by_text("Saved").wait_for()
        await asyncio.sleep(0.5)
        await carol.page.goto("about:blank")
        await asyncio.to_thread(_has_left, site, "carol")
        await bob.open("carol")
        await bob.write("still there?")
        (note,) = await noted(browser)
        assert note["text"] == "still there?"

    desk.play(site, story)


def test_the_worker_is_served_at_the_root_with_the_policy_of_the_page(pushing: tuple[Site, PushService]) -> None:
    from chatd.http.assets import POLICY
    from tests.http.raw import Raw

    site, _ = pushing
    with Raw(site.ports["http"]) as raw:
        said = raw.ask(b"GET /sw.js?language=zh HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (said.status, said.headers["cache-control"]) == (200, "no-cache")
    assert said.headers["content-type"].startswith("text/javascript")
    assert said.headers["content-security-policy"] == POLICY
    assert "worker-src 'self'" in POLICY
    assert b"fetch(" not in said.body
    assert b'addEventListener("fetch"' not in said.body
