"""One session per user and wire, wherever it is: the marks that make it so.

Owns: which session of this worker has a mark or is to get it, the rules when one user logs in twice, asking the
worker that holds a mark, and getting marks for sessions that are here without one.
Elsewhere: what a login does besides (core.sessions.login); marks themselves (Bus.lock), which die with their worker.
Fails: Refused and Outvoted: this session must go. Never because the bus is cut off: then a session is served
without its mark, and gets it, or goes, by the same rules when the bus is back.

Source: protocols/chatserver.md (errno 2) and protocols/mobileimsdk.md (firstLoginTime).
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter
from typing import NamedTuple

from chatd.bus.contract import topic_of_user
from chatd.core import bus_messages
from chatd.core.services import Services
from chatd.core.sessions.session import Session, SessionState
from chatd.errors import Disconnect, ErrorCode, Refused, Unavailable
from chatd.model import Protocol, User
from chatd.protocol import DuplicateLogin, Kicked

_VERDICT_S = 2.0
"""A worker that holds a mark answers within this; one that died on another host holds it for its lease."""
_LOOK_S = (0.005, 0.2)
"""Shortest and longest pause between two looks whether a mark is free."""
_ASK_S = (0.1, 1.0)
"""Shortest and longest pause between two questions to its holder."""
_RETRY_S = 5.0
_AT_ONCE = 64
"""Sessions without a mark for which one is asked at the same time,"""
_PER_TICK = 250
"""and begun with in one tick."""

LockKey = int


class Outvoted(Exception):
    """Another session of the user stays, this one must go. silent: the other is its own reconnect."""

    def __init__(self, silent: bool) -> None:
        super().__init__()
        self.silent = silent


class Claim(NamedTuple):
    """What speaks for a session. first_login_time: as on its wire. fresh: its login named none.
    age_s: since that login; 0 = it is logging in now."""

    first_login_time: int
    fresh: bool
    age_s: float


class Ruling(NamedTuple):
    """silent: the one that goes is told nothing, it was replaced by its own reconnect."""

    new_stays: bool
    silent: bool


def lock_key(user: User, protocol: Protocol) -> LockKey:
    return user.id << 2 | protocol


def rule(new: Claim, old: Claim) -> Ruling:
    """Of two mobileimsdk sessions of one user. Decided as if the younger had logged in while the older was there:
    which of them got to the mark first says nothing after the bus was cut off, and hosts' clocks say little."""
    new_is_later = new.age_s <= old.age_s
    later, earlier = (new, old) if new_is_later else (old, new)
    later_stays = later.fresh or later.first_login_time >= earlier.first_login_time
    silent = not later.fresh and later.first_login_time == earlier.first_login_time
    return Ruling(later_stays is new_is_later, silent)


def end(session: Session, reason: Disconnect) -> None:
    """End it from outside. One that is still logging in is refused by its own login, which sees the new state."""
    match session.state:
        case SessionState.LIVE:
            session.peer.close(reason)
        case SessionState.LOGGING_IN:
            session.enter(SessionState.CLOSING)


def dismiss(session: Session, silent: bool) -> None:
    """The user is logged in elsewhere."""
    if not silent and session.state is SessionState.LIVE:
        session.peer.push(Kicked(False, "logged in elsewhere"))
    end(session, Disconnect.REPLACED if silent else Disconnect.KICKED_DUPLICATE)


class SessionLocks:
    def __init__(self, services: Services) -> None:
        self._bus = services.bus
        self._store = services.store
        self._config = services.config
        self._background = services.background
        self._holders: dict[LockKey, Session] = {}
        self._claiming: Counter[LockKey] = Counter()
        self._verdicts: dict[int, asyncio.Future[bus_messages.SessionVerdict]] = {}
        self._refs = itertools.count(secrets.randbits(61))
        self._unmarked: dict[Session, None] = {}
        self._due: dict[Session, None] = {}
        self._regaining: set[Session] = set()
        self._budget = 0
        self._retry_at = 0.0
        self._log = services.log

    @property
    def missing(self) -> int:
        """Sessions here without their mark."""
        return len(self._unmarked) + len(self._regaining)

    # ---------------------------------------------------------------- a login

    async def take(self, session: Session) -> None:
        """Of the user's sessions on this wire this is the only one now; as far as one can say, if the bus is cut
        off. Raises Refused, Outvoted, Unavailable."""
        mark = lock_key(session.user, session.protocol)
        holder = self._holders.get(mark)
        if holder is not None and not holder.is_over:
            self._settle(session, holder)
        self._holders[mark] = session
        try:
            await self._obtain(session, mark)
        except Unavailable:
            if session.is_over:  # another login on this worker has taken its place
                raise Refused(ErrorCode.ALREADY_LOGGED_IN) from None
            if not self.missing:
                self._log.warning("serving without marks: the bus cannot say who is logged in elsewhere")
            self._unmarked[session] = None
        except TimeoutError:
            if _refuses(session):
                raise Refused(ErrorCode.ALREADY_LOGGED_IN) from None
            raise Unavailable("the worker with the old session does not answer") from None
        except Outvoted:
            if _refuses(session):
                raise Refused(ErrorCode.ALREADY_LOGGED_IN) from None
            raise

    def _settle(self, session: Session, old: Session) -> None:
        """Both are on this worker. Returns when the old session is ended, raises when the new one must go."""
        if _refuses(old):
            raise Refused(ErrorCode.ALREADY_LOGGED_IN)
        ruling = rule(_claim(session), _claim(old))
        if not ruling.new_stays:
            raise Outvoted(ruling.silent)
        _follow(session, old.first_login_time)
        dismiss(old, ruling.silent)

    async def _obtain(self, session: Session, mark: LockKey) -> None:
        """Returns with the mark. Raises Unavailable, TimeoutError, Outvoted; Refused where the session has ended."""
        self._claiming[mark] += 1
        try:
            if not await self._bus.lock(mark):
                await self._contend(session, mark)
        finally:
            self._claiming[mark] -= 1
            if not self._claiming[mark]:
                del self._claiming[mark]

    def _patience_s(self) -> float:
        bus = self._config().bus
        return _VERDICT_S if bus.url.startswith("local:") else max(_VERDICT_S, bus.lease_s + 1.0)

    async def _contend(self, session: Session, mark: LockKey) -> None:
        """Another worker holds the mark: ask it to decide, then wait until the mark is free. The user's topic stays
        subscribed, for the session is about to need it: who moves from one worker to another is never nowhere."""
        ref = next(self._refs)
        try:
            await self._argue(session, mark, ref)
        finally:
            self._verdicts.pop(ref, None)

    async def _argue(self, session: Session, mark: LockKey, ref: int) -> None:
        """The answer wakes us; the looks in between are for a holder that leaves of its own accord, or is dead."""
        loop, topic = asyncio.get_running_loop(), topic_of_user(session.user.id)
        verdict = self._verdicts[ref] = loop.create_future()
        look_s, ask_s = _LOOK_S[0], _ASK_S[0]
        ask_at, deadline = 0.0, loop.time() + self._patience_s()
        while loop.time() < deadline:
            if session.is_over:
                raise Refused(ErrorCode.ALREADY_LOGGED_IN)
            if loop.time() >= ask_at:  # again: the holder may not have heard us yet, or be another one by now
                await self._bus.subscribe([topic])
                self._bus.publish(topic, bus_messages.encode(_challenge(session, ref)))
                ask_at, ask_s = loop.time() + ask_s, min(2 * ask_s, _ASK_S[1])
            await asyncio.wait([verdict], timeout=look_s)
            look_s = min(2 * look_s, _LOOK_S[1])
            if verdict.done():
                said = verdict.result()
                if not said.yielded:
                    raise Outvoted(said.silent)
                _follow(session, said.first_login_time)
                verdict = self._verdicts[ref] = loop.create_future()
                look_s = _LOOK_S[0]
            if await self._bus.lock(mark):
                return
        raise TimeoutError

    # ---------------------------------------------------------------- what other workers ask and answer

    def challenged(self, challenge: bus_messages.SessionChallenge) -> None:
        """Another worker asks for a mark. Only who has it answers: two that want it would end each other."""
        mark = challenge.user_id << 2 | challenge.protocol
        holder = self._holders.get(mark)
        if holder is None:
            self._bus.unlock(mark)  # nobody here wants it, should it be held
            return
        if mark in self._claiming:
            return
        if holder in self._unmarked:  # perhaps it has it, and was not told so: the next to be asked for
            self._due.pop(holder, None)
            self._due[holder] = None
            return
        ruling = Ruling(True, False)
        if not holder.is_over:
            if _refuses(holder):
                ruling = Ruling(False, False)
            else:
                fresh = challenge.fresh or challenge.first_login_time <= 0
                ruling = rule(Claim(challenge.first_login_time, fresh, challenge.age_ms / 1000), _claim(holder))
            if ruling.new_stays:
                dismiss(holder, ruling.silent)
        answer = bus_messages.SessionVerdict(challenge.ref, ruling.new_stays, holder.first_login_time, ruling.silent)
        self._bus.publish(topic_of_user(challenge.user_id), bus_messages.encode(answer))

    def verdict(self, verdict: bus_messages.SessionVerdict) -> None:
        waiting = self._verdicts.get(verdict.ref)
        if waiting is not None and not waiting.done():
            waiting.set_result(verdict)

    # ---------------------------------------------------------------- the end of a session

    async def free(self, session: Session) -> None:
        """The session is over. Its mark is free only after its cursors are in the store, so that the next login
        elsewhere is not given again what this one acknowledged."""
        user, mark = session.user, lock_key(session.user, session.protocol)
        self._unmarked.pop(session, None)
        self._due.pop(session, None)
        if self._holders.get(mark) is session:
            try:
                await self._store.read(lambda tables: None)
            except Unavailable:
                self._log.warning("cursors may be behind", user=user.id)
        if self._holders.get(mark) is session:
            del self._holders[mark]
            self._bus.unlock(mark)
        if not any(lock_key(user, protocol) in self._holders for protocol in Protocol):
            self._bus.unsubscribe([topic_of_user(user.id)])  # where it has asked for a mark, and got no further
        session.enter(SessionState.CLOSED)

    # ---------------------------------------------------------------- sessions without a mark

    def lost(self, mark: LockKey) -> None:
        """Another worker has it now."""
        holder = self._holders.get(mark)
        if holder is not None and not holder.is_over:
            self._unmarked[holder] = None
            self._due[holder] = None

    def gap(self) -> None:
        """The bus may be back."""
        self._due.update(self._unmarked)

    def tick(self) -> None:
        """Some ten times a second."""
        if not self._unmarked:
            return
        now = time.monotonic()
        if now >= self._retry_at:
            self._retry_at = now + _RETRY_S
            self._due.update(self._unmarked)
        self._budget = _PER_TICK
        self._work_off()

    def _work_off(self) -> None:
        while self._due and self._budget and len(self._regaining) < _AT_ONCE:
            self._budget -= 1
            session, _ = self._due.popitem()
            if session in self._unmarked and session not in self._regaining:
                del self._unmarked[session]
                self._regaining.add(session)
                self._background.start(self._regain(session))

    async def _regain(self, session: Session) -> None:
        """As if it logged in, but that it logged in when it did."""
        mark = lock_key(session.user, session.protocol)
        try:
            await self._obtain(session, mark)
        except (Unavailable, TimeoutError) as error:
            if not session.is_over:
                self._unmarked[session] = None
            if isinstance(error, Unavailable):  # for nobody: all wait for the gap, or the next retry
                self._due.clear()
        except Outvoted as vote:
            if not session.is_over:
                self._log.info("logged in elsewhere meanwhile", user=session.user.id, wire=session.protocol.name)
                dismiss(session, vote.silent)
        except Refused:
            pass  # it has ended while it was asked for
        finally:
            self._regaining.discard(session)
            if not self.missing:
                self._log.info("every session has its mark")
            if self._holders.get(mark) is None:  # it ended, and was freed, before the mark came
                self._bus.unlock(mark)
            self._work_off()


def _refuses(session: Session) -> bool:
    return session.peer.traits.duplicate_login is DuplicateLogin.REFUSE_NEW


def _claim(session: Session) -> Claim:
    """What speaks for a session of this worker."""
    age_s = time.monotonic() - session.began_at if session.state is SessionState.LIVE else 0.0
    return Claim(session.first_login_time, session.fresh, age_s)


def _challenge(session: Session, ref: int) -> bus_messages.SessionChallenge:
    claim = _claim(session)
    claimed_time = 0 if claim.fresh and not claim.age_s else claim.first_login_time
    age_ms = int(claim.age_s * 1000)
    return bus_messages.SessionChallenge(session.user.id, int(session.protocol), claimed_time, ref, age_ms, claim.fresh)


def _follow(session: Session, first_login_time: int) -> None:
    """A first login is later than the one it ends, whatever the clock of that host said."""
    if session.fresh and session.state is SessionState.LOGGING_IN:
        session.first_login_time = max(session.first_login_time, first_login_time + 1)
