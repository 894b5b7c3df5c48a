"""Groups on the page: who asks to join, roles, and the end; and making an account, and blocks."""

from __future__ import annotations

from playwright.async_api import Locator

from tests.web.desk import Desk, Site, Stage, Visitor


async def makes_a_group(owner: Visitor, name: str) -> tuple[Locator, str]:
    """The window with its members and rules, and its number."""
    await owner.page.click("#tab-groups")
    await owner.page.get_by_placeholder("Name of a new group").fill(name)
    await owner.page.get_by_role("button", name="Create").click()
    await owner.page.get_by_role("button", name="Members and rules").click()
    window = owner.page.get_by_role("dialog")
    title = await window.get_by_role("heading", name=f"{name} (#").inner_text()
    return window, title.partition("(#")[2].rstrip(")")


async def asks_to_join(visitor: Visitor, number: str) -> None:
    await visitor.page.click("#tab-groups")
    await visitor.page.get_by_placeholder("Number of a group").fill(number)
    await visitor.page.get_by_role("button", name="Join").last.click()
    await visitor.page.get_by_role("status").filter(has_text="You have asked to join.").wait_for()


def test_who_asks_to_join_is_let_in_or_declined(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob, carol = [await stage.person(name) for name in ("gus8", "hal8", "ina8")]
        window, number = await makes_a_group(alice, "Climbing")
        await window.get_by_label("How people join").select_option("approval")
        await asks_to_join(bob, number)
        await asks_to_join(carol, number)
        await window.locator(".person", has_text="ina8").get_by_role("button", name="Decline").click()
        await window.locator(".person", has_text="ina8").wait_for(state="detached")
        await window.locator(".person", has_text="hal8").get_by_role("button", name="Let in").click()
        await window.locator(".person", has_text="hal8").get_by_text("member").wait_for()
        await bob.page.locator(".open", has_text="Climbing").click()
        await bob.write("thank you")
        await alice.page.keyboard.press("Escape")
        await alice.sees("thank you")
        assert await carol.page.locator(".open", has_text="Climbing").count() == 0

    desk.play(site, story)


def test_roles_and_the_end_of_a_group(desk: Desk, site: Site) -> None:
    """A member is muted, becomes an admin and then the owner, who removes the one who was."""

    async def story(stage: Stage) -> None:
        alice, bob = await stage.person("gus9"), await stage.person("hal9")
        window, number = await makes_a_group(alice, "Sailing")
        await window.get_by_label("How people join").select_option("open")
        await bob.page.click("#tab-groups")
        await bob.page.get_by_placeholder("Number of a group").fill(number)
        await bob.page.get_by_role("button", name="Join").last.click()
        await bob.page.locator(".thread header h2", has_text="Sailing").wait_for()
        hal = window.locator(".person", has_text="hal9")
        await hal.get_by_role("button", name="Mute", exact=True).click()
        await hal.get_by_text("muted").wait_for()
        await bob.write("may I?")
        await bob.page.locator(".message.failed").wait_for()
        await bob.page.get_by_role("button", name="Discard").click()
        await hal.get_by_role("button", name="Unmute").click()
        await hal.get_by_role("button", name="Make admin").click()
        await hal.get_by_role("button", name="Make member").wait_for()
        await hal.get_by_role("button", name="Make owner").click()
        await hal.get_by_role("button", name="Make owner").click()
        await hal.get_by_text("owner").wait_for()

        await bob.page.get_by_role("button", name="Members and rules").click()
        theirs = bob.page.get_by_role("dialog")
        await theirs.locator(".person", has_text="gus9").get_by_role("button", name="Remove").click()
        await theirs.locator(".person", has_text="gus9").get_by_role("button", name="Remove").click()
        await theirs.locator(".person", has_text="gus9").get_by_role("button", name="Unban").wait_for()
        await alice.page.keyboard.press("Escape")
        await alice.page.locator(".open", has_text="Sailing").wait_for(state="detached")
        await theirs.get_by_role("button", name="End the group").click()
        await theirs.get_by_role("button", name="End the group").click()
        await bob.page.locator(".open", has_text="Sailing").wait_for(state="detached")

    desk.play(site, story)


def test_an_account_is_made_and_somebody_is_blocked(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        bob, alice = await stage.person("hal10"), await stage.visitor()
        await alice.page.goto(site.url)
        await alice.page.get_by_role("button", name="I have no account yet").click()
        for field, text in (("name", "newcomer"), ("secret", "a long password"), ("again", "a longer password")):
            await alice.page.fill(f"input[name={field}]", text)
        await alice.page.get_by_role("button", name="Make an account").click()
        await alice.page.get_by_role("alert").filter(has_text="not the same").wait_for()
        await alice.page.fill("input[name=again]", "a long password")
        await alice.page.get_by_role("button", name="Make an account").click()
        await alice.is_live()

        await alice.page.click("#tab-people")
        await alice.page.get_by_placeholder("Name of the person").last.fill("hal10")
        await alice.page.get_by_role("button", name="Block").click()
        blocked = alice.page.locator(".person", has_text="hal10")
        await blocked.get_by_role("button", name="Unblock").wait_for()
        await bob.open("newcomer")
        await bob.write("hello?")
        await bob.page.locator(".message.failed").wait_for()
        await blocked.get_by_role("button", name="Unblock").click()
        await blocked.wait_for(state="detached")
        await bob.page.get_by_role("button", name="Send again").click()
        await alice.page.click("#tab-list")
        await alice.page.locator(".row", has_text="hal10").click()
        await alice.sees("hello?")

    desk.play(site, story)
