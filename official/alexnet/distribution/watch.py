"""Workers that look after one another: meet, agree, and stop when one is lost.

TensorFlow's collectives wait for a lost worker for ever, or end the process with a
stack of traces, depending on when it was lost. So each worker holds a connection to
the chief, made before TensorFlow starts, on the chief's own port: no other port is
needed. Over it they

- meet: nobody goes on before all are there, each once, with the same list of hosts,
  each at the address that the list gives it;
- agree: settings, data and checkpoint are compared before a step is taken;
- give a sign of life each second. A worker whose connection closes, or is silent for
  `--worker_timeout` seconds, is lost: all others print one line and exit with
  `WorkerLost.status`.
"""

import contextlib
import os
import queue
import sys
import threading
import time

from absl import logging

from official.alexnet.distribution import messages
from official.alexnet.distribution.chief import ADVICE, BEAT_SECONDS, Chief
from official.alexnet.distribution.cluster import Cluster, split_address
from official.alexnet.errors import Interrupted, UserError, WorkerLost

# What TensorFlow's collectives raise when a peer has gone, by name, so that this module
# does without TensorFlow; and how long this one may need to notice it too.
_PEER_ERRORS = ("AbortedError", "CancelledError", "DeadlineExceededError")
_PEER_ERRORS += ("InternalError", "UnavailableError")
_NOTICE_SECONDS = 5
# How long the others have to stop by themselves when one worker stops, as they do when
# all meet the same error.
_GRACE_SECONDS = 5
_SIGNAL_GRACE_SECONDS = 60
_RETRY_SECONDS = 0.5
_WELCOME_SECONDS = 5


class Watch:
    """A run's ties to its other workers; a run of one process has none.

    As a context it holds from the first step to the last: leaving it waits for the
    others, or tells them why this worker stops.
    """

    def __init__(self, cluster: Cluster | None = None, timeout: float = 0):
        """Meets the other workers.

        Args:
            cluster: all workers; None for a run of one process.
            timeout: seconds to wait for the others to come up, and later for a sign
                of life.

        Raises:
            UserError: two workers are the same, or know other hosts, or a port is
                taken.
            WorkerLost: a worker did not come up.
        """
        self._connection = None
        if cluster is None or len(cluster.hosts) == 1:
            return
        self._cluster, self._timeout = cluster, timeout
        self._answers = queue.Queue()
        self._sending = threading.Lock()
        self._leaving = self._stopping = self._over = False
        listener = _listen(cluster)
        met = threading.Event()
        if cluster.index == 0:
            Chief(cluster, timeout, listener).start()
        else:
            answering = _start(_answer, listener, cluster.index, met)
        logging.info("Waiting for %d workers.", len(cluster.hosts))
        try:
            self._connection, greetings = self._join()
            _start(self._read, greetings)
            _start(self._beat)
            self._wait()
        finally:
            met.set()
            if cluster.index != 0:
                answering.join()
        logging.info("All workers are here.")

    def agree(self, values: dict[str, object]) -> None:
        """Waits until all workers are here, and have the same values.

        Args:
            values: what to compare, by a name that tells the user what it is;
                anything that JSON can hold.

        Raises:
            UserError: naming the first value that differs, on all workers.
        """
        if self._connection:
            self._send(agree=values)
            self._wait()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, kind, error: BaseException | None, trace) -> None:
        if self._connection is None:
            return
        if type(error).__name__ in _PEER_ERRORS:
            # Most likely another worker is gone: then the thread that reads ends this.
            unreachable = type(error).__name__ == "UnavailableError"
            time.sleep(_NOTICE_SECONDS + (self._timeout if unreachable else 0))
        # All stop after the same step then, and wait for the chief, which saves it.
        agreed = error is None or (isinstance(error, Interrupted) and error.is_saved)
        self._leaving, self._stopping = True, not agreed
        reason = grace = None
        if not agreed:
            reason = _one_line(error)
            # A signal mostly comes to all workers.
            is_signal = not isinstance(error, Exception)
            grace = _SIGNAL_GRACE_SECONDS if is_signal else _GRACE_SECONDS
        self._send(leave=True, reason=reason, grace=grace)
        with contextlib.suppress(UserError):
            self._wait()
        self._over = True
        self._connection.close()

    def _join(self):
        """Connects to the chief; returns the connection and what comes over it."""
        cluster, reason = self._cluster, "no answer"
        deadline = time.monotonic() + self._timeout
        while time.monotonic() < deadline:
            try:
                connection = messages.dial(cluster.hosts[0])
                messages.send(connection, hello=cluster.index, hosts=cluster.hosts)
                greeting = messages.receive_first(connection, _WELCOME_SECONDS)
                if "welcome" in greeting:
                    return connection, messages.receive(connection, self._timeout)
                if "refused" in greeting:
                    raise UserError(greeting["refused"])
                reason = "another program answers there"
            except TimeoutError:
                reason = "no answer"
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
            time.sleep(_RETRY_SECONDS)
        raise WorkerLost(
            f"{cluster.name(0)}, where all workers meet, did not come up within "
            f"{self._timeout:g} s: {reason}; start all workers, check the list of "
            "hosts, or give more time with --worker_timeout"
        )

    def _send(self, **message) -> None:
        with self._sending:
            messages.send(self._connection, **message)

    def _wait(self) -> None:
        """Waits for the chief's answer."""
        refusal = self._answers.get()
        if refusal is not None:
            raise refusal

    def _read(self, greetings) -> None:
        chief = self._cluster.name(0)
        try:
            for message in greetings:
                if "done" in message:
                    self._answers.put(None)
                    if self._leaving:
                        return None  # The chief may end before this worker.
                elif "refused" in message:
                    self._answers.put(UserError(message["refused"]))
                elif "lost" in message:
                    return self._end(message["lost"])
            return self._end(f"{chief} has ended, perhaps killed; {ADVICE}")
        except TimeoutError:
            self._end(f"{chief} gave no sign of life for {self._timeout:g} s; {ADVICE}")
        except (OSError, ValueError) as error:
            self._end(f"the connection to {chief} broke ({error}); {ADVICE}")

    def _end(self, line: str) -> None:
        """Ends the process: its main thread may wait for a lost worker for ever."""
        if self._stopping:
            self._answers.put(None)  # It ends for a reason of its own.
            return
        # The last line: TensorFlow's threads have much to say of a lost peer.
        with contextlib.suppress(OSError, ValueError):  # Nobody reads it any more.
            sys.stderr.flush()
            stderr = os.dup(2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.write(stderr, f"alexnet: {line}\n".encode())
        os._exit(WorkerLost.status)

    def _beat(self) -> None:
        while not self._over:
            self._send(beat=True)
            time.sleep(BEAT_SECONDS)


def _listen(cluster: Cluster):
    _, port = split_address(cluster.hosts[cluster.index])
    try:
        return messages.listen(port)
    except OSError as error:
        raise UserError(
            f"{cluster.name(cluster.index)} cannot listen on port {port} "
            f"({error.strerror}): is another worker with the same task index, or one "
            "of an earlier run, still there? Stop it or take another port"
        ) from error


def _answer(listener, index: int, met: threading.Event) -> None:
    """Says who listens at this address, for as long as the workers gather."""
    listener.settimeout(0.1)
    while not met.is_set():
        with contextlib.suppress(TimeoutError, OSError):
            connection, _ = listener.accept()
            with connection:
                messages.send(connection, worker=index)
    listener.close()


def _start(target, *args) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    if isinstance(error, UserError | Interrupted):
        return text
    return f"{type(error).__name__}: {text}"
