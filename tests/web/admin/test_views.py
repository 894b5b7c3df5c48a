"""Every view of the operator's page does what it is for, once; a reader may look; what people wrote is only text."""

from __future__ import annotations

import re

import pytest

from chatd.errors import ErrorCode
from tests.harness.api import Api, make_keys
from tests.harness.deadline import wait_until
from tests.http.raw import Raw
from tests.web.admin.office import Office, operator
from tests.web.desk import Desk, Stage
from tests.web.test_accessibility import findings

VIEWS = ("dashboard", "users", "groups", "clients", "keys", "webhooks", "invites", "bans", "log", "config", "server")
WRITES = """fetch("/admin/orders", {
    method: "POST", headers: {"Content-Type": "application/json"}, body: '{"cmd": "reload", "arguments": {}}',
}).then(async (answer) => ({status: answer.status, code: (await answer.json()).code}))"""
"""What a reader's browser is answered who gives an order without a button."""
GUESSER = "127.7.9.1"
MARKUP = "<img src=x onerror=alert(1)>"


def test_an_account_from_its_making_to_its_end(office: Office, desk: Desk) -> None:
    async def story(stage: Stage) -> None:
        root = await operator(stage, "root4")
        page = root.page
        await root.goes_to("users")
        await page.fill("form.bar input[name=name]", "newcomer")
        await page.fill("form.bar input[name=password]", "a-long-secret-1")
        await page.get_by_role("button", name="Make an account").click()
        await root.gives_a_code()
        card = page.locator("section.card")
        await card.get_by_role("heading", name="newcomer").wait_for()
        await page.get_by_label("Name begins with").fill("newc")
        await page.locator(".table tbody tr", has_text="newcomer").wait_for()
        root.visitor.errors.clear()  # the browser reports each request for a code
        await card.get_by_placeholder("Reason").fill("spam")
        await card.get_by_role("button", name="Lock", exact=True).click()
        await card.locator("dd", has_text="spam").wait_for()
        await card.get_by_role("button", name="Unlock").click()
        await card.get_by_placeholder("Reason").wait_for()
        await card.get_by_role("button", name="Erase").click()
        await card.get_by_role("button", name="Erase").click()
        await root.gives_a_code()
        await card.wait_for(state="detached")
        await page.locator(".table", has_text="Nothing here").wait_for()
        root.visitor.errors.clear()

    desk.play(office, story)
    kinds = [one["security"] for one in office.records() if one.get("administrator") == "root4"]
    assert kinds == ["account_created", "account_locked", "account_unlocked", "account_erased"]


def test_an_export_is_saved_and_a_password_set(office: Office, desk: Desk) -> None:
    office.people("exported")

    async def story(stage: Stage) -> None:
        root = await operator(stage, "root5")
        await root.goes_to("users")
        await root.page.get_by_role("button", name="exported").click()
        async with root.page.expect_download() as saving:
            await root.page.get_by_role("button", name="Export everything").click()
            await root.gives_a_code()
        assert (await saving.value).suggested_filename == "exported.zip"
        await root.page.get_by_placeholder("New password").fill("another-secret-1")
        await root.page.get_by_role("button", name="Set", exact=True).click()
        await root.gives_a_code()
        root.visitor.errors.clear()

    desk.play(office, story)


def test_a_key_is_shown_once_and_revoked(office: Office, desk: Desk) -> None:
    async def story(stage: Stage) -> None:
        root = await operator(stage, "root6")
        page = root.page
        await root.goes_to("keys")
        await page.fill("input[name=name]", "shop")
        await page.select_option("select[name=scopes]", ["users:read"])
        await page.get_by_role("button", name="Make a key").click()
        await root.gives_a_code()
        assert re.fullmatch(r"chatd_[\w-]{43}", await page.locator(".secret").inner_text())
        row = page.locator("tr", has_text="shop")
        await row.get_by_role("button", name="Revoke").click()
        await row.get_by_role("button", name="Revoke").click()
        await row.locator("td", has_text="revoked").wait_for()
        await root.goes_to("invites")
        await page.fill("input[name=note]", "for the team")
        await page.get_by_role("button", name="Make an invite code").click()
        assert re.fullmatch(r"(\w{6}-){2}\w{6}", await page.locator(".secret").inner_text())
        await page.locator("tr", has_text="for the team").get_by_role("button", name="Revoke").click()
        await page.locator("tr", has_text="for the team").locator("td", has_text="revoked").wait_for()
        root.visitor.errors.clear()

    desk.play(office, story)


def test_an_address_is_banned_and_let_in_again(office: Office, desk: Desk) -> None:
    async def story(stage: Stage) -> None:
        root = await operator(stage, "root7")
        page = root.page
        await root.goes_to("bans")
        await page.fill("input[name=network]", "127.0.0.1")
        await page.get_by_role("button", name="Ban", exact=True).click()
        await page.get_by_role("alert").filter(has_text="this host").wait_for()
        root.visitor.errors.clear()
        await page.fill("input[name=network]", "203.0.113.0/24")
        await page.get_by_role("button", name="Ban", exact=True).click()
        row = page.locator("tr", has_text="203.0.113.0/24")
        await row.get_by_role("button", name="Lift").click()
        await row.wait_for(state="detached")

    desk.play(office, story)


def test_penalties_are_forgiven(office: Office, desk: Desk) -> None:
    body = b'{"name": "stranger", "password": "a guess", "code": "123456"}'
    head = b"POST /admin/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with Raw(office.ports["admin"], GUESSER) as raw:
        assert raw.ask(head % len(body) + body).status == 403

    async def story(stage: Stage) -> None:
        root = await operator(stage, "root12")
        await root.goes_to("bans")
        row = root.page.locator("tr", has_text=GUESSER)
        await row.get_by_role("button", name="Forgive").click()
        await row.wait_for(state="detached")

    desk.play(office, story)


def test_the_log_follows_and_the_configuration_shows_what_waits(office: Office, desk: Desk) -> None:
    office.config["limits"] = {**office.config.get("limits", {}), "fp_bytes": 77}
    office.write_config()

    async def story(stage: Stage) -> None:
        root = await operator(stage, "root8")
        page = root.page
        await root.goes_to("log")
        await page.get_by_label("User").fill("root8")
        await page.get_by_label("User").press("Enter")
        await page.locator(".log tr", has_text="admin_login").wait_for()
        await page.get_by_label("Contains").fill("no record has this")
        await page.get_by_label("Contains").press("Enter")
        await page.locator(".log tr").first.wait_for(state="detached")
        await root.goes_to("config")
        await page.locator("tr", has_text="limits.fp_bytes").first.wait_for()
        await page.get_by_role("button", name="Reload the configuration").click()
        await page.locator("[role=status]", has_text="applied").wait_for()
        await page.get_by_label("Find an option").fill("fp_bytes")
        await page.locator("td", has_text="77").first.wait_for()

    desk.play(office, story)


def test_orders_are_given_and_dangerous_ones_need_a_code(office: Office, desk: Desk) -> None:
    async def story(stage: Stage) -> None:
        root = await operator(stage, "root9")
        page = root.page
        await root.goes_to("server")
        await page.get_by_placeholder("A text for everybody").fill("hello everybody")
        await page.get_by_role("button", name="Tell").click()
        await page.locator("[role=status]", has_text="Done.").wait_for()
        await page.get_by_role("button", name="Reopen the log").click()
        await page.locator("[role=status]", has_text="Done.").wait_for()
        await page.get_by_label("Minimum level logged").select_option("DEBUG")
        await page.locator("[role=status]", has_text="Done.").wait_for()
        await page.get_by_label("Minimum level logged").select_option("NORMAL")
        await page.get_by_placeholder("Trace the messages").fill("root9")
        await page.get_by_role("button", name="Trace", exact=True).click()
        await page.locator("section.card p", has_text="root9").wait_for()
        await page.get_by_role("button", name="Restart the workers").click()
        await page.get_by_role("button", name="Restart the workers").click()
        await root.gives_a_code()
        await page.locator("[role=status]", has_text="It has begun.").wait_for()
        root.visitor.errors.clear()  # the workers that the page was connected to have left, and a code was asked for

    desk.play(office, story)


@pytest.mark.parametrize(("scheme", "views"), [("light", VIEWS), pytest.param("dark", VIEWS, marks=pytest.mark.slow)])
def test_a_reader_sees_everything_and_can_change_nothing(
    office: Office, desk: Desk, scheme: str, views: tuple[str, ...]
) -> None:
    """axe-core finds nothing serious in any view."""

    async def story(stage: Stage) -> list[str]:
        reader = await operator(stage, "reader", color_scheme=scheme)
        found = []
        for view in views:
            await reader.goes_to(view)
            await reader.page.locator(".view :is(.table, .card, .figures, p:not(:empty))").first.wait_for()
            found += await findings(reader.page, view)
            buttons = await reader.page.locator(".view button").all_inner_texts()
            names = await reader.page.locator(".view td button").all_inner_texts()
            refused = await reader.page.evaluate(WRITES)
            assert refused == {"status": 403, "code": ErrorCode.SCOPE_MISSING}, view
            assert set(buttons) - set(names) <= {"Show more", "Look again", "Show"}, view
        reader.visitor.errors.clear()  # the browser reports each refusal
        return found

    assert desk.play(office, story) == []


def test_what_people_wrote_is_text_everywhere(office: Office, desk: Desk) -> None:
    """In names, groups, reasons and the log."""
    key = make_keys(office, all="admin")["all"]
    api = Api(office.ports["http"], key)
    office.people("writer")
    group = {"name": MARKUP, "owner": "writer", "description": MARKUP}
    wait_until(5, "every worker knows the key", lambda: api.post("/v1/groups", group).status == 201)
    assert api.call("PUT", "/v1/users/writer/lock", {"reason": MARKUP}).status == 200
    api.close()

    async def story(stage: Stage) -> None:
        root = await operator(stage, "root10")
        page = root.page
        await root.goes_to("groups")
        await page.get_by_role("button", name=MARKUP).click()
        await page.locator("section.card h2", has_text=MARKUP).wait_for()
        await root.goes_to("users")
        await page.get_by_role("button", name="writer").click()
        await page.locator("dd", has_text=MARKUP).wait_for()
        await root.goes_to("log")
        await page.locator(".log td", has_text="onerror").first.wait_for()
        assert await page.locator("img").count() == 0

    desk.play(office, story)
