"""The processes of a run on several machines, as --worker_hosts or TF_CONFIG say."""

import dataclasses
import json
import re
from collections.abc import Sequence

from official.alexnet.errors import UserError

# What reading a scheduler's text may raise.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where every worker listens, and which of them this process is."""

    hosts: tuple[str, ...]  # host:port; the first is the chief, which alone writes.
    index: int

    def name(self, index: int) -> str:
        """How messages call a worker."""
        return f"worker {index} ({self.hosts[index]})"


@dataclasses.dataclass(frozen=True)
class Role:
    """What a process is started for."""

    task: str  # `worker`; `evaluator` beside them; `ps`, which has nothing to do.
    cluster: Cluster | None  # All workers; None where this process has no others.
    source: str  # Who says so.

    def __str__(self) -> str:
        who = "one process" if self.task == "worker" else f"the {self.task} task"
        if several := self.cluster:
            who = f"{several.name(several.index)} of {len(several.hosts)}"
        return f"{self.source}: {who}"


def of_worker(hosts: Sequence[str], index: int, source: str) -> Role:
    """The role of worker `index` of `hosts`; one without others trains by itself.

    Raises:
        UserError: it is not among them, or an address is malformed or there twice.
    """
    if not 0 <= index < len(hosts):
        raise UserError(f"{source}: {index} is not one of {len(hosts)}, counted from 0")
    for host in hosts:
        # An IPv6 address has colons, but no host a scheme, as of grpc://a:1.
        fits = re.fullmatch(r"[\w.:%\[\]-]*[\w\]]:(\d{1,5})", host, re.ASCII)
        if not (fits and 0 < int(fits[1]) < 2**16):
            raise UserError(f"{source}: {host!r} should read host:port")
        if hosts.count(host) > 1:
            raise UserError(f"{source} lists {host} twice: each worker has its own")
    several = Cluster(tuple(hosts), index) if len(hosts) > 1 else None
    return Role("worker", several, source)


def split_address(host: str) -> tuple[str, int]:
    """The host and the port of host:port; an IPv6 address is in brackets."""
    name, _, port = host.rpartition(":")
    return name.strip("[]"), int(port)


def read_tf_config(text: str) -> Role | None:
    """What TF_CONFIG says, as the engines write it; None where it names nobody.

    A `master` is the chief, which comes first; `ps` and `evaluator` are no workers.

    Raises:
        UserError: it is malformed, or cannot be meant.
    """
    try:
        return _role(json.loads(text) if text.strip() else {})
    except MALFORMED as error:
        raise UserError(
            f"TF_CONFIG={text[:300]!r} cannot be read ({type(error).__name__}: {error})"
            '; it should look like {"cluster": {"worker": ["a:2222", "b:2222"]}, "task"'
            ': {"type": "worker", "index": 0}}'
        ) from error


def _role(contents: dict) -> Role | None:
    if "sparseCluster" in contents:
        raise UserError(
            "TF_CONFIG has a sparseCluster, where a worker does not see the others: "
            "write enableDynamicWorker: false into the spec of the TFJob"
        )
    listed = (contents.get("cluster") or {}).items()
    jobs = {job: found for job, hosts in listed if (found := _addresses(hosts))}
    if not jobs:
        return None
    # Not int alone, which takes 1.7 for the worker 1.
    kind, index = contents["task"]["type"], int(str(contents["task"]["index"]))
    known = ("chief", "master", "worker", "ps", "evaluator")
    if others := {*jobs, kind} - {*known}:
        raise ValueError(f"there is no job {min(others)!r}, only {', '.join(known)}")
    if kind in ("evaluator", "ps"):
        return Role(kind, None, "TF_CONFIG")
    chiefs = [*jobs.get("chief", []), *jobs.get("master", [])]
    if len(chiefs) > 1:
        raise ValueError(f"{len(chiefs)} chiefs, {', '.join(chiefs)}; a master is one")
    own = jobs.get(kind, [])
    if not 0 <= index < len(own):
        raise ValueError(f"{kind} {index} is not one of {len(own)}, counted from 0")
    before = len(chiefs) if kind == "worker" else 0
    return of_worker([*chiefs, *jobs.get("worker", [])], before + index, "TF_CONFIG")


def _addresses(hosts: list | dict | None) -> list[str]:
    """A job's addresses from a list, or from a dictionary of index to address."""
    if isinstance(hosts, dict):
        hosts = {int(index): host for index, host in hosts.items()}
        hosts = [hosts[index] for index in range(len(hosts))]
    if isinstance(hosts, str) or not all(isinstance(host, str) for host in hosts or ()):
        raise TypeError(f"{hosts!r} is no list of addresses")
    return hosts or []
