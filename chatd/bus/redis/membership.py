"""Which workers the cluster has, and which of them are lost.

Owns: the descriptions of all workers, noticing that a lease has expired, cleaning up after lost workers, and which
workers must be on a server before it can be believed that nobody is subscribed there.
Elsewhere: our own lease (bus.redis.lease); asking about subscriptions (bus.redis.subscribers); the messages "hello",
"bye" and "gone" (bus.redis.control).
Fails: Unavailable if Redis does not answer; then nothing has changed.

A worker is known from its hello, or from the hash of all workers, until it says bye or is lost. It is lost when its
lease was not there for GRACE_S; or for a whole lease if Redis itself was away, because then all leases have expired at
once and every worker needs time to come back; or at once if it was a process of this machine that no longer exists. The
worker that finds this closes the lost worker's connections, so that Redis no longer counts or feeds it, and tells all
others: each of them looks again at what it knew about that worker's users.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from chatd import log
from chatd.bus.contract import LOST_WORKER_KEPT_S
from chatd.bus.redis.commands import MOVES, RedisRefusal
from chatd.bus.redis.envelope import Forgery
from chatd.bus.redis.keyring import Keyring
from chatd.bus.redis.keys import RedisKeys
from chatd.bus.redis.lease import Lease
from chatd.bus.redis.processes import machine_id, start_ticks
from chatd.bus.redis.refusals import Refusals
from chatd.bus.redis.topology import Topology
from chatd.errors import Unavailable

GRACE_S = 1.5
"""How long a lease must be missing before its worker counts as lost."""
MANY = 40
"""With more workers than this, each checks leases less often than once a second; together they check as often."""

logger = log.get()


class RegisteredWorker(msgspec.Struct, frozen=True):
    """A worker's description of itself, sent to the others and kept in the hash of all workers. Later versions may add
    fields."""

    token: str
    epoch: int
    host: str = ""
    slot: int = 0
    machine: str = ""
    """Together with pid and started this identifies its process (bus.redis.processes)."""
    pid: int = 0
    started: int = 0
    clients: dict[str, int] = {}
    """The number of its connection at each server, by the server's run id."""


@dataclass(slots=True)
class _KnownWorker:
    worker: RegisteredWorker
    heard_at: float
    missing_since: float | None = None
    """Loop time at which its lease was first found missing."""


class EntryCheck(NamedTuple):
    """What signs and checks the entries in the hash of all workers, and counts those that are refused."""

    keyring: Keyring
    refusals: Refusals


class ClusterMembership:
    def __init__(
        self, topology: Topology, keys: RedisKeys, lease: Lease, entries: EntryCheck, on_change: Callable[[], None]
    ) -> None:
        """on_change: a worker is lost, or has come back after that, so what was known about its users is wrong."""
        self._topology = topology
        self._entries = entries
        self._keys = keys
        self._lease = lease
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._own_token = lease.token.hex()
        self._machine = machine_id()
        self._known: dict[str, _KnownWorker] = {}
        """By token. Without this worker."""
        self._left: deque[str] = deque(maxlen=1000)
        """The tokens of workers that said bye: a late hello of theirs is ignored."""
        self._absent: dict[str, tuple[str, float]] = {}
        """Lost workers that may only be cut off: their host, and the loop time when they were lost."""
        self._patient_until = 0.0
        """Loop time before which a missing lease means nothing."""
        self._refusal_logged = False
        """register() was refused the last time, and that has been logged."""

    # ------------------------------------------------------------ what workers say

    def describe_own(self, slot: int, host: str, pid: int) -> RegisteredWorker:
        """This worker, with its present connections."""
        clients = {node.run_id: node.client_id for node in self._topology.all() if node.is_connected}
        return RegisteredWorker(
            token=self._own_token,
            epoch=self._lease.epoch,
            host=host,
            slot=slot,
            machine=self._machine,
            pid=pid,
            started=start_ticks(pid),
            clients=clients,
        )

    def add(self, worker: RegisteredWorker, said_hello: bool = True) -> None:
        """It said hello, or was found in the hash of all workers."""
        if worker.token == self._own_token or worker.token in self._left:
            return
        if said_hello and worker.epoch > 1 and worker.token not in self._known:
            self._on_change()  # it was taken for lost
        self._known[worker.token] = _KnownWorker(worker, self._loop.time())
        self._absent.pop(worker.token, None)

    def remove(self, token: str) -> None:
        """It said bye."""
        self._known.pop(token, None)
        self._absent.pop(token, None)
        self._left.append(token)

    def lose(self, token: str, epoch: int, dead: bool) -> None:
        """It was found lost, here or by another worker. dead: for certain; else it may only be cut off."""
        known = self._known.get(token)
        if dead:
            self._absent.pop(token, None)
        if known is not None and known.worker.epoch <= epoch:
            del self._known[token]
            if not (dead or self.is_known_dead(known.worker)):
                self._absent[token] = known.worker.host, self._loop.time()
            self._on_change()

    def hosts(self) -> dict[str, str]:
        """token -> host of all workers that are here, and of those lost less than LOST_WORKER_KEPT_S ago."""
        long_ago = self._loop.time() - LOST_WORKER_KEPT_S
        self._absent = {token: absent for token, absent in self._absent.items() if absent[1] > long_ago}
        absent = {token: host for token, (host, _) in self._absent.items()}
        return absent | {token: known.worker.host for token, known in self._known.items()}

    def worker_channels(self) -> list[bytes]:
        """Each other worker subscribes to its own channel, after everything else, on every server."""
        return [self._keys.worker(token) for token in self._known]

    # ------------------------------------------------------------ who is dead

    def is_dead(self, holder: bytes) -> bool:
        """The worker with this holder name was a process of this machine that no longer exists. This is known before
        its lease expires."""
        token, _, epoch = holder.decode("ascii", "replace").partition(".")
        known = self._known.get(token)
        return known is not None and str(known.worker.epoch) == epoch and self.is_known_dead(known.worker)

    def is_known_dead(self, worker: RegisteredWorker) -> bool:
        """It was a process of this machine that no longer exists."""
        return bool(self._machine) and worker.machine == self._machine and start_ticks(worker.pid) != worker.started

    # ------------------------------------------------------------ checking leases

    def be_patient(self) -> None:
        """Redis itself was away: give every known worker a whole lease to come back."""
        self._patient_until = self._loop.time() + self._lease.seconds

    @property
    def check_period_s(self) -> float:
        """Until the next find_lost(): short while a lease is missing."""
        if any(known.missing_since is not None for known in self._known.values()):
            return GRACE_S / 4
        return max(1.0, len(self._known) / MANY)

    async def find_lost(self) -> list[RegisteredWorker]:
        """Read the hash of all workers and check all leases. Those that are lost stay known until lose().

        Raises:
            Unavailable: nothing is known now.
        """
        began = self._loop.time()
        registered = await self._read_registered()
        for worker in registered.values():
            known = self._known.get(worker.token)
            if known is None or known.worker.epoch < worker.epoch:
                self.add(worker, said_hello=False)
        alive = await self._alive(known.worker for known in list(self._known.values()))
        # If we cannot renew our own lease, a missing one says nothing: Redis may refuse all writes.
        patient_until = self._patient_until if self._lease.valid_until > began else float("inf")
        lost = []
        for token, known in self._known.items():
            if self.is_known_dead(known.worker):
                lost.append(known.worker)
            elif known.heard_at >= began or (token in registered and token in alive):
                known.missing_since = None
            elif known.missing_since is None:
                known.missing_since = self._loop.time()
            elif self._loop.time() > max(known.missing_since + GRACE_S, patient_until):
                lost.append(known.worker)
        return lost

    async def _read_registered(self) -> dict[str, RegisteredWorker]:
        key = self._keys.workers
        entries: dict[bytes, bytes] = await self._topology.of(key).call("HGETALL", key)
        found = {}
        for token, entry in entries.items():
            body = self._entries.keyring.verified_json(self._name_of(token), entry)
            if body is None:
                await self._remove_forged(token)
            elif (worker := _decode(body)) is not None and worker.token.encode() == token:
                found[worker.token] = worker
        return found

    def _name_of(self, token: bytes) -> bytes:
        """What the signature of its entry is valid for."""
        return b"%b\0%b" % (self._keys.workers, token)

    async def _remove_forged(self, token: bytes) -> None:
        """A worker of this cluster that is here would have signed its entry. Raises Unavailable."""
        self._entries.refusals.add(Forgery.SIGNATURE, self._keys.workers)
        await self._topology.of(self._keys.workers).call("HDEL", self._keys.workers, token)

    async def _alive(self, workers: Iterable[RegisteredWorker]) -> set[str]:
        asked = {worker.token: self._keys.holder(worker.token, worker.epoch) for worker in workers}
        answers = await asyncio.gather(*(self._lease.is_alive(holder) for holder in asked.values()))
        return {token for token, lives in zip(asked, answers, strict=True) if lives}

    async def clean_up_after(self, worker: RegisteredWorker) -> bool:
        """Close the connections of a lost worker, end its lease, and remove it from the hash of all workers. True for
        the one worker that was first.

        Raises:
            Unavailable: it was perhaps not completed; it may be repeated.
        """
        for node in self._topology.all():
            client = worker.clients.get(node.run_id)
            if client is not None and node.is_connected:
                try:
                    await node.call("CLIENT", "KILL", "ID", client)
                except Unavailable as error:
                    logger.debug("bus: a lost worker's connection was closed already", why=str(error))
        holder = self._keys.holder(worker.token, worker.epoch)
        key = self._keys.lease(holder)
        await self._topology.of(key).call("DEL", key)
        if not await self._topology.of(self._keys.workers).call("HDEL", self._keys.workers, worker.token):
            return False
        logger.warning(
            "bus: a worker is gone", host=worker.host, slot=worker.slot, worker_pid=worker.pid, epoch=worker.epoch
        )
        return True

    # ------------------------------------------------------------ our own entry

    async def register(self, worker: RegisteredWorker) -> None:
        """Write this worker into the hash of all workers. A refusal is logged and no more: Redis may be out of memory,
        and the workers that are there have heard our hello. Raises Unavailable."""
        key = self._keys.workers
        try:
            name = self._name_of(worker.token.encode())
            entry = self._entries.keyring.signed_json(name, msgspec.json.encode(worker))
            await self._topology.of(key).call("HSET", key, worker.token, entry)
            self._refusal_logged = False
        except RedisRefusal as error:
            if error.code in MOVES:
                return  # in a moment it is known where to write it
            if not self._refusal_logged:
                logger.error("bus: redis refuses to register this worker", why=str(error))
            self._refusal_logged = True

    async def unregister(self) -> None:
        """Raises Unavailable."""
        key = self._keys.workers
        await self._topology.of(key).call("HDEL", key, self._own_token)


def _decode(data: bytes) -> RegisteredWorker | None:
    try:
        return msgspec.json.decode(data, type=RegisteredWorker)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
