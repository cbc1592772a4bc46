"""Starts the workers of a test as processes of this machine, and ends them all."""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def free_hosts(count: int) -> list[str]:
    return [f"127.0.0.1:{port}" for port in free_ports(count)]


def tf_environments(hosts: list[str], chief: bool = False) -> list[dict[str, str]]:
    """The environment of each, with TF_CONFIG; with `chief`, the first is the chief."""
    jobs = {"chief": hosts[:1], "worker": hosts[1:]} if chief else {"worker": hosts}
    return [
        os.environ
        | {"TF_CPP_MIN_LOG_LEVEL": "2"}
        | {
            "TF_CONFIG": json.dumps(
                {"cluster": jobs, "task": {"type": job, "index": i}}
            )
        }
        for job, listed in jobs.items()
        for i in range(len(listed))
    ]


@contextlib.contextmanager
def started(
    commands: list[list[str]], environments: list[dict[str, str]] | None = None
) -> Iterator[list[subprocess.Popen]]:
    """Runs the commands; none of them outlives the test."""
    processes = []
    try:
        for index, command in enumerate(commands):
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environments[index] if environments else None,
            )
            processes.append(process)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()


def ended(process: subprocess.Popen, seconds: float) -> tuple[int, str]:
    """Status and stderr of a process that must end in that time."""
    started = time.monotonic()
    _, stderr = process.communicate(timeout=seconds)
    assert time.monotonic() - started < seconds
    return process.returncode, stderr.strip()
