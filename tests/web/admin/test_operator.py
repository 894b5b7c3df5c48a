"""Operators log in on their page, see how the server is, and are logged out."""

from __future__ import annotations

import gzip
import re

from chatd.http.assets import ADMIN, POLICY, assets
from tests.http.raw import Raw, Said
from tests.web.admin.office import Office, Operator, operator
from tests.web.desk import Desk, Stage, secret_of
from tests.web.test_accessibility import findings
from tests.web.test_assets import linked

FIRST_LOAD_BYTES = 80_000


def fetch(office: Office, path: str, *headers: bytes) -> Said:
    with Raw(office.ports["admin"]) as raw:
        return raw.ask(b"\r\n".join((b"GET " + path.encode() + b" HTTP/1.1", b"Host: a", *headers, b"", b"")))


def test_the_first_load_is_small_and_has_a_strict_policy(office: Office) -> None:
    page = fetch(office, "/admin", b"Accept-Encoding: gzip")
    assert page.headers["content-security-policy"] == POLICY
    loaded = {path: fetch(office, path, b"Accept-Encoding: gzip") for path in linked(gzip.decompress(page.body))}
    assert {said.status for said in loaded.values()} == {200}
    assert len(page.body) + sum(len(said.body) for said in loaded.values()) < FIRST_LOAD_BYTES
    assert {path for path in loaded if path.endswith(".js")} == {path for path in assets(ADMIN) if path.endswith(".js")}
    assert fetch(office, "/").status == 404, "the chat page is another listener's"


def test_a_wrong_code_is_told_and_a_right_one_shows_the_server(office: Office, desk: Desk) -> None:
    async def story(stage: Stage) -> None:
        visitor = await stage.visitor()
        root = Operator(visitor, "root0", office.codes["root0"])
        await root.fill_in(secret_of("root0"), root.codes.wrong())
        await root.page.locator("[role=alert]", has_text="wrong code").wait_for()
        visitor.errors.clear()  # the browser reports the refusal
        await root.log_in()
        await root.page.wait_for_selector(".figures dd:has-text('running')")
        assert await root.page.locator(".chart canvas").count() == 5
        assert await root.page.locator(".table tbody tr").count() == 2, "a row for each worker"
        await root.page.reload()
        await root.page.wait_for_selector(".operator")
        await root.page.click("text=Log out")
        await root.page.wait_for_selector("input[name=code]")
        await root.page.reload()
        await root.page.wait_for_selector("input[name=code]")
        visitor.errors.clear()  # nobody is logged in: 401

    desk.play(office, story)


def test_a_session_that_has_ended_is_told(office: Office, desk: Desk) -> None:
    async def story(stage: Stage) -> None:
        root = await operator(stage, "root1")
        assert office.ctl_here("admin", "reset", "root1")[0] == 0
        await root.page.locator("[role=alert]", has_text="Your session has ended").wait_for()
        root.visitor.errors.clear()

    desk.play(office, story)


def test_the_charts_have_what_the_server_does(office: Office, desk: Desk) -> None:
    async def story(stage: Stage) -> None:
        root = await operator(stage, "root2")
        latest = root.page.locator(".chart .latest", has_text="connections")
        await latest.wait_for()
        found = re.search(r"connections: (\d+)", await latest.inner_text())
        assert found is not None
        assert int(found[1]) >= 1

    desk.play(office, story)


def test_the_page_can_be_used_without_seeing_it_and_on_a_phone(office: Office, desk: Desk) -> None:
    async def story(stage: Stage) -> None:
        root = await operator(stage, "root3", viewport={"width": 390, "height": 800})
        await root.page.wait_for_selector(".figures")
        assert await root.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert await findings(root.page, "dashboard") == []
        await root.page.select_option("label:has-text('Language') select", "zh")
        await root.page.locator("nav", has_text="概览").wait_for()

    desk.play(office, story)
