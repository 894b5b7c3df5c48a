"""Who may register, with which password, and many accounts at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatd.config.account_options import AccountOptions
from tests.credentials import attacks
from tests.harness.daemon import Daemon
from tests.harness.deadline import run

Make = Callable[..., Daemon]
GOOD = "some long words"
POLICY = {"min_password_chars": AccountOptions().min_password_chars, "common_passwords": "refuse"}


@pytest.fixture(scope="module")
def inviting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Whoever has an invite code may register."""
    one = Daemon(tmp_path_factory.mktemp("invites"), workers=2, accounts={"registration": "invite"})
    try:
        yield one.start()
    finally:
        complaints = one.discard()
    assert complaints == []


def test_registration_is_closed_by_default(make_daemon: Make) -> None:
    daemon = make_daemon(accounts={"registration": AccountOptions().registration}).start()
    errno, text = run(attacks.register(daemon, "alice", GOOD))
    assert (errno, text) == (1, "registration is closed on this server")


def test_what_was_written_before_there_were_invites_is_still_understood(make_daemon: Make) -> None:
    """At the start, by chatd -t, and by a reload."""
    daemon = make_daemon(accounts={"registration": True}).start()
    was_true = 'accounts.registration: true is deprecated, write "open" (or "invite")'
    assert len(daemon.logged("deprecated option")) == 1
    assert run(attacks.register(daemon, "alice", GOOD))[0] == 0
    tested = daemon.test()
    assert (tested.returncode, was_true in tested.stderr, "is valid" in tested.stderr) == (0, True, True), tested
    assert 'registration = "open"' in daemon.test("--dump").stdout
    daemon.config["accounts"]["registration"] = False
    daemon.write_config()
    assert "accounts.registration" in daemon.ctl("config", "diff").stdout
    reloaded = daemon.ctl("reload")
    assert (reloaded.returncode, "applied: accounts.registration" in reloaded.stdout) == (0, True), reloaded
    assert [record["what"] for record in daemon.logged("deprecated option")] == [
        was_true,
        'accounts.registration: false is deprecated, write "closed" (or "invite")',
    ]
    assert run(attacks.register(daemon, "bob", GOOD)) == (1, "registration is closed on this server")


def test_an_invite_for_one_makes_one_account(inviting: Daemon) -> None:
    run(attacks.share_an_invite(inviting))


def test_an_invite_code_is_needed_and_a_stock_client_writes_it_before_its_password(inviting: Daemon) -> None:
    daemon = inviting

    async def story() -> None:
        _, said = await attacks.ctl(daemon, "invite", "add", "--uses", "2")
        code = said[:20]
        for invite in ("", "K7M2QX-4TNP8W-ZB6R3D", code[:-1] + ("0" if code[-1] != "0" else "1")):
            errno, text = await attacks.register(daemon, "alice", GOOD, invite)
            assert (errno, "an invite code is needed" in text) == (1, True)
        assert (await attacks.register(daemon, "alice", f"{code.lower()}:{GOOD}"))[0] == 0
        assert (await attacks.register(daemon, "alice", GOOD, code))[0] == 1, "the name is taken, and no use is counted"
        assert (await attacks.register(daemon, "bob", GOOD, code.replace("-", " ")))[0] == 0
        assert (await attacks.register(daemon, "carol", GOOD, code))[0] == 1
        _, listed = await attacks.ctl(daemon, "invite", "list")
        assert "2/2" in listed
        assert code not in listed
        for name in ("alice", "bob"):
            peer = attacks.NulPeer()
            await peer.open(daemon.ports["chatserver"])
            peer.put({"msgid": 1, "name": name, "password": GOOD})
            assert (await peer.find(msgid=2))["errno"] == 0
            peer.close()

    run(story())


def test_a_revoked_invite_makes_no_account(inviting: Daemon) -> None:
    async def story() -> None:
        _, said = await attacks.ctl(inviting, "invite", "add")
        number = said.partition("chatctl: invite ")[2].partition(":")[0]
        for code in (0, 1):
            assert (await attacks.ctl(inviting, "invite", "revoke", number))[0] == code
        errno, text = await attacks.register(inviting, "dave", GOOD, said[:20])
        assert (errno, "an invite code is needed" in text) == (1, True)

    run(story())


WEAK = {
    "x": "at least 8 characters",
    "y" * 1025: "at most 1024 characters",
    "Alice123": "the name",
    "P@ssw0rd!": "too common",
    "qwertz2024": "too common",
}


def test_a_new_password_is_neither_short_nor_common(make_daemon: Make) -> None:
    daemon = make_daemon(accounts=POLICY).start()

    async def story() -> None:
        for secret, why in WEAK.items():
            errno, text = await attacks.register(daemon, "alice123", secret)
            assert (errno, why in text) == (1, True), text
        code, said = await attacks.ctl(daemon, "user", "add", "alice123", input="P@ssw0rd!\n")
        assert (code, "too common" in said) == (1, True), said
        assert (await attacks.ctl(daemon, "user", "add", "--force", "alice123", input="x\n"))[0] == 0

        town = attacks.Town(daemon, secret="x")
        owner = await town.on_mobile("alice123")
        answer = await attacks.change_password(owner, "x", "P@ssw0rd!")
        assert (answer["ok"], "too common" in answer["error"]["text"]) == (False, True), answer
        owner.close()

    run(story())


def test_many_accounts_are_added_and_each_line_that_fails_is_named(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(accounts=POLICY)
    lines = [f"user{number} some long words {number}" for number in range(300)]
    lines[6], lines[250] = "user0 another long one", "short x"
    lines[10] = "nothing"
    file = tmp_path / "many"
    file.write_text("\n".join(["# name password", "", *lines]) + "\n")
    done = daemon.ctl("user", "add", "--file", str(file))
    assert (done.returncode, done.stdout) == (1, "added: 297, failed: 3\n")
    failed = [line for line in done.stderr.splitlines() if "line " in line]
    assert [line.split(": ")[1:3] for line in failed] == [
        ["line 9", "user0"],
        ["line 13", "nothing"],
        ["line 253", "short"],
    ]
    assert "some long words" not in done.stderr
    again = daemon.ctl("user", "add", "--csv", "--file", "-", input='"user, two",some long words\n')
    assert (again.returncode, again.stdout) == (0, "added: 1, failed: 0\n"), again.stderr
    assert len(daemon.ctl("user", "list").stdout.splitlines()) == 299
