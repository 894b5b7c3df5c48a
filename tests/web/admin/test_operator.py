"""Operators log in on their page, see how the server is, and are logged out."""

from __future__ import annotations

import gzip
import re

from chatd.http.assets import ADMIN, POLICY
from tests.http.raw import Raw, Said
from tests.web.admin.office import Office, Operator, operator
from tests.web.desk import Desk, Stage, secret_of
from tests.web.test_accessibility import findings
from tests.web.test_assets import check_modules, linked

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
    assert fetch(office, "/").status == 404, "the chat page is another listener's"


def test_every_module_is_linked_and_imports_only_what_is_there(office: Office) -> None:
    check_modules(lambda path: fetch(office, path).body, ADMIN)


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
        assert office.ctl_said("admin", "reset", "root1")[0] == 0
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


def test_the_page_is_used_by_keyboard_alone(office: Office, desk: Desk) -> None:
    """Logging in, going to a view, giving up a window that asks for a code, and giving one."""

    async def story(stage: Stage) -> list[str]:
        visitor = await stage.visitor()
        root = Operator(visitor, "root13", office.codes["root13"])
        page = visitor.page
        await page.goto(f"{office.url}admin")
        await page.wait_for_selector("form")
        found = await findings(page, "login")
        for text in (root.name, secret_of(root.name), root.codes.next()):
            await page.keyboard.press("Tab")
            await page.keyboard.type(text)
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".operator")
        await page.locator("nav a[href='#users']").focus()
        await page.keyboard.press("Enter")
        field = page.locator("form.bar input[name=name]")
        await field.focus()
        await page.keyboard.type("by-keyboard")
        await page.keyboard.press("Tab")
        await page.keyboard.type("a-long-secret-1")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("dialog input[name=code]")
        found += await findings(page, "code")
        await page.keyboard.press("Escape")
        await page.locator("form.bar [role=alert]", has_text="code").wait_for()
        assert await field.input_value() == "by-keyboard", "what was written is kept"
        await page.locator("form.bar input[name=password]").focus()
        await page.keyboard.press("Enter")
        await page.wait_for_selector("dialog input[name=code]")
        await page.keyboard.type(root.codes.next())
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="by-keyboard").wait_for()
        found += await findings(page, "account")
        visitor.errors.clear()  # the requests for a code
        return found

    assert desk.play(office, story) == []


SAMPLES = """async (base) => {
  const { Samples, p99 } = await import(`${base}/admin/samples.js`);
  const answers = [];
  window.fetch = async () => answers.length > 0 ? Response.json(answers.shift()) : new Promise(() => {});
  const status = (counts) => ({ pid: 1, workers: [], durations: { commit: { bounds_us: [1000, 2000], counts } } });
  const samples = new Samples();
  const take = async (second, counts = [0, 0, 0]) => {
    answers.push({ at_ms: second * 1000, status: status(counts) });
    let end;
    const told = new Promise((resolve) => { end = samples.subscribe(resolve); });
    samples.start();
    await told;
    end();
    samples.stop();
  };
  await take(1);
  await take(2, [0, 100, 100]);
  const [, [, commit]] = samples.series("commit");
  await take(60);
  const [withGap] = samples.series("commit");
  await take(601.5);
  const [kept] = samples.series("commit");
  await take(2);
  const [back] = samples.series("commit");
  return { commit, withGap, kept, back, none: p99(undefined, undefined) };
}"""


def test_ten_minutes_are_kept_with_gaps(office: Office, desk: Desk) -> None:
    async def story(stage: Stage) -> dict[str, object]:
        page = (await stage.visitor()).page
        await page.goto(f"{office.url}admin")
        await page.wait_for_selector("form")
        script = await page.locator("script[src$='/admin/admin.js']").get_attribute("src")
        assert script is not None
        result: dict[str, object] = await page.evaluate(SAMPLES, script.removesuffix("/admin/admin.js"))
        return result

    assert desk.play(office, story) == {
        "commit": 2.0,
        "withGap": [1, 2, 2.1, 60],
        "kept": [2, 2.1, 60, 60.1, 601.5],
        "back": [2],
        "none": None,
    }
