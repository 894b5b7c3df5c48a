"""One session per user and wire, wherever it is: the session locks that ensure it.

Owns: SessionLocks: which session of this worker has a session lock or is to get it, asking the worker that holds a
lock, and answering the workers that ask.
Elsewhere: which of two sessions stays (core.sessions.duplicate_login), sessions without a lock
(core.sessions.unlocked), what a login does besides (core.sessions.login), the locks themselves (Bus.lock).
Fails: Refused and Outranked: this session must end. A bus that is cut off is no reason to fail: then a session is
served without its lock, and takes it, or ends, by the same rules when the bus is back.

A session lock is a lock of the bus with the key lock_key(user, wire). It is held by a worker, and ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Mapping
from types import MappingProxyType

from chatd.bus.contract import LockShare, topic_of_user
from chatd.bus.survey import Question
from chatd.core import bus_messages
from chatd.core.bus_messages import SessionChallenge, SessionVerdict
from chatd.core.services import Services
from chatd.core.sessions.duplicate_login import (
    Contender,
    Outranked,
    Ruling,
    come_after,
    contender,
    decide,
    dismiss,
    refuses_new,
)
from chatd.core.sessions.session import Session
from chatd.core.sessions.unlocked import UnlockedSessions
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.model import Protocol, User

VERDICT_S = 2.0
"""A worker that holds a lock answers within this. One that died on another host holds its locks until its lease
expires, so there this is the minimum."""
LOOK_S = (0.005, 0.2)
"""Shortest and longest pause between two tries to take a lock that another worker holds."""
ASK_S = (0.1, 1.0)
"""Shortest and longest pause between two challenges of its holder."""

LockKey = int


def lock_key(user: User, protocol: Protocol) -> LockKey:
    return user.id << 2 | protocol


class SessionLocks:
    def __init__(self, services: Services) -> None:
        self._bus = services.bus
        self._store = services.store
        self._config = services.config
        self._surveys = services.surveys
        self._log = services.log
        self._holders: dict[LockKey, Session] = {}
        """The session of this worker that has the lock, or asks for it, or is served without it."""
        self._acquiring: Counter[LockKey] = Counter()
        """Requests for a lock that have not ended."""
        self._unlocked = UnlockedSessions(services.background, self._regain)

    @property
    def holders(self) -> Mapping[LockKey, Session]:
        return MappingProxyType(self._holders)

    @property
    def unlocked(self) -> UnlockedSessions:
        """The sessions of this worker that are served without their lock."""
        return self._unlocked

    @property
    def is_idle(self) -> bool:
        """Every session has its lock and none is being asked for."""
        return not (len(self._unlocked) or self._unlocked.due or self._acquiring)

    # ---------------------------------------------------------------- a login

    async def take(self, session: Session) -> None:
        """Make the session the only one of its user on its wire. While the bus is cut off that is certain only for this
        worker; the session is then served without its lock.

        Raises:
            Refused: ALREADY_LOGGED_IN: another session stays, on a wire that refuses a new one that does not take
                over; or this session was ended meanwhile.
            Outranked: another session stays, on a wire where the later login wins.
            Unavailable: the worker that holds the lock does not answer.
        """
        key = lock_key(session.user, session.protocol)
        holder = self._holders.get(key)
        if holder is not None and not holder.is_over:
            self._settle(session, holder)
        self._holders[key] = session
        try:
            await self._acquire(session, key)
        except Unavailable:
            if session.is_over:  # another login on this worker has taken its place
                raise Refused(ErrorCode.ALREADY_LOGGED_IN) from None
            self._unlocked.add(session)
        except TimeoutError:
            if refuses_new(session) and not session.takes_over:
                raise Refused(ErrorCode.ALREADY_LOGGED_IN) from None
            raise Unavailable("the worker with the old session does not answer") from None
        except Outranked:
            if refuses_new(session):
                raise Refused(ErrorCode.ALREADY_LOGGED_IN) from None
            raise

    def _settle(self, session: Session, old: Session) -> None:
        """Both are on this worker. Returns when the old session is ended, raises when the new one must end."""
        ruling = decide(contender(session), old)
        if not ruling.new_stays and refuses_new(old):
            raise Refused(ErrorCode.ALREADY_LOGGED_IN)
        if not ruling.new_stays:
            raise Outranked(silent=ruling.silent)
        come_after(session, old.first_login_time)
        dismiss(old, silent=ruling.silent)

    async def _acquire(self, session: Session, key: LockKey) -> None:
        """Returns with the lock. Raises Unavailable, TimeoutError, Outranked; Refused if the session ends meanwhile."""
        self._acquiring[key] += 1
        try:
            if not await self._bus.lock(key):
                await self._challenge(session, key)
        finally:
            self._stop_expecting(key)

    async def _challenge(self, session: Session, key: LockKey) -> None:
        """Another worker holds the lock: ask it to decide, again and again, until the lock is free. In between, try the
        lock: its holder may be dead, or end by itself.

        The user's topic stays subscribed, because the session is about to need it: a user who moves from one worker to
        another is never offline in between."""
        now, topic = asyncio.get_running_loop().time, topic_of_user(session.user.id)
        verdicts: deque[SessionVerdict] = deque()
        question = Question(topic, lambda ref: bus_messages.encode(_challenge_of(session, ref)), SessionVerdict)
        look_s, ask_s = LOOK_S[0], ASK_S[0]
        ask_at, deadline = 0.0, now() + self._patience_s()
        with contextlib.closing(self._surveys.open(question, verdicts.append)) as survey:
            while now() < deadline:
                if session.is_over:
                    raise Refused(ErrorCode.ALREADY_LOGGED_IN)
                if now() >= ask_at:  # the holder may have missed the question, or be another one by now
                    await self._bus.subscribe([topic])  # again: another session that ended may have unsubscribed it
                    await survey.ask()
                    ask_at, ask_s = now() + ask_s, min(2 * ask_s, ASK_S[1])
                await survey.wait(look_s)
                look_s = min(2 * look_s, LOOK_S[1])
                while verdicts:
                    _accept(session, verdicts.popleft())
                    look_s = LOOK_S[0]
                if await self._bus.lock(key):
                    return
        raise TimeoutError

    def _patience_s(self) -> float:
        bus = self._config().bus
        return VERDICT_S if bus.url.startswith("local:") else max(VERDICT_S, bus.lease_s + 1.0)

    # ---------------------------------------------------------------- the questions of other workers

    def challenged(self, challenge: SessionChallenge) -> None:
        """Another worker asks for a lock. Only the worker that has it answers: two that want it would end each other's
        sessions."""
        key = challenge.user_id << 2 | challenge.protocol
        holder = self._holders.get(key)
        if holder is None:
            self._disown(key)
            return
        if key in self._acquiring:
            return
        if holder in self._unlocked:  # it may have the lock without having been told so: let it ask
            self._unlocked.expedite(holder)
            return
        ruling = self._decide(challenge, holder)
        verdict = SessionVerdict(challenge.ref, ruling.new_stays, holder.first_login_time, ruling.silent)
        self._bus.publish(topic_of_user(challenge.user_id), bus_messages.encode(verdict))

    def _decide(self, challenge: SessionChallenge, holder: Session) -> Ruling:
        """Which session stays; the holder's is ended if it is the other one."""
        if holder.is_over:
            return Ruling(new_stays=True, silent=False)
        fresh = challenge.fresh or challenge.first_login_time <= 0
        new = Contender(challenge.first_login_time, fresh, challenge.age_ms / 1000, challenge.takes_over)
        ruling = decide(new, holder)
        if ruling.new_stays:
            dismiss(holder, silent=ruling.silent)
        return ruling

    # ---------------------------------------------------------------- the end of a session

    async def release(self, session: Session) -> None:
        """The session has ended. Its lock is released only after its cursors are in the store, so that the next login
        elsewhere is not given again what this one acknowledged. Never raises."""
        user, key = session.user, lock_key(session.user, session.protocol)
        self._unlocked.remove(session)
        if self._holders.get(key) is session:
            try:
                await self._store.read(lambda tables: None)
            except Unavailable:
                self._log.warning(
                    "the store does not answer: messages may be delivered again at the next login", user=user.id
                )
        if self._holders.get(key) is session:
            del self._holders[key]
            self._bus.unlock(key)
        if not any(lock_key(user, protocol) in self._holders for protocol in Protocol):
            self._bus.unsubscribe([topic_of_user(user.id)])  # a login that failed may have subscribed it

    # ---------------------------------------------------------------- a session that goes to another worker

    async def give(self, session: Session, to: LockShare) -> bool:
        """Pass the lock to the worker that the session goes to. False: it was served without, or lost it. Never
        raises."""
        key = lock_key(session.user, session.protocol)
        if self._holders.get(key) is not session or key in self._acquiring or session.is_over:
            return False
        try:
            return await self._bus.give_lock(key, to)
        except Unavailable:
            return False

    async def take_back(self, session: Session, given: LockShare) -> None:
        """The session stays, but its lock was given. If it cannot be taken back, the session asks for it like one that
        has lost it. The lock of a session that has ended stays with the other worker, which may have given it to a new
        login of the user. Never raises."""
        key = lock_key(session.user, session.protocol)
        if session.is_over:
            if self._holders.get(key) is session:
                del self._holders[key]
            return
        try:
            has_lock = await self._bus.take_lock_back(key, given)
        except Unavailable:
            has_lock = False
        if not has_lock:
            self.lost(key)
        elif self._holders.get(key) is None:  # the session has ended meanwhile
            self._bus.unlock(key)

    def gave(self, session: Session) -> None:
        """The session is the other worker's now."""
        key = lock_key(session.user, session.protocol)
        self._unlocked.remove(session)
        if self._holders.get(key) is session:
            del self._holders[key]

    # ---------------------------------------------------------------- a session that comes from another worker

    def expect(self, session: Session) -> bool:
        """The session may come, with its lock. Until then the worker that has it answers challenges. False: another
        session of this worker has the lock, or is about to take it."""
        key = lock_key(session.user, session.protocol)
        if key in self._holders or key in self._acquiring:
            return False
        self._holders[key] = session
        self._acquiring[key] += 1
        return True

    def arrived(self, session: Session, *, has_lock: bool) -> None:
        """It has come. A login on this worker may have taken its place meanwhile: then the lock is for that one."""
        key = lock_key(session.user, session.protocol)
        self._stop_expecting(key)
        if has_lock:
            self._bus.keep_lock(key)
            self._holders.setdefault(key, session)
        elif self._holders.get(key) is session:
            self._unlocked.add_due(session)

    def unexpect(self, session: Session) -> None:
        """It does not come. If its lock was given to this worker nevertheless, it is released."""
        key = lock_key(session.user, session.protocol)
        self._stop_expecting(key)
        if self._holders.get(key) is session:
            del self._holders[key]
            self._disown(key)

    def _disown(self, key: LockKey) -> None:
        """Nobody here needs the lock: release it, even if this worker was given it without having been told so."""
        self._bus.keep_lock(key)
        self._bus.unlock(key)

    def _stop_expecting(self, key: LockKey) -> None:
        self._acquiring[key] -= 1
        if not self._acquiring[key]:
            del self._acquiring[key]

    # ---------------------------------------------------------------- sessions without their lock

    def lost(self, key: LockKey) -> None:
        """Another worker holds the lock now."""
        holder = self._holders.get(key)
        if holder is not None and not holder.is_over:
            self._unlocked.add_due(holder)

    def gap(self) -> None:
        """The bus may be back."""
        self._unlocked.gap()

    def tick(self) -> None:
        """About twenty times a second."""
        self._unlocked.tick()

    async def _regain(self, session: Session) -> None:
        """Ask for the lock of a session that is served without it: as a login would, but with the session's age."""
        key = lock_key(session.user, session.protocol)
        try:
            await self._acquire(session, key)
        except Outranked as outranked:
            if not session.is_over:
                self._log.info(
                    "session ended, its user has logged in elsewhere",
                    user=session.user.id,
                    wire=session.protocol.name,
                )
                dismiss(session, silent=outranked.silent)
        except Refused:
            pass  # it ended while its lock was asked for
        finally:
            if self._holders.get(key) is None:  # it was released before the lock came
                self._bus.unlock(key)


def _accept(session: Session, verdict: SessionVerdict) -> None:
    """Raises: Outranked if the session must end."""
    if not verdict.yielded:
        raise Outranked(silent=verdict.silent)
    come_after(session, verdict.first_login_time)


def _challenge_of(session: Session, ref: int) -> SessionChallenge:
    me = contender(session)
    first_login_time = 0 if me.fresh and not me.age_s else me.first_login_time
    age_ms = int(me.age_s * 1000)
    return SessionChallenge(
        session.user.id, int(session.protocol), first_login_time, ref, age_ms, me.fresh, me.takes_over
    )
