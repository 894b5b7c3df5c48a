"""Nothing lost, nothing shown twice: the session against a server that breaks on order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from chatd_client.timing import Timing

from .recorder import QUICK, client, serving, until
from .small_server import SmallServer

Scenario = Callable[[SmallServer], Awaitable[None]]


def play(scenario: Scenario) -> None:
    async def run() -> None:
        async with serving() as server:
            await scenario(server)

    asyncio.run(run())


def test_register_and_log_in_by_name_and_by_number(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        async with client(server.port, tmp_path) as alice:
            await alice.do("/register alice")
            await alice.notices("your number is 1")
            await alice.do("/register alice")
            await alice.notices("cannot register alice")
            await alice.do("/login 1 wrong")
            await alice.notices("cannot log in as 1: unknown user or wrong password")
            assert alice.commands.login_failed
            await alice.do("/login 1")
            assert alice.session.user is not None
            await alice.do("/logout")
            assert alice.session.user is None
            await alice.do("/login alice")
            await alice.notices("logged in as alice(1)")
            assert not alice.commands.login_failed

    play(scenario)


def test_messages_go_both_ways_in_order(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        server.account("bob")
        async with client(server.port, tmp_path / "a") as alice, client(server.port, tmp_path / "b") as bob:
            await alice.do("/login alice", "/chat bob hello  there", "/chat 2 one", "two", "chat:2:three", "/say /four")
            assert await alice.session.settle()
            await bob.do("/login bob")
            texts = ("hello  there", "one", "two", "three", "/four")
            await bob.shows(*(f"alice(1): {text}" for text in texts))
            await bob.do("/chat alice hi")
            await alice.shows("bob(2): hi")

    play(scenario)


def test_a_lost_acknowledgement_is_sent_again_with_the_same_fp_and_stored_once(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        bob = server.account("bob")
        server.lose_acks = 3
        async with client(server.port, tmp_path) as alice:
            await alice.do("/login alice", "/chat bob one", "two", "three", "four")
            assert await alice.session.settle()
            assert server.texts() == ["one", "two", "three", "four"]
            assert [message["msg"] for message in bob.waiting] == ["one", "two", "three", "four"]
            sent = [frame for frame in server.received if frame["msgid"] == 6]
            assert len(sent) == 7
            assert len({frame["fp"] for frame in sent}) == 4
            assert server.logins == 4

    play(scenario)


def test_a_message_lost_with_its_connection_is_sent_again_before_later_ones(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        server.account("bob")
        server.lose_frames = 2
        async with client(server.port, tmp_path) as alice:
            await alice.do("/login alice", "/chat bob one", "two", "three")
            assert await alice.session.settle()
            assert server.texts() == ["one", "two", "three"]

    play(scenario)


def test_written_while_the_server_is_away_is_delivered_when_it_is_back(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        server.account("bob")
        async with client(server.port, tmp_path) as alice:
            await alice.do("/login alice")
            await server.stop()
            await alice.notices("connection lost")
            await alice.do("/chat bob one", "two")
            await server.start()
            await alice.notices("connected again as alice(1)")
            assert await alice.session.settle()
            assert server.texts() == ["one", "two"]

    play(scenario)


def test_plain_lines_do_not_go_on_to_somebody_who_does_not_exist(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        server.account("bob")
        async with client(server.port, tmp_path) as alice:
            await alice.do("/login alice", "/chat bob one", "/chat carol two")
            await alice.notices("what you write now goes to bob again")
            await alice.do("three", "/logout", "/login alice", "/chat carol")
            await alice.do("four")
            await alice.notices("what you write now goes nowhere until the next /chat or /g")
            await alice.do("five")
            await alice.notices("nobody is selected")
            assert await alice.session.settle()
            assert server.texts() == ["one", "three"]

    play(scenario)


def test_a_name_with_spaces_works_everywhere(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        async with client(server.port, tmp_path / "a") as ann, client(server.port, tmp_path / "b") as bob:
            await ann.do('/register "ann a"', '/login "ann a"')
            await bob.do('/register "bob b"', '/login "bob b"')
            await ann.do('/chat "bob b" hello', "/addfriend 2")
            await bob.shows("ann a(1): hello")
            await bob.notices("ann a (1) asks to be your friend")
            await bob.do('/accept "ann a"', '/chat "ann a" hello yourself')
            await ann.shows("bob b(2): hello yourself")
            await ann.notices("has accepted your friend request")
            assert ann.app.contacts.friends[2].name == "bob b"
            await bob.do("/friends")
            await bob.notices("ann a(1) online")

    play(scenario)


def test_given_again_is_not_shown_again(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        alice, bob = server.account("alice"), server.account("bob")
        team = server.group("team", alice, bob)
        async with client(server.port, tmp_path / "a") as a, client(server.port, tmp_path / "b") as b:
            await a.do("/login alice", "/chat bob one", f"/g {team.id} two", "/chat bob three")
            assert await a.session.settle()
            await b.do("/login bob")
            shown = ["alice(1): one", "team#1 alice(1): two", "alice(1): three"]
            await b.shows(*shown)
            for round_ in range(3):
                server.message(alice, bob, f"new {round_}")
                before = server.logins
                assert bob.peer is not None
                bob.peer.cut()
                await until(lambda before=before: server.logins > before and b.session.online)
                shown.append(f"alice(1): new {round_}")
                await b.shows(*shown)

    play(scenario)


def test_a_restarted_client_does_not_show_again_and_sends_what_was_unacknowledged(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        alice, bob = server.account("alice"), server.account("bob")
        server.message(bob, alice, "one")
        async with client(server.port, tmp_path) as first:
            await first.do("/login alice")
            await first.shows("bob(2): one")
            server.lose_acks = 1
            await first.do("/chat bob kept")
            await until(lambda: server.texts() == ["one", "kept"])
        await until(lambda: alice.peer is None)
        server.lose_acks = 0
        server.forget_deliveries(alice)
        server.message(bob, alice, "two")
        async with client(server.port, tmp_path) as second:
            await second.do("/login 1")
            await second.shows("bob(2): two")
            assert await second.session.settle()
            assert server.texts() == ["one", "kept", "two"]

    play(scenario)


def test_what_was_never_sent_survives_the_death_of_the_client(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        server.account("bob")
        async with client(server.port, tmp_path) as first:
            await first.do("/login alice")
            await server.stop()
            await first.do("/chat bob one", "two")
        await server.start()
        async with client(server.port, tmp_path) as second:
            await second.do("/login alice")
            await second.notices("sending again what was not acknowledged last time: 2")
            assert await second.session.settle()
            assert server.texts() == ["one", "two"]
            await second.session.leave()
        async with client(server.port, tmp_path) as third:
            await third.do("/login alice")
            assert not third.screen.noticed("sending again")
        assert server.texts() == ["one", "two"]

    play(scenario)


def test_a_server_that_began_anew_is_not_silenced_by_old_numbers(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        alice, bob = server.account("alice"), server.account("bob")
        server.message(bob, alice, "of the old server")
        async with client(server.port, tmp_path) as first:
            await first.do("/login alice")
            await first.shows("bob(2): of the old server")
        port = server.port
        await server.stop()
        async with serving(port) as fresh:
            alice, bob = fresh.account("alice"), fresh.account("bob")
            fresh.message(bob, alice, "of the new server")
            async with client(fresh.port, tmp_path) as second:
                await second.do("/login alice")
                await second.shows("bob(2): of the new server")
        await server.start()

    play(scenario)


def test_without_numbers_everything_is_shown(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.numbering = False
        alice, bob = server.account("alice"), server.account("bob")
        server.message(bob, alice, "same")
        server.message(bob, alice, "same")
        async with client(server.port, tmp_path) as a:
            await a.do("/login alice")
            await a.shows("bob(2): same", "bob(2): same")

    play(scenario)


def test_a_refusal_is_told_and_the_next_message_goes_on(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        server.account("bob")
        async with client(server.port, tmp_path) as alice:
            await alice.do("/login alice", "/chat nobody one", "/chat bob two", "/g 9 three", "/chat bob four")
            assert await alice.session.settle()
            assert server.texts() == ["two", "four"]
            await alice.notices("not sent to nobody: no such user: one")
            await alice.notices("not sent to group 9: no such user: three")
            assert alice.session.refused == 2

    play(scenario)


def test_a_passing_refusal_is_tried_again_in_order(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        server.account("bob")
        server.refuse_next = [{"errno": 1040, "errmsg": "try again"}, {"errno": 1041, "errmsg": "busy"}]
        async with client(server.port, tmp_path) as alice:
            await alice.do("/login alice", "/chat bob one", "two")
            assert await alice.session.settle()
            assert server.texts() == ["one", "two"]
            assert alice.session.refused == 0

    play(scenario)


def test_acknowledgements_of_something_else_are_no_progress(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        account = server.account("alice")
        async with client(server.port, tmp_path, Timing(answer_s=60, settle_s=0.5)) as alice:
            await alice.do("/login alice")
            server.deaf = True
            await alice.do("/chat 1 one")
            settled = asyncio.create_task(alice.session.settle())
            while not settled.done():
                assert account.peer is not None
                account.peer.say(13, fp="not ours", seq=1, time="t")
                await asyncio.sleep(0.05)
            assert not settled.result()

    play(scenario)


def test_a_server_that_has_forgotten_the_login_gets_another(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        account = server.account("alice")
        server.account("bob")
        async with client(server.port, tmp_path) as alice:
            await alice.do("/login alice")
            assert account.peer is not None
            account.peer.leave()
            await alice.do("/chat bob one")
            assert await alice.session.settle()
            assert server.texts() == ["one"]
            assert server.logins == 2

    play(scenario)


def test_a_connection_that_does_not_answer_is_replaced(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        server.account("bob")
        async with client(server.port, tmp_path, Timing(answer_s=0.2, backoff_first_s=0.01, settle_s=5)) as alice:
            await alice.do("/login alice")
            server.deaf = True
            await alice.do("/chat bob one")
            await alice.notices("connection lost")
            server.deaf = False
            assert await alice.session.settle()
            assert server.texts() == ["one"]

    play(scenario)


def test_still_thought_to_be_logged_in_is_waited_out(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        account = server.account("alice")
        async with client(server.port, tmp_path / "1") as old, client(server.port, tmp_path / "2") as new:
            await old.do("/login alice")
            await new.do("/login alice")
            await new.notices("cannot log in as alice: this account is already logged in")
            login = asyncio.create_task(new.do("/login alice"))
            before = server.logins
            await until(lambda: server.logins > before)
            await old.session.leave()
            await login
            assert new.session.user is not None
            assert account.peer is not None

    play(scenario)


def test_a_changed_password_ends_the_login_instead_of_trying_for_ever(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        account = server.account("alice")
        async with client(server.port, tmp_path) as alice:
            await alice.do("/login alice")
            account.password = "other"
            server.cut()
            await alice.notices("logged out, the server does not let us in again")
            assert alice.session.user is None
            await alice.do("hello")
            await alice.notices("not logged in")

    play(scenario)


def test_an_idle_connection_that_was_closed_is_opened_when_needed(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        async with client(server.port, tmp_path) as alice:
            await alice.session.connect()
            server.cut()
            await until(lambda: not alice.session.connected)
            assert server.connects == 1
            await alice.do("/login alice")
            assert alice.session.online
            assert server.connects == 2
            assert not alice.screen.noticed("lost")

    play(scenario)


def test_friends_are_asked_and_answered(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        server.account("bob")
        async with client(server.port, tmp_path / "a") as alice, client(server.port, tmp_path / "b") as bob:
            await bob.do("/login bob", "/addfriend alice")
            await bob.notices("the number of alice is not known here")
            await bob.do("/addfriend 1")
            await alice.do("/login alice")
            await alice.notices("bob (2) asks to be your friend (/accept 2 or /refuse 2)")
            server.cut()
            await until(lambda: alice.session.online and bob.session.online and server.logins == 4)
            assert sum("asks" in notice for notice in alice.screen.notices) == 1
            await alice.do("/accept bob")
            await bob.notices("alice (1) has accepted your friend request")
            await bob.do("/friends")
            await bob.notices("alice(1) online")
            await alice.do("/friends")
            await alice.notices("bob(2) online")
            await bob.do("/addfriend 7")
            await bob.notices("refused: no such user")

    play(scenario)


def test_groups_are_made_joined_and_used(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        server.account("bob")
        async with client(server.port, tmp_path / "a") as alice, client(server.port, tmp_path / "b") as bob:
            await alice.do("/login alice", "/creategroup team where we talk", "creategroup:old:spelling")
            await alice.notices("made the group team, its number is 1")
            await bob.do("/login bob", "/joingroup 1", "addgroup:99")
            await bob.notices("joined the group team#1")
            await bob.notices("no such group")
            await bob.do("groupchat:1:hello", "again")
            await alice.shows("team#1 bob(2): hello", "team#1 bob(2): again")
            await alice.do("/logout", "/login alice", "/groups")
            await alice.notices("team#1: where we talk")
            await alice.notices("    bob(2) online")

    play(scenario)


def test_what_arrives_after_logout_is_shown_and_remembered(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        alice, bob = server.account("alice"), server.account("bob")
        async with client(server.port, tmp_path) as a:
            await a.do("/login alice")
            peer = alice.peer
            await a.do("/logout")
            assert peer is not None
            alice.peer = peer
            server.message(bob, alice, "late")
            await a.shows("bob(2): late")
            alice.peer = None
            server.forget_deliveries(alice)
            await a.do("/login alice")
            server.message(bob, alice, "later")
            await a.shows("bob(2): late", "bob(2): later")

    play(scenario)


@pytest.mark.parametrize("cuts", [30])
def test_a_storm_of_broken_connections_loses_and_repeats_nothing(tmp_path: Path, cuts: int) -> None:
    async def scenario(server: SmallServer) -> None:
        alice, bob = server.account("alice"), server.account("bob")
        async with client(server.port, tmp_path / "a", QUICK) as a, client(server.port, tmp_path / "b", QUICK) as b:
            await a.do("/login alice", "/chat bob")
            await b.do("/login bob", "/chat alice")
            for number in range(cuts):
                await a.do(f"a{number}")
                await b.do(f"b{number}")
                victim = (alice, bob)[number % 2]
                before = len(server.stored)
                if number % 5 == 0:
                    server.lose_acks = 1
                elif victim.peer is not None:
                    victim.peer.cut()
                await until(lambda before=before: len(server.stored) > before)
            assert await a.session.settle()
            assert await b.session.settle()
            await b.shows(*(f"alice(1): a{number}" for number in range(cuts)))
            await a.shows(*(f"bob(2): b{number}" for number in range(cuts)))
            assert len(server.stored) == 2 * cuts

    play(scenario)


def test_a_server_without_requests_is_served_as_far_as_it_goes(tmp_path: Path) -> None:
    async def scenario(server: SmallServer) -> None:
        server.account("alice")
        server.account("bob")
        async with client(server.port, tmp_path) as alice:
            await alice.do("/login alice", "/chat bob hello", "/addfriend 2")
            for line in ("/block bob", "/history", "/unread", "/invite #1 bob", "/passwd", "/whois bob", "/sessions"):
                before = len(alice.screen.notices)
                await alice.do(line)
                assert alice.screen.notices[before:][-1] in (
                    "this server does not offer this",
                    "no group #1 known: give its number",
                )
            assert await alice.session.settle()
            assert server.texts() == ["hello"]
            assert not [frame for frame in server.received if frame["msgid"] == 16]

    play(scenario)
