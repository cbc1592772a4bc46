"""The processes of a run on several machines, from the flags or from TF_CONFIG."""

import dataclasses
import json
import os

from official.alexnet.errors import UserError
from official.alexnet.machine import RuntimeConfig


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where every worker listens, and which of them this process is.

    Attributes:
        hosts: host:port of each; the first is the chief, which alone writes.
        index: this worker's place among them.
    """

    hosts: tuple[str, ...]
    index: int

    def name(self, index: int) -> str:
        """How messages call a worker."""
        return f"worker {index} ({self.hosts[index]})"


def configure(runtime: RuntimeConfig) -> Cluster:
    """Reads TF_CONFIG, or writes it from `--worker_hosts` and `--task_index`.

    Raises:
        UserError: there is neither, or one that cannot be meant.
    """
    if runtime.worker_hosts is not None:
        hosts = [host.strip() for host in runtime.worker_hosts.split(",")]
        if not 0 <= runtime.task_index < len(hosts):
            raise UserError(
                f"--task_index={runtime.task_index} is not one of the {len(hosts)} "
                "--worker_hosts, which count from 0"
            )
        cluster = Cluster(tuple(hosts), runtime.task_index)
        _check_hosts(cluster, "--worker_hosts")
        os.environ["TF_CONFIG"] = json.dumps(
            {
                "cluster": {"worker": hosts},
                "task": {"type": "worker", "index": runtime.task_index},
            }
        )
        return cluster
    if "TF_CONFIG" not in os.environ:
        raise UserError(
            "--distribution_strategy=multi_worker_mirrored needs --worker_hosts "
            "and --task_index, or TF_CONFIG in the environment"
        )
    cluster = _read(os.environ["TF_CONFIG"])
    _check_hosts(cluster, "TF_CONFIG")
    return cluster


def split_address(host: str) -> tuple[str, int]:
    """The host and the port of host:port; an IPv6 address is in brackets."""
    name, _, port = host.rpartition(":")
    return name.strip("[]"), int(port)


def _read(text: str) -> Cluster:
    try:
        contents = json.loads(text)
        jobs, task = contents["cluster"], contents["task"]
        kind, index = task["type"], int(task["index"])
        hosts = {job: list(jobs[job]) for job in ("chief", "worker") if job in jobs}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"TF_CONFIG={text!r} cannot be read ({type(error).__name__}: {error}); it "
            'should look like {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": '
            '{"type": "worker", "index": 0}}'
        ) from error
    if kind not in hosts or len(hosts) < len(jobs):
        raise UserError(
            f"TF_CONFIG has the jobs {', '.join(jobs)} and is for a {kind!r}: only "
            "chief and worker take part in multi_worker_mirrored"
        )
    if not 0 <= index < len(hosts[kind]):
        raise UserError(
            f"TF_CONFIG says {kind} {index}, but lists {len(hosts[kind])} of them, "
            "which count from 0"
        )
    before = len(hosts.get("chief", ())) if kind == "worker" else 0
    everybody = [*hosts.get("chief", ()), *hosts.get("worker", ())]
    return Cluster(tuple(everybody), before + index)


def _check_hosts(cluster: Cluster, source: str) -> None:
    for host in cluster.hosts:
        try:
            name, port = split_address(host)
        except ValueError:
            name, port = "", 0
        if not name or not 0 < port < 2**16:
            raise UserError(f"{source}: {host!r} should read host:port")
        if cluster.hosts.count(host) > 1:
            raise UserError(f"{source} lists {host} twice: each worker has its own")
