"""People chat on the page, in a real browser, with a real server."""

from __future__ import annotations

import os
import signal

import pytest

from tests.harness.deadline import wait_until
from tests.web.desk import Desk, Site, Stage, secret_of


def test_two_people_chat(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.person("alice0"), await stage.person("bob0")
        await alice.open("bob0")
        await alice.write("hello")
        row = bob.page.locator(".row", has_text="alice0")
        await row.locator(".count", has_text="1").wait_for()
        assert await bob.page.title() == "(1) chatd"
        await alice.state_of("hello", "stored")
        await row.click()
        await bob.sees("hello")
        await alice.state_of("hello", "read")
        await bob.write("hi\nalice")
        await alice.sees("hi\nalice")
        await row.locator(".count").wait_for(state="detached")

    desk.play(site, story)


def test_texts_are_shown_as_they_are(desk: Desk, site: Site) -> None:
    """Markup in texts is text, whatever it looks like; a link leads to what it says, in a page without a way back."""
    texts = [
        "<img src=x onerror=\"document.title='owned'\">",
        "<script>document.title='owned'</script>",
        "javascript:alert(1) &lt;b&gt; ${document.title='owned'}",
        "a\u202eb 你好 👩‍👩‍👧 שלום",
        "   spaces   and\n\n\nlines",
    ]

    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("alice1", "bob1")
        for text in texts:
            await alice.write(text)
            await bob.sees(text)
        await alice.write("see https://example.org/a?b=c&d=<e>, or not")
        link = bob.page.locator(".message a")
        assert await link.get_attribute("href") == "https://example.org/a?b=c&d="
        assert await link.get_attribute("rel") == "noopener noreferrer nofollow"
        assert await bob.page.locator(".message a").count() == 1
        assert await bob.page.title() == "chatd"

    desk.play(site, story)


def test_a_message_is_edited_recalled_and_answered(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("alice2", "bob2")
        await alice.write("helo")
        await bob.sees("helo")
        mine = alice.page.locator(".message.mine")
        await mine.get_by_role("button", name="Actions").click()
        await mine.get_by_role("button", name="Edit").click()
        await alice.page.fill(".editor", "hello")
        await alice.page.press(".editor", "Enter")
        await bob.sees("hello")
        await bob.page.locator(".meta", has_text="edited").wait_for()
        await bob.page.get_by_role("button", name="Actions").click()
        await bob.page.get_by_role("button", name="Reply").click()
        await bob.write("hi")
        await alice.page.locator("blockquote", has_text="alice2: hello").wait_for()
        await mine.get_by_role("button", name="Actions").click()
        await mine.get_by_role("button", name="Recall").click()
        await bob.page.locator(".message em", has_text="recalled").wait_for()
        assert "hello" not in await bob.texts()

    desk.play(site, story)


def test_people_become_friends_and_see_each_other(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.person("alice3"), await stage.person("bob3")
        await alice.page.click("#tab-people")
        await alice.page.get_by_placeholder("Name of the person").first.fill("bob3")
        await alice.page.get_by_role("button", name="Ask to be friends").click()
        await bob.page.locator("#tab-people .count").wait_for()
        await bob.page.click("#tab-people")
        await bob.page.get_by_role("button", name="Accept").click()
        await alice.page.locator(".person .name.online", has_text="bob3").wait_for()
        await bob.page.get_by_role("button", name="Log out").click()
        await alice.page.locator(".person", has_text="last seen").wait_for()

    desk.play(site, story)


def test_a_group_has_members_and_rules(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.person("alice4"), await stage.person("bob4")
        await alice.page.click("#tab-groups")
        await alice.page.get_by_placeholder("Name of a new group").fill("Rowing")
        await alice.page.get_by_role("button", name="Create").click()
        await alice.page.get_by_role("button", name="Members and rules").click()
        dialog = alice.page.get_by_role("dialog")
        await dialog.get_by_placeholder("Name of the person").fill("bob4")
        await dialog.get_by_role("button", name="Invite").click()
        await bob.page.click("#tab-groups")
        await bob.page.locator(".person", has_text="from alice4").get_by_role("button", name="Join").click()
        await dialog.locator(".person", has_text="bob4").wait_for()
        await dialog.get_by_label("Only the owner and admins write").click()
        await alice.page.keyboard.press("Escape")
        await bob.page.locator(".open", has_text="Rowing").click()
        await bob.write("may I?")
        await bob.page.locator(".message.failed", has_text="not sent").wait_for()
        await alice.write("only me")
        await bob.sees("only me")
        await bob.page.get_by_role("button", name="Discard").click()
        await bob.shows(["only me"])

    desk.play(site, story)


def test_who_is_logged_in_elsewhere_may_take_over(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        first, second = await stage.person("alice5"), await stage.person("alice5")
        await first.page.get_by_role("alertdialog").wait_for()
        assert "elsewhere" in await first.page.get_by_role("alertdialog").inner_text()
        await first.page.get_by_role("button", name="Continue here").click()
        await second.page.get_by_role("alertdialog").wait_for()
        await first.is_live()

    desk.play(site, story)


def test_a_reload_keeps_the_login_and_the_conversation(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice = await stage.person("alice6")
        await alice.open("bob6")
        await alice.write("before")
        await alice.state_of("before", "stored")
        await alice.page.reload()
        await alice.is_live()
        await alice.page.locator(".row", has_text="bob6").click()
        await alice.sees("before")

    desk.play(site, story)


def test_the_server_dies_while_somebody_writes(desk: Desk, site: Site) -> None:
    """kill -9 of the workers, then of everything: what was written meanwhile arrives, once and in order, and the draft
    is kept."""

    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("alice7", "bob7")
        await alice.write("one")
        await bob.sees("one")
        for worker in site.workers():
            os.kill(worker, signal.SIGKILL)
        await alice.write("two")
        await bob.sees("two")
        site.kill_all()
        await alice.page.locator(".status", has_text="Trying again").wait_for()
        await alice.write("three")
        await alice.write("four")
        await alice.state_of("four", "waiting")
        await alice.page.fill(".composer textarea", "a dra")
        site.start()
        await bob.sees("four")
        await alice.page.locator(".composer textarea").press("End")
        await alice.page.keyboard.type("ft")
        assert await alice.page.input_value(".composer textarea") == "a draft"
        await alice.state_of("four", "read")
        await bob.shows(["one", "two", "three", "four"])
        await alice.shows(["one", "two", "three", "four"])

    desk.play(site, story)
    wait_until(30, "both workers are back", lambda: len(site.workers()) == 2)


@pytest.mark.slow
def test_a_closed_tab_loses_nothing_and_the_last_one_opened_has_the_session(desk: Desk, site: Site) -> None:
    """What was written while the server was away is sent by the next tab of the same browser, once."""

    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("alice9", "bob9")
        site.kill_all()
        await alice.page.locator(".status", has_text="Trying again").wait_for()
        await alice.write("kept")
        await alice.state_of("kept", "waiting")
        await alice.page.close()
        site.start()
        second = await stage.visitor(context=alice.page.context)
        await second.page.goto(site.url)
        await second.is_live()
        await bob.sees("kept")
        await second.open("bob9")
        await second.shows(["kept"])
        third = await stage.visitor(context=alice.page.context)
        await third.page.goto(site.url)
        await third.is_live()
        await second.page.get_by_role("alertdialog").wait_for()
        await bob.shows(["kept"])

    desk.play(site, story)


def test_a_message_is_delivered_before_it_is_read(desk: Desk, site: Site) -> None:
    """To somebody who lets the writer see that they are there, and looks at something else."""

    async def story(stage: Stage) -> None:
        alice, bob = await stage.person("carol10"), await stage.person("carol11")
        await bob.page.get_by_role("button", name="Settings").click()
        await bob.page.get_by_label("Who sees your profile and presence").select_option("everybody")
        await bob.page.keyboard.press("Escape")
        await alice.open("carol11")
        await alice.write("there?")
        await alice.state_of("there?", "delivered")
        await alice.page.reload()
        await alice.is_live()
        await alice.open("carol11")
        await alice.state_of("there?", "delivered")
        await bob.page.locator(".row", has_text="carol10").click()
        await alice.state_of("there?", "read")
        await alice.page.reload()
        await alice.is_live()
        await alice.open("carol11")
        await alice.state_of("there?", "read")

    desk.play(site, story)


def test_the_timers_of_a_hidden_tab_run_in_a_worker(desk: Desk, site: Site) -> None:
    """Browsers let those of the page run once a minute, which is too late for the signs of life that the server wants.
    The page's policy must let the worker begin; the library's tests say what it does."""

    async def story(stage: Stage) -> None:
        carol = await stage.person("carol9")
        for _ in range(100):
            if carol.page.workers:
                break
            await carol.page.wait_for_timeout(50)
        (worker,) = carol.page.workers
        assert worker.url.endswith("/chatd.js")
        assert "/chat/" in worker.url

    desk.play(site, story)


def test_the_network_is_away(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("alice8", "bob8")
        await alice.write("one")
        await bob.sees("one")
        await alice.loses_the_network()
        await alice.write("two")
        await bob.write("three")
        await alice.state_of("two", "waiting")
        await alice.page.context.set_offline(False)
        await alice.sees("three")
        await alice.state_of("two", "read")
        texts = await alice.texts()
        assert sorted(texts) == ["one", "three", "two"]
        await bob.shows(texts)

    desk.play(site, story)


def test_what_was_written_before_the_tab_was_closed_arrives_once(desk: Desk, site: Site) -> None:
    """Written without a network, in a tab that is closed; another one sends it."""

    async def story(stage: Stage) -> None:
        alice, bob = await stage.pair("alice9", "carol9")
        await alice.write("one")
        await bob.sees("one")
        await alice.loses_the_network()
        await alice.write("two")
        await alice.write("three")
        await alice.state_of("three", "waiting")
        await alice.page.close()
        assert await bob.texts() == ["one"]
        await alice.page.context.set_offline(False)
        again = await stage.visitor(context=alice.page.context)
        await again.page.goto(site.url)
        await again.is_live()
        await bob.sees("three")
        await bob.shows(["one", "two", "three"])
        await again.page.locator(".row", has_text="carol9").click()
        await again.shows(["one", "two", "three"])

    desk.play(site, story)


def test_the_page_can_be_used_with_the_keyboard_alone(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.visitor(), await stage.person("bob9")
        keyboard = alice.page.keyboard
        await alice.page.goto(site.url)
        await alice.page.wait_for_selector("input[name=name]")
        await keyboard.press("Tab")
        await keyboard.type("alice9")
        await keyboard.press("Tab")
        await keyboard.type(secret_of("alice9"))
        await keyboard.press("Enter")
        await alice.is_live()
        for _ in range(30):
            focused = await alice.page.evaluate("document.activeElement.placeholder || ''")
            if focused == "Name of the person":
                break
            await keyboard.press("Tab")
        await keyboard.type("bob9")
        await keyboard.press("Enter")
        await alice.page.wait_for_selector(".composer textarea:focus")
        await keyboard.type("by hand")
        await keyboard.press("Enter")
        await bob.page.locator(".row", has_text="by hand").wait_for()

    desk.play(site, story)


def test_messages_are_found(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice = await stage.person("alice10")
        await alice.open("bob10")
        for text in ("red apples", "green pears", "Red cherries"):
            await alice.write(text)
        await alice.state_of("Red cherries", "stored")
        await alice.page.get_by_label("Find in this conversation").fill("red")
        await alice.shows(["red apples", "Red cherries"])
        await alice.page.get_by_text("2 found").wait_for()
        await alice.page.get_by_label("Find in this conversation").fill("")
        await alice.shows(["red apples", "green pears", "Red cherries"])

    desk.play(site, story)


def test_who_is_written_to_is_found_whatever_the_case_and_must_exist(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await stage.person("alice11"), await stage.person("bob11")
        await alice.page.fill(".sidebar input", "nobody at all")
        await alice.page.press(".sidebar input", "Enter")
        await alice.page.get_by_role("alert").filter(has_text="no such user").wait_for()
        await alice.page.fill(".sidebar input", "BOB11")
        await alice.page.press(".sidebar input", "Enter")
        await alice.page.wait_for_selector(".thread h2:has-text('bob11')")
        await alice.write("hello")
        await bob.page.locator(".row", has_text="hello").click()
        await bob.write("hi")
        await alice.shows(["hello", "hi"])
        names = await alice.page.locator(".row .name").all_text_contents()
        assert names == ["bob11"], names

    desk.play(site, story)


def test_a_login_that_counts_no_more_leads_back_to_the_form(desk: Desk, site: Site) -> None:
    """After the account was locked, and unlocked."""

    async def story(stage: Stage) -> None:
        carol = await stage.person("carol0")
        for order in ("lock", "unlock"):
            assert site.ctl_said("user", order, "carol0")[0] == 0
        await carol.page.get_by_role("button", name="Continue here").click()
        await carol.page.get_by_text("Your login has ended").wait_for()
        carol.errors.clear()  # 401, which the browser calls an error

    desk.play(site, story)


def test_notifications_of_the_browser(desk: Desk, site: Site) -> None:
    """Only while nobody looks, and only if the user wants them. Chromium without a window shows none, so what the page
    asks for is noted."""
    noted = """
        window.notes = [];
        window.Notification = class {
          static permission = "granted";
          static requestPermission = async () => "granted";
          constructor(title, options) { notes.push([title, options.body]); }
        };
        window.looks = true;
        Object.defineProperty(document, "hidden", { get: () => !window.looks });
    """

    async def story(stage: Stage) -> None:
        alice, bob = await stage.visitor(), await stage.person("bob1")
        await alice.page.add_init_script(noted)
        await alice.log_in("carol1")
        await alice.page.get_by_role("button", name="Settings").click()
        await alice.page.get_by_label("Notify me").check()
        await alice.page.keyboard.press("Escape")
        await bob.open("carol1")
        await bob.write("seen")
        await alice.page.locator(".row", has_text="seen").wait_for()
        await alice.page.evaluate("window.looks = false")
        await bob.write("unseen")
        await alice.page.locator(".row", has_text="unseen").wait_for()
        assert await alice.page.evaluate("notes") == [["bob1", "unseen"]]

    desk.play(site, story)


def test_another_password_keeps_the_login_for_as_long_as_before(desk: Desk, site: Site) -> None:
    async def story(stage: Stage) -> None:
        for name, stays in (("carol4", False), ("carol5", True)):
            carol = await stage.visitor()
            await carol.log_in(name, stay=stays)
            await carol.page.get_by_role("button", name="Settings").click()
            await carol.page.fill("input[name=old]", secret_of(name))
            await carol.page.fill("input[name=password]", "another secret")
            await carol.page.get_by_role("button", name="Change the password").click()
            await carol.page.get_by_role("status").filter(has_text="Saved.").wait_for()
            (cookie,) = await carol.page.context.cookies()
            assert (cookie["expires"] > 0) == stays

    desk.play(site, story)
