"""SIGTERM, SIGINT and SIGUSR1: the step under way is finished and saved.

TensorFlow runs many steps in one call, and Python's own handlers wait until it comes
back. So a thread reads the signals and sets a variable that the compiled loop looks at
after each step.
"""

import contextlib
import functools
import os
import signal
import sys
import threading
import typing
from collections.abc import Callable

from official.alexnet.errors import Interrupted, UserError

if typing.TYPE_CHECKING:
    import tensorflow as tf

# EX_TEMPFAIL of sysexits.h: nothing is wrong, start it again.
EXIT_STATUS = 75

_URGENT = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = (*_URGENT, signal.SIGUSR1)
_SAY_SECONDS = 1
# Between two calls of `check`, before a start is ended all the same.
_START_SECONDS = 4


class Preemption:
    """Watches for signals, as a context manager in the main thread.

    Until `hold` is called there is nothing to save: `check` raises `Interrupted` after
    a signal, and where nobody calls it for a while the process is ended. (A handler
    that raises may be called in a destructor, where Python drops what it raises.) A
    second SIGTERM or SIGINT ends the process at once.
    SIGUSR1 is for job files: where the cluster sends SIGTERM as well, that is no second
    signal.

    Args:
        name: of the command, which its last line begins with; "" for none.
    """

    def __init__(self, name: str = "") -> None:
        self._prefix = f"{name}: " if name else ""
        self.received: signal.Signals | None = None
        self._flag: tf.Variable | None = None
        self._timer = threading.Timer(_START_SECONDS, self._leave)
        self._timer.daemon = True

    def listen(self) -> None:
        """Takes the signals, once more if TensorFlow has: its service for many workers
        has a use of its own for SIGTERM.
        """
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    def check(self) -> None:
        """To be called now and then until `hold` is.

        Raises:
            Interrupted: there was a signal.
        """
        if self.received:
            raise Interrupted(self._line())

    def hold(self, flag: "tf.Variable") -> None:
        """From now on a signal sets `flag` to 1.

        Raises:
            Interrupted: there was a signal before.
        """
        self._flag = flag
        self.check()

    def _line(self) -> str:
        return f"{self.received.name} before the first step: there was nothing to save"

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is not threading.main_thread():
            raise UserError(
                "Python takes signals in its main thread only: train there, or without "
                "`signals` and `Preemption`"
            )
        # stderr may lead elsewhere for a while, as when TensorFlow is imported.
        self._stderr = os.dup(2)
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._old_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._old_handlers = {s: signal.getsignal(s) for s in _SIGNALS}
        self.listen()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._timer.cancel()
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)
        os.close(self._stderr)

    def _watch(self) -> None:
        """Runs in the thread: the kernel's side of each signal, as it comes."""
        while numbers := os.read(self._reader, 1):
            if numbers[0] not in _SIGNALS:
                continue
            number, is_first = signal.Signals(numbers[0]), self.received is None
            if number in _URGENT and self.received in _URGENT:
                self._end(f"{number.name} again: stopping without saving", 128 + number)
            if is_first or number in _URGENT:
                self.received = number
            if not is_first:
                continue
            if self._flag is not None:
                self._flag.assign(1.0)
                line = f"{number.name}: finishing the step and saving"
                to_stderr = {"file": sys.stderr, "flush": True}
                _without_waiting(functools.partial(print, line, **to_stderr))
            else:
                self._timer.start()

    def _leave(self) -> None:
        """Ends a start that does not look up: it traces, or waits for a worker."""
        if self._flag is None:
            self._end(self._prefix + self._line(), EXIT_STATUS)

    def _end(self, line: str, status: int) -> typing.NoReturn:
        _without_waiting(lambda: os.write(self._stderr, f"{line}\n".encode()))
        os._exit(status)

    def _handle(self, number: int, _) -> None:
        """Keeps Python from its own ways with signals; the thread does the rest."""


def _without_waiting(write: Callable[[], object]) -> None:
    """Does not wait for who reads it, who may have gone or hang."""

    def attempt() -> None:
        with contextlib.suppress(OSError, ValueError):
            write()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(_SAY_SECONDS)
