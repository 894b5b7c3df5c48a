"""What users accept from each other, as a model: what docs and contract say, without a store.

Owns: ConsentModel, told of every operation that was allowed; it says what is allowed next.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chatd.errors import ErrorCode
from chatd.model import Audience, UserId
from chatd.store.consent_contract import Asked, Purpose

Pair = tuple[UserId, UserId]


@dataclass
class ConsentModel:
    """A pair is (who acts, on whom). defaults: of users who have not chosen, by purpose. blocks: (u, v): u blocks v.
    asked: open friend requests. refused, told: when a request of this pair was refused, or made and then withdrawn.
    written: (u, v): u, who does not let everybody write, has written to v. groups: members, by group."""

    defaults: dict[Purpose, Audience]
    again_ms: int
    blocks: set[Pair] = field(default_factory=set)
    chosen: dict[tuple[UserId, Purpose], Audience] = field(default_factory=dict)
    friends: set[frozenset[UserId]] = field(default_factory=set)
    asked: dict[Pair, int] = field(default_factory=dict)
    refused: dict[Pair, int] = field(default_factory=dict)
    told: dict[Pair, int] = field(default_factory=dict)
    written: set[Pair] = field(default_factory=set)
    groups: dict[int, set[UserId]] = field(default_factory=dict)

    # ------------------------------------------------------------ who accepts what

    def audience(self, user: UserId, purpose: Purpose) -> Audience:
        chosen = self.chosen.get((user, purpose), Audience.DEFAULT)
        return self.defaults[purpose] if chosen is Audience.DEFAULT else chosen

    def refusal(self, purpose: Purpose, actor: UserId, subject: UserId) -> ErrorCode | None:
        if actor == subject:
            return None
        if (actor, subject) in self.blocks and purpose is not Purpose.SEE:
            return ErrorCode.BLOCKED_BY_YOU
        if (subject, actor) in self.blocks:
            return ErrorCode.NOT_ACCEPTED
        if purpose is Purpose.WRITE and (subject, actor) in self.written:
            return None
        are_friends = frozenset((actor, subject)) in self.friends
        share_group = any({actor, subject} <= members for members in self.groups.values())
        admitted = {
            Audience.EVERYBODY: True,
            Audience.CONTACTS: are_friends or share_group,
            Audience.FRIENDS: are_friends,
            Audience.NOBODY: False,
        }[self.audience(subject, purpose)]
        return None if admitted else ErrorCode.NOT_ACCEPTED

    # ------------------------------------------------------------ what changes it

    def block(self, user: UserId, other: UserId) -> bool:
        if (user, other) in self.blocks:
            return False
        self.blocks.add((user, other))
        self.friends.discard(frozenset((user, other)))
        self._withdraw(user, other)
        self._withdraw(other, user)
        self.written.discard((user, other))
        return True

    def choose(self, user: UserId, purpose: Purpose, audience: Audience) -> None:
        before = self.chosen.get((user, purpose), Audience.DEFAULT)
        self.chosen[user, purpose] = audience
        if purpose is Purpose.WRITE and audience is not before:
            self.written = {pair for pair in self.written if pair[0] != user}

    def wrote(self, sender: UserId, to: UserId) -> None:
        if sender != to and self.audience(sender, Purpose.WRITE) is not Audience.EVERYBODY:
            self.written.add((sender, to))

    # ------------------------------------------------------------ friends

    def request(self, sender: UserId, to: UserId, now_ms: int) -> Asked | ErrorCode:
        if sender == to or frozenset((sender, to)) in self.friends:
            return ErrorCode.NOT_ALLOWED
        if (to, sender) in self.asked:
            self._befriend(sender, to)
            return Asked.FRIENDS
        if (sender, to) in self.asked:
            return Asked.AGAIN
        if (code := self.refusal(Purpose.ASK, sender, to)) is not None:
            return code
        if now_ms < self.refused.get((sender, to), -self.again_ms) + self.again_ms:
            return ErrorCode.NOT_ALLOWED
        heard = now_ms < self.told.get((sender, to), -self.again_ms) + self.again_ms
        self.asked[sender, to] = now_ms
        if not heard:
            self.told.pop((sender, to), None)
        return Asked.AGAIN if heard else Asked.NEW

    def answer(self, user: UserId, requester: UserId, accept: bool, now_ms: int) -> ErrorCode | None:
        if (requester, user) not in self.asked:
            return ErrorCode.NOT_ALLOWED
        if accept:
            self._befriend(user, requester)
        else:
            del self.asked[requester, user]
            self.told.pop((requester, user), None)
            self.refused[requester, user] = now_ms
        return None

    def remove(self, user: UserId, friend: UserId) -> ErrorCode | None:
        pair = frozenset((user, friend))
        if pair in self.friends:
            self.friends.discard(pair)
            self.written.discard((user, friend))
            return None
        return None if self._withdraw(user, friend) else ErrorCode.NOT_ALLOWED

    def _befriend(self, one: UserId, other: UserId) -> None:
        self.friends.add(frozenset((one, other)))
        for pair in ((one, other), (other, one)):
            for memory in (self.asked, self.refused, self.told):
                memory.pop(pair, None)

    def _withdraw(self, sender: UserId, to: UserId) -> bool:
        at_ms = self.asked.pop((sender, to), None)
        if at_ms is not None:
            self.told.setdefault((sender, to), at_ms)
        return at_ms is not None
