"""Commands about other people: friends, blocks, privacy, profiles.

Owns: these commands. Elsewhere: the lists (contacts), which notices keep true (live). Fails: Usage, ChatError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from chatd.client.app import App
from chatd.client.grammar import AUDIENCES, PROFILE_FIELDS, PURPOSES, Usage, quoted
from chatd.client.live import shown_as, when
from chatd.client.screen import Screen
from chatd_client.errors import ChatError


class PeopleCommands:
    def __init__(self, app: App, screen: Screen) -> None:
        self._app = app
        self._client = app.client
        self._screen = screen

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
        contacts = self._app.contacts
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
        number = self._app.contacts.user_id_of(word)
        if not number:
            raise Usage(f"the number of {word} is not known here: give the number")
        return number

    async def _add_friend(self, words: Sequence[str]) -> None:
        self._client.require_login()
        if not self._client.offers_requests:
            await self._stock_request(self._number_of(words[0]))
            self._screen.notice(f"asked {words[0]}")
            return
        asked = await self._client.friends.request(words[0])
        if asked.friends:
            await self._befriended(asked.user.id, asked.user.name)
            self._screen.notice(f"you and {asked.user.name} are friends now")
        else:
            self._screen.notice(f"asked {words[0]}")

    async def _accept(self, words: Sequence[str]) -> None:
        self._client.require_login()
        if not self._client.offers_requests:
            await self._stock_answer(self._number_of(words[0]), accept=True)
            return
        user = await self._client.friends.accept(words[0])
        await self._befriended(user.id, user.name)
        self._screen.notice(f"you and {user.name} are friends now")

    async def _befriended(self, user_id: int, name: str) -> None:
        self._app.contacts.befriend(user_id, online=False, name=name)
        await self._app.live.watch([user_id])

    async def _stock_request(self, user_id: int) -> None:
        await self._client.stock.request_friend(user_id)
        if self._app.contacts.requests.pop(user_id, None) is not None:  # who had asked is a friend now
            self._app.contacts.befriend(user_id, online=True)

    async def _stock_answer(self, user_id: int, *, accept: bool) -> None:
        await self._client.stock.answer_friend(user_id, accept=accept)
        if self._app.contacts.requests.pop(user_id, None) is not None and accept:
            self._app.contacts.befriend(user_id, online=True)

    async def _refuse(self, words: Sequence[str]) -> None:
        self._client.require_login()
        if not self._client.offers_requests:
            await self._stock_answer(self._number_of(words[0]), accept=False)
            return
        user = await self._client.friends.refuse(words[0])
        self._app.contacts.requests.pop(user.id, None)
        self._screen.notice(f"refused {user.name}")

    async def _unfriend(self, words: Sequence[str]) -> None:
        self._client.require_login()
        user = await self._client.friends.remove(words[0])
        self._app.contacts.unfriend(user.id)
        self._screen.notice(f"{user.name} is not your friend any more")

    # ------------------------------------------------------------ who may do what

    async def _block(self, words: Sequence[str]) -> None:
        self._client.require_login()
        user = await self._client.blocks.add(words[0])
        self._app.contacts.unfriend(user.id)
        self._app.contacts.requests.pop(user.id, None)
        self._screen.notice(f"blocked {user.name}: /unblock {quoted(user.name)} ends it")

    async def _unblock(self, words: Sequence[str]) -> None:
        self._client.require_login()
        user = await self._client.blocks.remove(words[0])
        self._screen.notice(f"{user.name} is not blocked any more")

    async def _blocks(self, words: Sequence[str]) -> None:
        self._client.require_login()
        found = await self._client.blocks.list()
        for user in found:
            self._screen.notice(f"{user.name}({user.id})")
        if not found:
            self._screen.notice("you block nobody")

    async def _privacy(self, words: Sequence[str]) -> None:
        self._client.require_login()
        if len(words) == 1:
            raise Usage(f"/privacy {'|'.join(PURPOSES)} {'|'.join(AUDIENCES)}")
        if words:
            purpose, who = words
            if purpose not in PURPOSES or who not in AUDIENCES:
                raise Usage(f"/privacy {'|'.join(PURPOSES)} {'|'.join(AUDIENCES)}")
            await self._client.privacy.set(**{purpose: who})
        found = await self._client.privacy.get()
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
        self._client.require_login()
        if words and words[0] not in PROFILE_FIELDS:
            raise Usage(f"/profile {'|'.join(PROFILE_FIELDS)} TEXT")
        if words:
            text = words[1] if len(words) > 1 else ""
            self._tell_profile(await self._client.profiles.set(**{words[0]: text}))
        else:
            self._tell_profile((await self._client.profiles.get()).profile)

    def _tell_profile(self, profile: dict[str, str]) -> None:
        for name, text in profile.items():
            self._screen.notice(f"{name}: {text}")
        if not profile:
            self._screen.notice(f"no profile: /profile {'|'.join(PROFILE_FIELDS)} TEXT")

    async def _whois(self, words: Sequence[str]) -> None:
        self._client.require_login()
        found = await self._client.profiles.get(words[0])
        self._screen.notice(shown_as(found.user))
        for name, text in found.profile.items():
            self._screen.notice(f"{name}: {text}")
        try:
            presence = await self._client.presence.get([words[0]])
        except ChatError:
            return  # not for us to see
        for user in presence:
            seen = f", last seen {when(user.last_seen)}" if user.last_seen and not user.online else ""
            self._screen.notice(f"{'online' if user.online else 'offline'}{seen}")
