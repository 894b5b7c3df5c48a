"""Orders of the operator's page that concern the whole server, which has to be the test's own."""

from __future__ import annotations

from pathlib import Path

from tests.harness.deadline import until, wait_until
from tests.web.admin.office import Office, Operator, operator
from tests.web.desk import Desk, Stage


async def gives(root: Operator, order: str) -> None:
    """Press the button, once more as confirmation, and give a code if one is asked for."""
    button = root.page.get_by_role("button", name=order)
    await button.click()
    await button.click()
    begun = root.page.locator("[role=status]", has_text="It has begun.")
    code = root.page.locator("dialog input[name=code]")
    await begun.or_(code).first.wait_for()
    if await code.count():
        await root.gives_a_code()
        await begun.wait_for()


def orders(office: Office) -> list[tuple[str, str]]:
    """Who gave which that were carried out, as the trail has it."""
    found = [one for one in office.records("normal.log") if one.get("security") == "order"]
    return [(str(one["order"]), str(one.get("administrator", ""))) for one in found if one["result"] == "ok"]


def is_upgraded(office: Office) -> bool:
    return any(one["event"] == "upgraded" for one in office.records("normal.log"))


def test_the_server_is_upgraded_drained_and_stopped(tmp_path: Path, desk: Desk) -> None:
    office = Office(tmp_path).start()
    assert isinstance(office, Office)
    office.administrators(root0="admin")
    workers = {worker["pid"] for worker in office.status()["workers"]}

    async def story(stage: Stage) -> None:
        root = await operator(stage, "root0")
        await root.goes_to("server")
        await gives(root, "Upgrade to the installed version")
        await until(30, "it is upgraded", lambda: is_upgraded(office), 0.1)
        await until(30, "its end is recorded", lambda: ("upgrade", "root0") in orders(office), 0.1)
        assert workers.isdisjoint(worker["pid"] for worker in office.status()["workers"])
        await root.page.reload()  # the session is still the same
        await root.page.wait_for_selector(".operator")

        await gives(root, "Drain this host")
        await until(30, "it is drained", lambda: ("drain", "root0") in orders(office), 0.1)
        assert office.ctl_said("undrain")[0] == 0
        await root.page.reload()
        await root.page.wait_for_selector(".operator")

        await gives(root, "Stop the server")
        root.visitor.errors.clear()  # connections ended, and a code was asked for

    desk.play(office, story)
    wait_until(30, "it has stopped", lambda: office.ctl_said("status")[0] == 3, 0.1)
    assert orders(office)[-1] == ("stop", "root0")
    assert office.discard() == []
