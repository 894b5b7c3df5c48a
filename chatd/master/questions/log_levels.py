"""How much is logged, as an operator sees and sets it.

Owns: setting the level of every process, or of some workers, until the next reload.
Elsewhere: the log itself (log), the level in the configuration (master.reload).
Fails: with one line, for a worker that does not run; then nothing has changed.
"""

from __future__ import annotations

import msgspec

from chatd import log
from chatd.errors import Exit
from chatd.master.replies import LogLevelReply, Respond, SlotLevel, failed
from chatd.master.requests import LogLevelRequest, LogLevelsRequest
from chatd.master.workers import WorkerPool
from chatd.orders import LogLevelOrder


class LogLevels:
    """Takes the requests of `chatctl log-level`. The level of a worker is in its WorkerProcess."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def show(self, _request: LogLevelsRequest, respond: Respond) -> None:
        level = self._pool.config.log.level
        present = [(slot.index, slot.worker.log_level or level) for slot in self._pool.present() if slot.worker]
        respond(LogLevelReply(master=level, workers=[SlotLevel(*one) for one in present]))

    def set(self, request: LogLevelRequest, respond: Respond) -> None:
        """Replies with what is logged afterwards."""
        chosen, present = request.workers, self._pool.present()
        if missing := set(chosen or ()) - {slot.index for slot in present}:
            respond(failed(Exit.USAGE, f"no worker {', '.join(map(str, sorted(missing)))} is running"))
            return
        if chosen is None:
            replace, config = msgspec.structs.replace, self._pool.config
            log.set_level(request.level)
            self._pool.config = replace(config, log=replace(config.log, level=request.level))
        for slot in present:
            if slot.worker is not None and (chosen is None or slot.index in chosen):
                slot.worker.log_level = "" if chosen is None else request.level
                self._pool.order(slot, LogLevelOrder(request.level))
        self.show(LogLevelsRequest(), respond)
