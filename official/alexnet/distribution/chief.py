"""The chief's end of `watch`: it knows all workers and speaks to all."""

import contextlib
import socket
import threading
import time

from official.alexnet.distribution import messages
from official.alexnet.distribution.cluster import Cluster

BEAT_SECONDS = 1.0
ADVICE = "start all workers again with the same command, without --clean"

# How long late comers are told why nothing comes of it.
_REFUSAL_SECONDS = 10
_HELLO_SECONDS = 5
_DIAL_SECONDS = 20


class Chief:
    """Gathers the workers, compares what they say, and tells all when one is lost.

    Args:
        cluster: all workers.
        timeout: seconds to wait for them, and later for a sign of life.
        listener: on the chief's own port; closed when all are there, so that
            TensorFlow may have the port.
    """

    def __init__(self, cluster: Cluster, timeout: float, listener: socket.socket):
        self._cluster = cluster
        self._timeout = timeout
        self._listener = listener
        self._lock = threading.RLock()
        self._workers: dict[int, socket.socket] = {}
        self._values: dict[int, dict] = {}
        # Who has left, and why; None is as it should be.
        self._left: dict[int, str | None] = {}
        self._refusal: str | None = None
        self._over = False

    def start(self) -> None:
        for target in (self._gather, self._beat):
            threading.Thread(target=target, daemon=True).start()

    def _gather(self) -> None:
        everybody = set(range(len(self._cluster.hosts)))
        self._listener.settimeout(BEAT_SECONDS)
        deadline = time.monotonic() + self._timeout
        while everybody - self._workers.keys() and not self._over:
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                threading.Thread(
                    target=self._serve, args=[connection], daemon=True
                ).start()
            missing = sorted(everybody - self._workers.keys())
            if missing and time.monotonic() > deadline:
                names = ", ".join(map(self._cluster.name, missing))
                self._lost(
                    f"{names} did not come up within {self._timeout:g} s; start all "
                    "workers, check the list of hosts, or give more time with "
                    "--worker_timeout"
                )
        self._listener.close()
        if not self._refusal and not self._over:
            self._check_addresses()

    def _serve(self, connection: socket.socket) -> None:
        """Listens to one worker until it is gone."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            hello = messages.receive_first(connection, _HELLO_SECONDS)
            index, hosts = hello["hello"], hello["hosts"]
        except (OSError, ValueError, KeyError):
            connection.close()  # No worker.
            return
        if not self._welcome(connection, index, tuple(hosts)):
            return
        name = self._cluster.name(index)
        try:
            for message in messages.receive(connection, self._timeout):
                if "agree" in message:
                    self._compare(index, message["agree"])
                elif "leave" in message:
                    self._leave(index, message["reason"], message["grace"])
            reason = "has ended, perhaps killed"
        except TimeoutError:
            reason = f"gave no sign of life for {self._timeout:g} s"
        except (OSError, ValueError) as error:
            reason = f"is cut off ({error})"
        if index not in self._left:
            self._lost(f"{name} {reason}; {ADVICE}")

    def _welcome(self, connection: socket.socket, index: int, hosts: tuple) -> bool:
        with self._lock:
            if hosts != self._cluster.hosts:
                self._refuse(
                    f"a worker {index} has the hosts {','.join(hosts)}, the chief "
                    f"{','.join(self._cluster.hosts)}: give all workers the same list"
                )
            elif index in self._workers:
                self._refuse(
                    f"two processes say that they are {self._cluster.name(index)}: "
                    "give each worker its own task index"
                )
            if self._refusal and (index != 0 or index in self._workers):
                messages.send(connection, refused=self._refusal)
                return False
            messages.send(connection, welcome=True)
            self._workers[index] = connection
            return True

    def _refuse(self, line: str) -> None:
        """Ends the meeting; the chief itself stays to tell those who come later."""
        with self._lock:
            if self._refusal:
                return
            self._refusal = line
            for index in sorted(self._workers.keys() - {0}):
                messages.send(self._workers[index], refused=line)
        timer = threading.Timer(_REFUSAL_SECONDS, self._refuse_chief)
        timer.daemon = True
        timer.start()

    def _refuse_chief(self) -> None:
        with self._lock:
            self._over = True
            self._tell(refused=self._refusal)

    def _check_addresses(self) -> None:
        """Checks that the others will find each worker where the list says."""
        for index in range(1, len(self._cluster.hosts)):
            answer = self._who_is_at(self._cluster.hosts[index])
            if answer != f"worker {index}":
                self._refuse(
                    f"at {self._cluster.hosts[index]}, where worker {index} should be, "
                    f"there is {answer}: check the list of hosts, which is in the "
                    "order of the task indices, and that no firewall is between"
                )
                return
        self._tell(done=True)

    def _who_is_at(self, host: str) -> str:
        answer = "no answer"
        for _ in range(_DIAL_SECONDS):
            try:
                with messages.dial(host) as connection:
                    message = messages.receive_first(connection, _HELLO_SECONDS)
                return f"worker {message['worker']}"
            except (ValueError, KeyError):
                return "another program"
            except TimeoutError:
                answer = "no answer"
            except OSError as error:
                answer = f"no answer ({error.strerror or error})"
            time.sleep(1)
        return answer

    def _compare(self, index: int, values: dict) -> None:
        with self._lock:
            self._values[index] = values
            if len(self._values) < len(self._cluster.hosts):
                return
            everybody, self._values = self._values, {}
        wanted = everybody[0]
        for other, found in sorted(everybody.items()):
            for name in [*wanted, *(found.keys() - wanted.keys())]:
                if found.get(name) != wanted.get(name):
                    self._tell(
                        refused=f"{self._cluster.name(other)} has {name} "
                        f"{_show(found.get(name))}, {self._cluster.name(0)} "
                        f"{_show(wanted.get(name))}: it must be the same on all workers"
                    )
                    return
        self._tell(done=True)

    def _leave(self, index: int, reason: str | None, grace: float | None) -> None:
        line = f"{self._cluster.name(index)} has stopped: {reason}"
        with self._lock:
            self._left[index] = reason
            if len(self._left) == len(self._cluster.hosts):
                if reason is not None and None in self._left.values():
                    self._lost(line)
                    return
                self._tell(done=True)
                self._over = True
                return
        if reason is not None:
            timer = threading.Timer(grace, self._lost, [line])
            timer.daemon = True
            timer.start()

    def _lost(self, line: str) -> None:
        with self._lock:
            if not self._over and not self._refusal:
                self._over = True
                self._tell(lost=line)

    def _beat(self) -> None:
        while not self._over:
            self._tell(beat=True)
            time.sleep(BEAT_SECONDS)

    def _tell(self, **message) -> None:
        """Tells everybody; the chief last, which may end at once."""
        with self._lock:
            for index in sorted(self._workers, reverse=True):
                messages.send(self._workers[index], **message)


def _show(value) -> str:
    return "nothing" if value is None else str(value)
