"""Logins that a backend decides: it is asked over HTTP whether a secret lets a name in.

Owns: BackendLogins: the question, its answer, how many are asked at once, and answers granted a moment ago.
Elsewhere: which kinds of login are accepted, and what follows from the answer (core.authentication); HTTP
(core.fetching).
Fails: BackendUnavailable for anything but a clear answer: whoever cannot be checked is not let in, and is told to try
again. Its trouble is logged once as a WARNING, and once when it is over.

A slow backend delays those who wait for it, and nobody else: no thread waits, and logins by password or token do not
come here.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from hashlib import blake2b

import msgspec

from chatd import log
from chatd.config.schema import Config
from chatd.core.admission import Applicant
from chatd.core.fetching import Exchange, Fetch, FetchFailed
from chatd.errors import ChatdError, ErrorCode, Refused

MAX_ANSWER_BYTES = 4096
"""Of a backend; a longer answer is none."""
MAX_GRANTED = 20_000
"""Maximum answers remembered by one worker; about 150 bytes each."""
SHARE = 4
"""One source may have this part of login_http.at_once."""
WAITING = 8
"""For each question under way, so many may wait for their turn; those beyond are told to try again."""


class BackendUnavailable(ChatdError):
    """There is no clear answer. Caught in core.authentication."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the backend is sent, as JSON. wire: chatserver or mobileimsdk. address: the client's, without port; "" = a
    Unix socket."""

    name: str
    secret: str
    wire: str
    address: str

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Question({self.name!r}, wire={self.wire!r}, address={self.address!r})"


class _Verdict(msgspec.Struct):
    """The backend's answer; other fields are ignored."""

    allow: bool


class BackendLogins:
    def __init__(self, config: Callable[[], Config], fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._fetch = fetch
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._granted: OrderedDict[bytes, float] = OrderedDict()
        """Until when a question is granted without asking. The key is a hash of it with a key that only this process
        has, so that no secret is kept."""
        self._under_way = 0
        self._of_source: Counter[str] = Counter()
        self._turns: OrderedDict[asyncio.Future[str], str] = OrderedDict()
        """Questions that wait, each with its source, in their order. The future is done when the turn has come."""
        self._trouble = ""

    async def grants(self, question: Question, version: str, applicant: Applicant) -> bool:
        """Whether the backend lets them in. version: of what is known of the account, which changes when it is locked,
        deleted or made; "" = do not remember the answer. applicant: whose question it is; asked again when its turn has
        come.

        Raises: BackendUnavailable; Refused BUSY if too many wait, or as applicant.check does."""
        digest = self._digest(question, version)
        if self._granted.get(digest, 0.0) > self._clock():
            return True
        await self._turn(applicant.source)
        try:
            applicant.check()
            granted = await self._ask(question)
        finally:
            self._end(applicant.source)
        if granted and version:
            self._remember(digest)
        return granted

    # ---------------------------------------------------------------- whose turn it is

    async def _turn(self, source: str) -> None:
        """Returns when this question may be asked; _end() must follow. Raises Refused BUSY, BackendUnavailable."""
        if self._has_room(source):
            self._begin(source)
            return
        most = self._config().login_http.at_once
        waiting = sum(other == source for other in self._turns.values())
        if len(self._turns) >= most * WAITING or waiting >= self._share() * WAITING:
            raise Refused(ErrorCode.BUSY)
        turn = asyncio.get_running_loop().create_future()
        self._turns[turn] = source
        try:
            async with asyncio.timeout(self._config().login_http.time_limit_s):
                await turn
        except TimeoutError:
            self._give_back(turn)
            raise BackendUnavailable("too many logins wait for the backend") from None
        except asyncio.CancelledError:
            self._give_back(turn)
            raise

    def _give_back(self, turn: asyncio.Future[str]) -> None:
        """Nobody waits for this turn any more, which may have come."""
        if turn in self._turns:
            del self._turns[turn]
        elif turn.done() and not turn.cancelled():
            self._end(turn.result())

    def _share(self) -> int:
        return max(1, self._config().login_http.at_once // SHARE)

    def _has_room(self, source: str) -> bool:
        """Whether another question of this source may be asked; clients on a Unix socket are of no source."""
        if self._under_way >= self._config().login_http.at_once:
            return False
        return not source or self._of_source[source] < self._share()

    def _begin(self, source: str) -> None:
        self._under_way += 1
        self._of_source[source] += 1

    def _end(self, source: str) -> None:
        """A question is answered: the next ones that have room are asked, in the order in which they came."""
        self._under_way -= 1
        self._of_source[source] -= 1
        if not self._of_source[source]:
            del self._of_source[source]
        for turn, other in tuple(self._turns.items()):
            if self._has_room(other):
                del self._turns[turn]
                if not turn.done():
                    self._begin(other)
                    turn.set_result(other)

    # ---------------------------------------------------------------- one question

    async def _ask(self, question: Question) -> bool:
        """Raises BackendUnavailable."""
        options = self._config().login_http
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if options.secret:
            headers["Authorization"] = f"Bearer {options.secret}"
        body = msgspec.json.encode(question)
        exchange = Exchange(url=options.url, body=body, headers=headers, limit_s=options.time_limit_s)
        try:
            answer = await self._fetch(exchange)
        except FetchFailed as error:
            raise self._unavailable(str(error)) from None
        if answer.status != 200:
            raise self._unavailable(f"it answers with status {answer.status}")
        try:
            verdict = msgspec.json.decode(answer.body, type=_Verdict)
        except (ValueError, RecursionError):
            raise self._unavailable('its answer is not {"allow":true} or {"allow":false}') from None
        if self._trouble:
            log.get().info("the backend of logins answers again")
            self._trouble = ""
        return verdict.allow

    def _unavailable(self, why: str) -> BackendUnavailable:
        if why != self._trouble:
            log.get().warning("the backend of logins cannot be used: clients are told to try again", why=why)
        self._trouble = why
        return BackendUnavailable(why)

    # ---------------------------------------------------------------- what was granted

    def _digest(self, question: Question, version: str) -> bytes:
        data = msgspec.json.encode((question, version, self._config().login_http.url))
        return blake2b(data, digest_size=16, key=self._key).digest()

    def _remember(self, digest: bytes) -> None:
        cache_s = self._config().login_http.cache_s
        if cache_s:
            self._granted[digest] = self._clock() + cache_s
            self._granted.move_to_end(digest)
            if len(self._granted) > MAX_GRANTED:
                self._granted.popitem(last=False)
