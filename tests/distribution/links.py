"""Machines of a test: network namespaces with a link that may be slow, lossy or cut."""

import contextlib
import fcntl
import heapq
import itertools
import os
import pathlib
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

_TUN = pathlib.Path("/dev/net/tun")
_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
needs_machines = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not _TUN.exists(),
    reason="network namespaces need root, `ip` and /dev/net/tun",
)


class Link:
    """Carries packets between two machines; its attributes may be set at any time."""

    def __init__(self, names: list[str]):
        self.delay, self.loss, self.is_cut, self.is_over = 0.0, 0.0, False, False
        self.hosts = ["10.77.0.1", "10.77.0.2"]
        self.prefixes = [["ip", "netns", "exec", name] for name in names]
        self._ends = [os.open(_TUN, os.O_RDWR) for _ in names]
        for end, name, host in zip(self._ends, names, self.hosts, strict=True):
            request = struct.pack("16sH22x", name.encode(), _TUN_WITHOUT_HEADER)
            fcntl.ioctl(end, _TUNSETIFF, request)
            for command in (
                f"link set {name} netns {name}",
                f"-n {name} link set lo up",
                f"-n {name} addr add {host}/24 dev {name}",
                f"-n {name} link set {name} up",
            ):
                subprocess.run(["ip", *command.split()], check=True)
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        order, waiting = itertools.count(), []
        others = dict(zip(self._ends, reversed(self._ends), strict=True))
        while not self.is_over:
            for end in select.select(self._ends, [], [], 0.001 if waiting else 0.1)[0]:
                packet = os.read(end, 1 << 16)
                if not self.is_cut and random.random() >= self.loss:
                    due = time.monotonic() + self.delay
                    heapq.heappush(waiting, (due, next(order), others[end], packet))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(waiting)
                os.write(end, packet)

    def close(self) -> None:
        self.is_over = True
        self._thread.join()
        for end in self._ends:
            os.close(end)


@contextlib.contextmanager
def two_machines() -> Iterator[Link]:
    """Two namespaces and the link between them; both are gone afterwards."""
    names = [f"alexnet{os.getpid() % 10**6}{side}" for side in "ab"]
    try:
        for name in names:
            made = subprocess.run(["ip", "netns", "add", name], check=False)
            if made.returncode:
                pytest.skip("no network namespaces can be made here")
        link = Link(names)
        try:
            yield link
        finally:
            link.close()
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)
