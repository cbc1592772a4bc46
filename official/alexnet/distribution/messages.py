"""Messages between workers: one JSON object a line over TCP."""

import errno
import json
import socket
from collections.abc import Iterator

from official.alexnet.distribution.cluster import split_address

_TICK_SECONDS = 1.0
_LONGEST = 1 << 20


def listen(port: int) -> socket.socket:
    """Listens on every address of this machine.

    Raises:
        OSError: the port is in use, or not for this user.
    """
    try:
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True
        )
    except (OSError, ValueError) as error:
        # A machine may be without IPv6.
        if getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES):
            raise
        return socket.create_server(("", port))


def dial(host: str) -> socket.socket:
    """Connects to host:port.

    Raises:
        OSError: nobody answers, or the name is not known.
    """
    connection = socket.create_connection(split_address(host), timeout=5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send(connection: socket.socket, **message) -> None:
    """Sends one message; a peer that is gone is noticed where it is read from."""
    try:
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        return


def receive_first(connection: socket.socket, seconds: float) -> dict:
    """Reads one message and nothing after it.

    Raises:
        OSError, ValueError: there is none in that time, or it is none of ours.
    """
    connection.settimeout(seconds)
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte or len(line) > _LONGEST:
            raise ValueError("no message of a worker")
        line += byte
    return _parse(line)


def receive(connection: socket.socket, silence: float) -> Iterator[dict]:
    """Yields messages as they come, until the peer closes.

    Args:
        connection: to read from.
        silence: seconds without a message after which to give up. They are counted
            while this process runs: one that was suspended does not blame its peer.

    Raises:
        TimeoutError: there was no message for so long.
        OSError: the connection broke.
        ValueError: the peer speaks another language.
    """
    connection.settimeout(_TICK_SECONDS)
    received, silent = b"", 0.0
    while silent < silence:
        try:
            chunk = connection.recv(1 << 16)
        except TimeoutError:
            silent += _TICK_SECONDS
            continue
        except ConnectionResetError:
            return  # A killed process leaves what it had not read.
        if not chunk:
            return
        silent = 0.0
        *lines, received = (received + chunk).split(b"\n")
        yield from map(_parse, lines)
        if len(received) > _LONGEST:
            raise ValueError("no message of a worker")
    raise TimeoutError


def _parse(line: bytes) -> dict:
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("no message of a worker")
    return message
