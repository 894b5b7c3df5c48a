"""The master's selector: waiting for descriptors and signals.

Owns: the selector and the pipe into which the interpreter writes the number of every signal.
Elsewhere: the meaning of a signal (master.master) and of a descriptor (the module that watches it).
Fails: OSError from the kernel when it is created; afterwards never.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable, Iterable


class Watcher:
    """The master's selector. Callbacks run inside wait(), one after the other."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._signal_read, self._signal_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._signal_read, selectors.EVENT_READ, _nothing)

    def watch(self, descriptor: int, call: Callable[[], None], writable: bool = False) -> None:
        """Call `call` whenever the descriptor can be read (or written); replaces an earlier call."""
        self.unwatch(descriptor)
        self._selector.register(descriptor, selectors.EVENT_WRITE if writable else selectors.EVENT_READ, call)

    def unwatch(self, descriptor: int) -> None:
        """Does nothing for a descriptor that is not watched."""
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def catch(self, numbers: Iterable[signal.Signals]) -> None:
        """From now on these signals wake the master and are returned by signals()."""
        signal.set_wakeup_fd(self._signal_write, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _ignore_signal)

    def wait(self, timeout_s: float) -> None:
        """Wait until something happens, at most this long, and run the callbacks."""
        for key, _ in self._selector.select(timeout_s):
            key.data()

    def signals(self) -> list[tuple[signal.Signals, int]]:
        """The signals caught since the last call, in order of first arrival, each with how often it came."""
        try:
            numbers = os.read(self._signal_read, 4096)
        except BlockingIOError:
            return []
        return [(signal.Signals(number), numbers.count(number)) for number in dict.fromkeys(numbers)]

    def close(self) -> None:
        """In a forked child."""
        self._selector.close()
        os.close(self._signal_read)
        os.close(self._signal_write)


def _nothing() -> None:
    """The signal pipe is read by signals()."""


def _ignore_signal(_number: int, _frame: object) -> None:
    """A handler must exist for the interpreter to write the signal's number into the pipe."""
