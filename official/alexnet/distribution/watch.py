"""Workers that meet, agree, and stop with one clear line when one of them is lost.

Each worker holds a connection to the chief, made on the chief's own port before
TensorFlow takes that; one whose connection closes is lost. TensorFlow's heartbeat
notices a worker that hangs (see `strategy`), gRPC a link that is cut for 20 s. A
command then ends; in a library the collectives fail, which becomes `WorkerLost`.
"""

import contextlib
import json
import os
import queue
import re
import select
import socket
import threading
import time

from absl import logging

from official.alexnet.distribution.cluster import Cluster, split_address
from official.alexnet.errors import Interrupted, UserError, WorkerLost

_ADVICE = "start all workers again with the same command, without --clean"
# In TensorFlow's errors of a lost peer, which are of many kinds.
_PEER_GONE = re.compile("Collective ops is aborted|GRPC error|CoordinationService")
_GRACE_SECONDS = 5  # To stop by themselves, as all do that meet the same error.
_DOUBT_SECONDS = 8  # To learn of a better reason than TensorFlow's.
_REFUSAL_SECONDS = 10  # To tell those who come late why nothing comes of it.

# Set by a command, which ends at once: its main thread may be in a long piece of work.
ends_process = False


class Watch(contextlib.AbstractContextManager):
    """A run's ties to its other workers; a run of one process has none.

    Leaving it as a context waits for the others, or tells them why this worker stops.

    Raises:
        UserError, WorkerLost: its port is taken; another did not come up, or is lost.
    """

    def __init__(self, cluster: Cluster | None = None, timeout: float = 0):
        self.barrier = lambda: None  # TensorFlow's, where a hang is noticed.
        self.abort = lambda reason: None  # Ends TensorFlow's collectives.
        self._line = None
        if cluster is None or len(cluster.hosts) == 1:
            return
        self._cluster, self._timeout = cluster, timeout
        self._answers = queue.Queue()
        self._listener = _listen(cluster)
        logging.info("Waiting for %d workers.", len(cluster.hosts))
        if cluster.index == 0:
            threading.Thread(target=self._preside, daemon=True).start()
        self._line = self._join()
        threading.Thread(target=self._read, args=[self._line], daemon=True).start()

    def agree(self, values: dict[str, object]) -> None:
        """Waits until all workers are here with the same values, as JSON holds them.

        Raises:
            UserError: on all, naming what differs; or two say that they are the same.
            WorkerLost: one is, or the chief does not answer in time.
        """
        if self._line:
            self.barrier()
            _send(self._line, agree=values)
            answer = self._answer_within(self._timeout + _GRACE_SECONDS)
            self._listener.close()  # TensorFlow takes the port.
            if "done" not in answer:
                self._line = None
                if "refused" in answer:
                    raise UserError(answer["refused"])
                raise WorkerLost(answer.get("lost", f"no answer; {_ADVICE}"))

    def __exit__(self, kind, error: BaseException | None, trace) -> None:
        if self._line is None:
            return
        # All stop after the same step then, and wait for the chief, which saves it.
        is_saved = error is None or (isinstance(error, Interrupted) and error.is_saved)
        try:
            if is_saved:
                self.barrier()
        except Exception as failed:
            is_saved, error = False, failed
        self.explain(error)
        reason = " ".join(str(error).split())[:300]
        if not isinstance(error, UserError | Interrupted):
            reason = f"{type(error).__name__}: {reason}"
        line, self._line = self._line, self._line if is_saved else None
        _send(line, leave=None if is_saved else reason)
        answer = self._answer_within(None if is_saved else _DOUBT_SECONDS)
        if is_saved and "lost" in answer:
            raise WorkerLost(answer["lost"])
        if kind is None and error:  # It came after all was done.
            raise error

    def explain(self, error: BaseException | None) -> None:
        """Raises WorkerLost if this is how TensorFlow says that a worker is lost."""
        if not self._line or not _PEER_GONE.search(text := str(error)):
            return
        # Where the other has ended or said why, the thread that reads knows it.
        answer = self._answer_within(_DOUBT_SECONDS)
        if "lost" not in answer:
            tasks = re.findall(r"/job:worker/(?:replica:0/)?task:(\d+)", text)
            own, name = self._cluster.index, self._cluster.name
            # Without a name it misses its service, which is the chief's.
            lost = {*map(int, tasks)} - {own} or {0} - {own}
            names = ", ".join(map(name, sorted(lost))) or "another worker"
            answer = {"lost": f"{name(own)} gets no answer from {names}; {_ADVICE}"}
            _send(self._line, **answer)
            answer |= self._answer_within(1)  # The chief tells all, this one too.
        self._line = None
        if ends_process:
            _end(answer["lost"])
        raise WorkerLost(answer["lost"]) from error

    def _answer_within(self, seconds: float | None) -> dict:
        with contextlib.suppress(queue.Empty):  # The chief may hang.
            return self._answers.get(timeout=seconds)
        return {}

    def _join(self) -> socket.SocketIO:
        deadline, chief = time.monotonic() + self._timeout, self._cluster.hosts[0]
        while time.monotonic() < deadline:
            try:
                connection = socket.create_connection(split_address(chief), timeout=10)
                line = connection.makefile("rwb", buffering=0)
                _send(line, hello=self._cluster.index, hosts=self._cluster.hosts)
                if "welcome" in _receive(line, ""):
                    connection.settimeout(None)
                    return line
                why = "another program answers there"
            except OSError as error:
                why = error.strerror or error
            time.sleep(0.3)
        raise WorkerLost(f"{self._absent([0])} ({why})")

    def _absent(self, missing: list[int]) -> str:
        names = ", ".join(map(self._cluster.name, missing))
        line = f"{names} did not come up within {self._timeout:g} s; check the list of "
        return line + "hosts, or give more time with --worker_timeout"

    def _read(self, line: socket.SocketIO) -> None:
        while "done" in (answer := _receive(line, self._cluster.name(0))):
            self._answers.put(answer)
        time.sleep(answer.get("grace", 0))
        if "lost" in answer and self._line:  # Else it stops for a reason of its own.
            if ends_process:
                _end(answer["lost"])
            self.abort(answer["lost"])
        self._answers.put(answer)

    def _preside(self) -> None:
        """The chief's thread: compares what all say, and tells all when one is lost."""
        (lines, answer), said = self._gather(), {}
        while True:
            if answer:
                for index in sorted(lines, reverse=True):  # The chief may end at once.
                    _send(lines[index], **answer)
                if "done" not in answer:
                    return
                said, answer = {}, None
            silent = {lines[index]: index for index in lines if index not in said}
            ends, at = select.poll(), {line.fileno(): line for line in silent}
            for end in at:
                ends.register(end, select.POLLIN)
            for line in [at[end] for end, _ in ends.poll()]:
                name = self._cluster.name(silent[line])
                message = said[silent[line]] = _receive(line, name)
                if reason := message.get("leave"):
                    stopped = f"{name} has stopped: {reason}"
                    answer = {"lost": stopped, "grace": _GRACE_SECONDS}
                elif "lost" in message:
                    answer = message
            if len(said) == len(lines):
                answer = answer or self._answer(said)

    def _gather(self) -> tuple[dict[int, socket.SocketIO], dict | None]:
        """Waits for all; returns them by their index, and what to tell them if not."""
        hosts, lines, refusal = self._cluster.hosts, {}, None
        ends = select.poll()
        self._listener.settimeout(0.2)
        deadline = time.monotonic() + self._timeout
        while len(lines) < len(hosts) and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                connection.settimeout(1)
                line = connection.makefile("rwb", buffering=0)
                hello = _receive(line, "")
                if not {"hello", "hosts"} <= hello.keys():
                    continue  # No worker.
                _send(line, welcome=True)
                connection.settimeout(None)
                index, others = hello["hello"], ",".join(hello["hosts"])
                if others != ",".join(hosts):
                    refusal = f"worker {index} has the hosts {others}, the chief "
                    refusal += f"{','.join(hosts)}: give all workers the same list"
                elif index in lines and lines[index].fileno() not in dict(ends.poll(0)):
                    refusal = f"two processes say that they are worker {index} "
                    refusal += f"({hosts[index]}): give each its own task index"
                if refusal:
                    index = len(hosts) + len(lines)
                    deadline = min(deadline, time.monotonic() + _REFUSAL_SECONDS)
                lines[index] = line
                ends.register(line, getattr(select, "POLLRDHUP", 0))
        self._listener.close()  # TensorFlow takes the port.
        if refusal:
            return lines, {"refused": refusal}
        missing = [index for index in range(len(hosts)) if index not in lines]
        return lines, {"lost": self._absent(missing)} if missing else None

    def _answer(self, said: dict[int, dict]) -> dict:
        """What follows when all have said that they leave, or their values."""
        if "leave" in said[0]:
            return {"over": True}
        wanted, chief = said[0]["agree"], self._cluster.name(0)
        for index, message in sorted(said.items()):
            found = message["agree"]
            for name in wanted | found:
                if (one := found.get(name)) != (other := wanted.get(name)):
                    line = f"{self._cluster.name(index)} has {name} {one}, {chief} "
                    line += f"{other}: it must be the same on all workers"
                    return {"refused": line}
        return {"done": True}


def _send(line: socket.SocketIO, **message) -> None:
    with contextlib.suppress(OSError):  # Noticed where it is read from.
        line.write(json.dumps(message).encode() + b"\n")


def _receive(line: socket.SocketIO, name: str) -> dict:
    """Waits for a message; where there will be none it says that `name` is lost."""
    how = "has ended, perhaps killed"
    try:
        with contextlib.suppress(ConnectionResetError):  # As of a killed process.
            if text := line.readline(1 << 20):
                return dict(json.loads(text))
    except OSError as error:
        how = f"is out of reach ({error.strerror or error})"
    except (ValueError, TypeError):
        how = "is another program"
    return {"lost": f"{name} {how}; {_ADVICE}"}


def _listen(cluster: Cluster) -> socket.socket:
    """Listens on this worker's port, on every address of the machine."""
    _, port = split_address(cluster.hosts[cluster.index])
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=dual)
    except OSError as error:
        raise UserError(
            f"{cluster.name(cluster.index)} cannot listen on its port "
            f"({error.strerror}): is one of the same index or an earlier run there?"
        ) from error


def _end(line: str) -> None:
    with contextlib.suppress(OSError):  # Nobody reads it any more.
        stderr = os.dup(2)  # TensorFlow's threads have much to say of a lost peer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.write(stderr, f"alexnet: {line}\n".encode())
    os._exit(WorkerLost.status)
