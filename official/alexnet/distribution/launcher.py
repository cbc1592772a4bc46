"""Who started this process, and which workers are beside it: before TensorFlow is."""

import json
import os
import re
import socket

from official.alexnet.distribution import cluster
from official.alexnet.distribution.cluster import Role, of_worker, read_tf_config
from official.alexnet.errors import UserError
from official.alexnet.machine import MULTI_WORKER, RuntimeConfig


def find(runtime: RuntimeConfig, *, trains: bool = True) -> Role:
    """What this process is, by the flags, TF_CONFIG or a scheduler's variables.

    A scheduler is looked for where --launcher names it, or the strategy needs hosts
    that nobody gives: a process in an allocation may well be meant to be alone.

    What `trains` writes, so that TF_CONFIG's workers must not go unnoticed.

    Raises:
        UserError: what they say is malformed, or cannot be meant.
    """
    strategy, launcher = runtime.distribution_strategy, runtime.launcher
    if runtime.names_launcher:
        role = _by(launcher, runtime, f"--launcher={launcher}")
        if role.cluster and strategy not in ("off", MULTI_WORKER):
            raise UserError(f"{role}: leave --distribution_strategy={strategy} out")
        return role
    if runtime.worker_hosts:
        source = "--task_index and --worker_hosts"
        return of_worker(runtime.hosts, runtime.task_index, source)
    is_asked = launcher == "auto" and (trains or strategy == MULTI_WORKER)
    if is_asked and (role := read_tf_config(os.environ.get("TF_CONFIG", ""))):
        if role.cluster and strategy != MULTI_WORKER:
            raise UserError(
                f"{role}: give --distribution_strategy={MULTI_WORKER} to train as one "
                "run, or --launcher=none to train alone"
            )
        return role
    if launcher == "auto" and strategy == MULTI_WORKER:
        for name, (mark, _, _) in _SCHEDULERS.items():
            if mark in os.environ:
                return _by(name, runtime, f"--launcher=auto found {name}")
    return Role("worker", None, "no --worker_hosts, TF_CONFIG or scheduler's variables")


def _by(name: str, runtime: RuntimeConfig, source: str) -> Role:
    _, read, advice = _SCHEDULERS[name]
    try:
        names, index = read(os.environ)
        port = 20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10000
    except cluster.MALFORMED as error:
        word = "no" if isinstance(error, KeyError) else "malformed:"
        line = f"{source}: {word} {error} in the environment; {advice}"
        raise UserError(line) from error
    port = runtime.worker_port or port  # And up: several may be on one machine.
    hosts = runtime.hosts or [f"{host}:{port + i}" for i, host in enumerate(names)]
    if len(hosts) != len(names):
        raise UserError(f"{source}: {len(names)} workers, {len(hosts)} --worker_hosts")
    if not runtime.hosts and not all(names):
        raise UserError(
            f"{source}: MPI does not say where its {len(names)} processes are: give "
            "--worker_hosts=a:2222,b:2222, in the order of the ranks"
        )
    return of_worker(hosts, index, source)


def _mpi(variables) -> tuple[list[str], int]:
    of_world = "OMPI_COMM_WORLD_" if "OMPI_COMM_WORLD_RANK" in variables else "PMI_"
    rank, size = variables[f"{of_world}RANK"], variables[f"{of_world}SIZE"]
    here = variables.get("OMPI_COMM_WORLD_LOCAL_SIZE", variables.get("MPI_LOCALNRANKS"))
    return ["127.0.0.1" if size in (here, "1") else ""] * int(size), int(rank)


def _slurm(variables) -> tuple[list[str], int]:
    # Of srun's step: a job's own variables are in its batch shell as well.
    nodes = _expand(variables["SLURM_STEP_NODELIST"])
    counts = re.findall(r"(\d+)(?:\(x(\d+)\))?", variables["SLURM_STEP_TASKS_PER_NODE"])
    tasks = [int(count) for count, times in counts for _ in range(int(times or 1))]
    hosts = [node for node, n in zip(nodes, tasks, strict=True) for _ in range(n)]
    return hosts, int(variables["SLURM_PROCID"])


def _expand(text: str) -> list[str]:
    """Slurm's short form: `n[01-02,7]-ib,m` is n01-ib, n02-ib, n7-ib, m."""
    names = []
    for part in re.findall(r"(?:[^,[]|\[.*?\])+", text):
        match = re.fullmatch(r"(.*?)\[(.*?)\](.*)", part)
        for numbers in match[2].split(",") if match else ():
            first, _, last = numbers.partition("-")
            for n in range(int(first), int(last or first) + 1):
                names += _expand(f"{match[1]}{n:0{len(first)}d}{match[3]}")
        names += [] if match else [part]
    return names


def _kubernetes(variables) -> tuple[list[str], int]:
    index, count = int(variables["JOB_COMPLETION_INDEX"]), int(variables["WORKERS"])
    # Of an Indexed Job's pod: JOB-INDEX.SERVICE.NAMESPACE...
    pod, service, *_ = f"{socket.getfqdn()}..".split(".")
    job = pod.removesuffix(f"-{index}")
    if not service or job == pod:
        raise ValueError(f"{pod}.{service} is not JOB-{index}.SERVICE; set `subdomain`")
    return [f"{job}-{i}.{service}" for i in range(count)], index


def _skypilot(variables) -> tuple[list[str], int]:
    return variables["SKYPILOT_NODE_IPS"].split(), int(variables["SKYPILOT_NODE_RANK"])


def _sagemaker(variables) -> tuple[list[str], int]:
    hosts = json.loads(variables["SM_HOSTS"])
    if not isinstance(hosts, list):
        raise TypeError(f"SM_HOSTS={hosts!r} is no list")
    return hosts, hosts.index(variables["SM_CURRENT_HOST"])


# What `auto` knows each by, its reader, and advice. MPI may run under the others.
_SCHEDULERS = {
    "mpi": ("OMPI_COMM_WORLD_RANK", _mpi, "start it by mpirun"),
    "slurm": ("SLURM_STEP_NODELIST", _slurm, "start it by srun"),
    "kubernetes": ("JOB_COMPLETION_INDEX", _kubernetes, "start it as an Indexed Job"),
    "skypilot": ("SKYPILOT_NODE_IPS", _skypilot, "start it by sky, with num_nodes"),
    "sagemaker": ("SM_HOSTS", _sagemaker, "start it as SageMaker's training job"),
}
