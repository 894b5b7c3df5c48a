"""Commands about other people: friends, blocks, privacy, profiles.

Owns: these commands. Elsewhere: the lists (contacts), which notices keep true (live). Fails: Usage, ChatError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from chatd.client.frame_commands import FrameCommands
from chatd.client.grammar import AUDIENCES, PROFILE_FIELDS, PURPOSES, Usage, quoted
from chatd.client.live import shown_as, when
from chatd.client.screen import Screen
from chatd.client.session import ClientSession
from chatd_client import results
from chatd_client.errors import ChatError


class PeopleCommands:
    def __init__(self, session: ClientSession, screen: Screen) -> None:
        self._session = session
        self._screen = screen
        self._frames = FrameCommands(session)
        self._ask = session.requests.ask

    def verbs(self) -> dict[str, Callable[[Sequence[str]], Awaitable[None]]]:
        return {
            "friends": self._friends,
            "addfriend": self._add_friend,
            "accept": self._accept,
            "refuse": self._refuse,
            "unfriend": self._unfriend,
            "block": self._block,
            "unblock": self._unblock,
            "blocks": self._blocks,
            "privacy": self._privacy,
            "profile": self._profile,
            "whois": self._whois,
        }

    # ------------------------------------------------------------ friends

    async def _friends(self, words: Sequence[str]) -> None:
        contacts = self._session.contacts
        for friend in sorted(contacts.friends.values(), key=lambda friend: (not friend.online, friend.name)):
            self._screen.notice(f"{friend.name}({friend.id}) {'online' if friend.online else 'offline'}")
        for user_id, name in contacts.requests.items():
            self._screen.notice(
                f"{name or 'somebody'}({user_id}) asks to be your friend: /accept {user_id} or /refuse {user_id}"
            )
        if not contacts.friends and not contacts.requests:
            self._screen.notice("no friends yet: /addfriend NAME")

    def _number_of(self, word: str) -> int:
        """For a server without requests: it knows no names."""
        number = self._session.contacts.user_id_of(word)
        if not number:
            raise Usage(f"the number of {word} is not known here: give the number")
        return number

    async def _add_friend(self, words: Sequence[str]) -> None:
        self._session.require_login()
        if not self._session.requests.offered:
            await self._frames.request_friend(self._number_of(words[0]))
            self._screen.notice(f"asked {words[0]}")
            return
        asked = await self._ask("friend.request", results.Asked, user=words[0])
        if asked.friends:
            await self._befriended(asked.user.id, asked.user.name)
            self._screen.notice(f"you and {asked.user.name} are friends now")
        else:
            self._screen.notice(f"asked {words[0]}")

    async def _accept(self, words: Sequence[str]) -> None:
        self._session.require_login()
        if not self._session.requests.offered:
            await self._frames.answer_friend(self._number_of(words[0]), accept=True)
            return
        found = await self._ask("friend.accept", results.OneUser, user=words[0])
        await self._befriended(found.user.id, found.user.name)
        self._screen.notice(f"you and {found.user.name} are friends now")

    async def _befriended(self, user_id: int, name: str) -> None:
        self._session.contacts.befriend(user_id, online=False, name=name)
        await self._session.live.watch([user_id])

    async def _refuse(self, words: Sequence[str]) -> None:
        self._session.require_login()
        if not self._session.requests.offered:
            await self._frames.answer_friend(self._number_of(words[0]), accept=False)
            return
        found = await self._ask("friend.refuse", results.OneUser, user=words[0])
        self._session.contacts.requests.pop(found.user.id, None)
        self._screen.notice(f"refused {found.user.name}")

    async def _unfriend(self, words: Sequence[str]) -> None:
        self._session.require_login()
        found = await self._ask("friend.remove", results.OneUser, user=words[0])
        self._session.contacts.unfriend(found.user.id)
        self._screen.notice(f"{found.user.name} is not your friend any more")

    # ------------------------------------------------------------ who may do what

    async def _block(self, words: Sequence[str]) -> None:
        self._session.require_login()
        found = await self._ask("block", results.OneUser, user=words[0])
        self._session.contacts.unfriend(found.user.id)
        self._session.contacts.requests.pop(found.user.id, None)
        self._screen.notice(f"blocked {found.user.name}: /unblock {quoted(found.user.name)} ends it")

    async def _unblock(self, words: Sequence[str]) -> None:
        self._session.require_login()
        found = await self._ask("unblock", results.OneUser, user=words[0])
        self._screen.notice(f"{found.user.name} is not blocked any more")

    async def _blocks(self, words: Sequence[str]) -> None:
        self._session.require_login()
        rows = self._session.requests.rows
        found = await rows("block.list", results.Users, lambda page: page.users, lambda user: user.id)
        for user in found:
            self._screen.notice(f"{user.name}({user.id})")
        if not found:
            self._screen.notice("you block nobody")

    async def _privacy(self, words: Sequence[str]) -> None:
        self._session.require_login()
        if len(words) == 1:
            raise Usage(f"/privacy {'|'.join(PURPOSES)} {'|'.join(AUDIENCES)}")
        if words:
            purpose, who = words
            if purpose not in PURPOSES or who not in AUDIENCES:
                raise Usage(f"/privacy {'|'.join(PURPOSES)} {'|'.join(AUDIENCES)}")
            await self._ask("privacy.set", results.Nothing, **{purpose: who})
        found = await self._ask("privacy.get", results.Privacy)
        mine, usual = found.privacy, found.defaults
        for may, own, default in (
            ("write to you", mine.write, usual.write),
            ("ask to be your friend", mine.ask, usual.ask),
            ("see your profile and presence", mine.see, usual.see),
            ("add you to groups", mine.add, usual.add),
        ):
            self._screen.notice(f"may {may}: {own}" + (f" ({default})" if own == "default" else ""))

    # ------------------------------------------------------------ profiles

    async def _profile(self, words: Sequence[str]) -> None:
        self._session.require_login()
        if words and words[0] not in PROFILE_FIELDS:
            raise Usage(f"/profile {'|'.join(PROFILE_FIELDS)} TEXT")
        if words:
            text = words[1] if len(words) > 1 else ""
            found = await self._ask("profile.set", results.Profile, **{words[0]: text})
        else:
            found = await self._ask("profile.get", results.Profile)
        self._tell_profile(found.profile)

    def _tell_profile(self, profile: dict[str, str]) -> None:
        for name, text in profile.items():
            self._screen.notice(f"{name}: {text}")
        if not profile:
            self._screen.notice(f"no profile: /profile {'|'.join(PROFILE_FIELDS)} TEXT")

    async def _whois(self, words: Sequence[str]) -> None:
        self._session.require_login()
        found = await self._ask("profile.get", results.Profile, user=words[0])
        self._screen.notice(shown_as(found.user))
        for name, text in found.profile.items():
            self._screen.notice(f"{name}: {text}")
        try:
            presence = await self._ask("presence.get", results.Users, users=[words[0]])
        except ChatError:
            return  # not for us to see
        for user in presence.users:
            seen = f", last seen {when(user.last_seen)}" if user.last_seen and not user.online else ""
            self._screen.notice(f"{'online' if user.online else 'offline'}{seen}")
