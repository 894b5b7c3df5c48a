"""Which workers of the cluster there are, and when one is gone.

Owns: what each worker says of itself, looking whose lease has expired, clearing away after the dead, and whether
everybody who should be on a server is on it: only then can the absence of somebody's users be believed.
Not here: our own lease (bus.redis.lease); what is asked about users (bus.redis.subscribers).
Fails: Unavailable when Redis does not answer; then nothing has changed.

A worker is known from its hello, or from the hash of all workers, until it says goodbye or is gone. It is gone when its
lease was not there for GRACE_S, or for a whole lease where Redis itself was away (then all leases have expired at once
and everybody needs time to come back); and at once when it was a process of this machine that no longer exists. Whoever
finds it cuts its connections, so that Redis does not count or feed it any more, and tells all: each looks again at what
it knew of that worker's users.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from chatd import log
from chatd.bus.contract import LOST_WORKER_KEPT_S
from chatd.bus.redis.keys import Names
from chatd.bus.redis.lease import Lease
from chatd.bus.redis.node import MOVES, Refusal
from chatd.bus.redis.topology import Nodes
from chatd.errors import Unavailable

GRACE_S = 1.5
MANY = 40
"""With more workers than this each looks less often: together they still look about as often."""

logger = log.get()


class Worker(msgspec.Struct, frozen=True):
    """What a worker says of itself. machine, started: together with the pid, a process. clients: its numbers at each
    server. Later versions may add fields."""

    token: str
    epoch: int
    host: str = ""
    slot: int = 0
    machine: str = ""
    pid: int = 0
    started: int = 0
    clients: dict[str, int] = {}


@dataclass(slots=True)
class _Known:
    worker: Worker
    heard_at: float
    missing_since: float | None = None


class Membership:
    """on_gone: a worker is gone, or is back after that. All of its times are loop times."""

    def __init__(self, nodes: Nodes, names: Names, lease: Lease, on_gone: Callable[[], None]) -> None:
        self._nodes = nodes
        self._names = names
        self._lease = lease
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, _Known] = {}
        self._left: deque[str] = deque(maxlen=1000)
        self._absent: dict[str, tuple[str, float]] = {}
        self._patient_until = 0.0
        self._machine = machine()
        self._own = lease.token.hex()
        self._refused = False

    def __len__(self) -> int:
        return len(self._known)

    # ------------------------------------------------------------ what workers say

    def myself(self, slot: int, host: str, pid: int, clients: dict[str, int]) -> Worker:
        return Worker(self._own, self._lease.epoch, host, slot, self._machine, pid, started(pid), clients)

    def hello(self, worker: Worker, told: bool = True) -> None:
        if worker.token == self._own or worker.token in self._left:
            return
        if told and worker.epoch > 1 and worker.token not in self._known:
            self._on_gone()  # we took it for dead: look again at its users
        self._known[worker.token] = _Known(worker, self._loop.time())
        self._absent.pop(worker.token, None)

    def bye(self, token: str) -> None:
        self._known.pop(token, None)
        self._absent.pop(token, None)
        self._left.append(token)

    def gone(self, token: str, epoch: int, dead: bool) -> None:
        """Somebody has found it. Where it is not known to be dead, it may be cut off."""
        known = self._known.get(token)
        if dead:
            self._absent.pop(token, None)
        if known is not None and known.worker.epoch <= epoch:
            del self._known[token]
            if not (dead or self.is_known_dead(known.worker)):
                self._absent[token] = known.worker.host, self._loop.time()
            self._on_gone()

    def hosts(self) -> dict[str, str]:
        """Of all that are here, and of those that have been absent for less than LOST_WORKER_KEPT_S."""
        long_ago = self._loop.time() - LOST_WORKER_KEPT_S
        self._absent = {token: absent for token, absent in self._absent.items() if absent[1] > long_ago}
        absent = {token: host for token, (host, _) in self._absent.items()}
        return absent | {token: known.worker.host for token, known in self._known.items()}

    def is_dead(self, owner: bytes) -> bool:
        """The holder of this name was a process of this machine, and is no more: known before its lease expires."""
        token, _, epoch = owner.decode().partition(".")
        known = self._known.get(token)
        return known is not None and str(known.worker.epoch) == epoch and self.is_known_dead(known.worker)

    def is_known_dead(self, worker: Worker) -> bool:
        """It was a process of this machine."""
        return bool(self._machine) and worker.machine == self._machine and started(worker.pid) != worker.started

    # ------------------------------------------------------------ who should be there

    def channels(self) -> list[bytes]:
        """Each other worker subscribes to its own, after everything else, on every server."""
        return [self._names.own(token) for token in self._known]

    def be_patient(self) -> None:
        """Redis itself was away: whoever was known gets a whole lease to come back."""
        self._patient_until = self._loop.time() + self._lease.seconds

    # ------------------------------------------------------------ looking

    @property
    def period_s(self) -> float:
        """Until the next look: soon, where somebody is missing."""
        if any(known.missing_since is not None for known in self._known.values()):
            return GRACE_S / 4
        return max(1.0, len(self._known) / MANY)

    async def look(self) -> list[Worker]:
        """Those that are gone; they are still to be cleared away."""
        began = self._loop.time()
        key = self._names.workers
        told: dict[bytes, bytes] = await self._nodes.of(key).call("HGETALL", key)
        registered = {worker.token: worker for worker in map(_decode, told.values()) if worker is not None}
        for worker in registered.values():
            known = self._known.get(worker.token)
            if known is None or known.worker.epoch < worker.epoch:
                self.hello(worker, told=False)
        alive = await self._alive(known.worker for known in list(self._known.values()))
        # Who cannot renew its own lease has learned nothing about others': Redis may refuse all writes.
        patient_until = self._patient_until if self._lease.valid_until > began else float("inf")
        found = []
        for token, known in self._known.items():
            if self.is_known_dead(known.worker):
                found.append(known.worker)
            elif known.heard_at >= began or (token in registered and token in alive):
                known.missing_since = None
            elif known.missing_since is None:
                known.missing_since = self._loop.time()
            elif self._loop.time() > max(known.missing_since + GRACE_S, patient_until):
                found.append(known.worker)
        return found

    async def _alive(self, workers: Iterable[Worker]) -> set[str]:
        asked = {worker.token: self._names.owner(worker.token, worker.epoch) for worker in workers}
        answers = await asyncio.gather(*(self._lease.is_alive(owner) for owner in asked.values()))
        return {token for token, lives in zip(asked, answers, strict=True) if lives}

    async def clear_away(self, worker: Worker) -> bool:
        """Free what a dead worker left. After this Redis neither counts nor feeds it. True for the one of us who was
        the first to."""
        for node in self._nodes.all():
            client = worker.clients.get(node.server)
            if client is not None and node.connected:
                try:
                    await node.call("CLIENT", "KILL", "ID", client)
                except Unavailable as error:
                    logger.debug("bus: a dead worker's connection was not there", why=str(error))
        owner = self._names.owner(worker.token, worker.epoch)
        key = self._names.lease(owner)
        await self._nodes.of(key).call("DEL", key)
        if not await self._nodes.of(self._names.workers).call("HDEL", self._names.workers, worker.token):
            return False
        logger.warning(
            "bus: a worker is gone", host=worker.host, slot=worker.slot, worker_pid=worker.pid, epoch=worker.epoch
        )
        return True

    async def register(self, worker: Worker) -> None:
        """A refusal is told and no more: Redis may have no memory, and those who are there have heard our hello."""
        key = self._names.workers
        try:
            await self._nodes.of(key).call("HSET", key, worker.token, msgspec.json.encode(worker))
            self._refused = False
        except Refusal as error:
            if error.code in MOVES:
                return  # in a moment it is known where to write it
            if not self._refused:
                logger.error("bus: redis does not write down that this worker is here", why=str(error))
            self._refused = True

    async def leave(self) -> None:
        key = self._names.workers
        await self._nodes.of(key).call("HDEL", key, self._own)


def _decode(data: bytes) -> Worker | None:
    try:
        return msgspec.json.decode(data, type=Worker)
    except msgspec.DecodeError:
        return None


def machine() -> str:
    """This boot of this machine, and its space of pids: the same text means that a pid means the same process. "" where
    the kernel does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def started(pid: int) -> int:
    """When the process began, in ticks since boot; 0 where there is none, or it is only waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
