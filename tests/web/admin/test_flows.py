"""Groups, webhooks and sessions on the operator's page, each order once; and pages that are left open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.api import Api, make_keys
from tests.harness.deadline import wait_until
from tests.web.admin.office import Office, operator
from tests.web.desk import Desk, Stage, secret_of
from tests.webhooks.receiver import Receiver

NAMES = ("flora", "felix", "fiona")


class FlowOffice(Office):
    """With a webhook, three people, and a group of two of them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, bus={"lease_s": 2})
        self.receiver = Receiver(root / "receiver").start()
        self.config["webhook"] = [self.receiver.options(events=["*"])]
        self.write_config()
        key = make_keys(self, all="admin")["all"]
        self.start()
        self.administrators(**{f"root{number}": "admin" for number in range(4)})
        self.people(*NAMES)
        api = Api(self.ports["http"], key)
        made = api.post("/v1/groups", {"name": "garden", "owner": "flora"})
        api.close()
        assert made.status == 201, made


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowOffice]:
    office = FlowOffice(tmp_path_factory.mktemp("flows"))
    yield office
    office.receiver.kill()
    assert office.discard() == []


@pytest.mark.slow
def test_a_group_from_its_first_member_to_its_end(flows: FlowOffice, desk: Desk) -> None:
    async def story(stage: Stage) -> None:
        root = await operator(stage, "root0")
        page = root.page
        await root.goes_to("groups")
        await page.get_by_role("button", name="garden").click()
        card = page.locator("section.card")
        for name in ("felix", "fiona"):
            await card.get_by_placeholder("Name", exact=True).first.fill(name)
            await card.get_by_role("button", name="Add").click()
            await card.locator("tr", has_text=name).wait_for()
        row = card.locator("tr", has_text="felix")
        await row.locator("select").select_option("admin")
        await card.locator("dd", has_text="3").first.wait_for()
        await card.locator("tr", has_text="fiona").get_by_role("button", name="Remove").click()
        await card.locator("tr", has_text="fiona").get_by_role("button", name="Remove").click()
        await card.locator("tr", has_text="fiona").wait_for(state="detached")
        await card.get_by_placeholder("Name", exact=True).last.fill("orchard")
        await card.get_by_role("button", name="Rename").click()
        await card.get_by_role("heading", name="orchard").wait_for()
        await page.reload()
        await page.locator("tr", has_text="orchard").wait_for()
        number = await page.locator("tr", has_text="orchard").locator("td").nth(1).inner_text()
        await page.get_by_placeholder("Number of a group").fill(number)
        await page.get_by_role("button", name="Show", exact=True).click()
        await card.locator("tr", has_text="felix").wait_for()
        assert await card.locator("tr", has_text="felix").locator("select").input_value() == "admin"
        await card.get_by_role("button", name="End the group").click()
        await card.get_by_role("button", name="End the group").click()
        await root.gives_a_code()
        await card.wait_for(state="detached")
        root.visitor.errors.clear()  # the browser reports the request for a code

    desk.play(flows, story)
    orders = [one["order"] for one in flows.records() if one.get("administrator") == "root0" and "order" in one]
    methods = [one.partition(" ")[0] for one in orders]
    assert methods == ["PUT", "PUT", "PUT", "DELETE", "PATCH", "DELETE"], orders


def test_a_webhook_is_tried_and_what_waits_is_skipped(flows: FlowOffice, desk: Desk) -> None:
    async def story(stage: Stage) -> None:
        root = await operator(stage, "root1")
        page = root.page
        await root.goes_to("webhooks")
        row = page.locator("tr", has_text="crm")
        await row.get_by_role("button", name="Test").click()
        await page.get_by_role("status").filter(has_text="the receiver took it").wait_for()
        for order in ("Skip what waits", "Send the last day again"):
            await row.get_by_role("button", name=order).click()
            await row.get_by_role("button", name=order).click()
            await row.get_by_role("button", name=order).wait_for()

    def told() -> int:
        return len(flows.receiver.events("user.registered"))

    wait_until(15, "everybody was told", lambda: told() >= len(NAMES))
    before = told()
    desk.play(flows, story)
    wait_until(15, "the last day came again", lambda: told() >= 2 * before)
    trail = [one for one in flows.records() if one.get("administrator") == "root1" and one.get("security") == "order"]
    assert [one["order"] for one in trail] == ["webhook test", "webhook replay", "webhook replay"]


def test_the_sessions_of_people_are_shown_and_ended(flows: FlowOffice, desk: Desk) -> None:
    async def story(stage: Stage) -> None:
        visitor = await stage.visitor()
        await visitor.page.goto(f"http://127.0.0.1:{flows.ports['http']}/")
        await visitor.page.fill("input[name=name]", "flora")
        await visitor.page.fill("input[name=secret]", secret_of("flora"))
        await visitor.page.click("button[type=submit]")
        await visitor.is_live()
        root = await operator(stage, "root2")
        page = root.page
        await root.goes_to("clients")
        await page.get_by_label("User").fill("flora")
        await page.get_by_label("User").press("Enter")
        row = page.locator(".table tbody tr", has_text="flora")
        await row.locator("td", has_text="mobileimsdk").wait_for()
        await row.get_by_role("button", name="End sessions").click()
        await row.get_by_role("button", name="End sessions").click()
        await row.wait_for(state="detached")
        await visitor.page.wait_for_selector(".app[data-state=live]", state="detached")
        visitor.errors.clear()  # it is another page's origin than the office's

    desk.play(flows, story)
    assert [one["order"] for one in flows.records() if one.get("administrator") == "root2" and "order" in one] == [
        "kick", "kick",
    ]  # fmt: skip


def test_an_account_that_there_is_gets_no_other_password_by_being_made(flows: FlowOffice, desk: Desk) -> None:
    async def story(stage: Stage) -> None:
        root = await operator(stage, "root3")
        page = root.page
        await root.goes_to("users")
        await page.fill("form.bar input[name=name]", "felix")
        await page.fill("form.bar input[name=password]", "another-secret-1")
        await page.get_by_role("button", name="Make an account").click()
        await page.get_by_role("alert").filter(has_text="There is an account felix already.").wait_for()

    desk.play(flows, story)


def test_a_page_that_is_left_open_keeps_no_session_alive(office: Office, desk: Desk) -> None:
    """What the dashboard and the log ask by themselves says so."""

    async def story(stage: Stage) -> None:
        root = await operator(stage, "root11")
        page = root.page
        await root.goes_to("log")
        async with page.expect_request(lambda one: "/admin/log?" in one.url and "after=" in one.url) as asked:
            pass
        assert (await asked.value).headers["chatd-background"] == "1"
        async with page.expect_request("**/admin/live") as asked:
            pass
        assert (await asked.value).headers["chatd-background"] == "1"

    desk.play(office, story)
