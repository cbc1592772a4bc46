"""What engines and schedulers write, read without TensorFlow; and their mistakes."""

import json
import os
import pathlib
import resource
import socket
import subprocess
import sys

import pytest
from worker_processes import free_hosts, started

from official.alexnet.distribution import launcher
from official.alexnet.distribution.cluster import Cluster
from official.alexnet.errors import UserError
from official.alexnet.machine import MULTI_WORKER, RuntimeConfig

ROOT = pathlib.Path(__file__).parents[2]
MULTI = RuntimeConfig(MULTI_WORKER)


def tf_config(cluster: dict | None, kind: str = "worker", index=0, **more) -> dict:
    """The environment of one task."""
    task = {"type": kind, "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task, **more})}


def by(name: str, **more) -> RuntimeConfig:
    return RuntimeConfig(launcher=name, **more)


KUBEFLOW = [f"alexnet-worker-{i}.default.svc:2222" for i in range(2)]
SAGEMAKER = {"master": ["algo-1:2222"], "ps": ["algo-1:2223", "algo-2:2223"]}
SLURM = {
    "SLURM_JOB_ID": "1234711",
    "SLURM_STEP_NODELIST": "n[01-02,7],gpu-a[1-2]-ib0",
    "SLURM_STEP_TASKS_PER_NODE": "2,1(x4)",
    "SLURM_PROCID": "2",
}
NODES = ("n01:24711", "n01:24712", "n02:24713", "n7:24714")
NODES += ("gpu-a1-ib0:24715", "gpu-a2-ib0:24716")
# What a batch shell has as well, in which srun started nothing.
BATCH = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-4]", "SLURM_PROCID": "0"}
MPI = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
POD = {"JOB_COMPLETION_INDEX": "1", "WORKERS": "2"}
SKY = {"SKYPILOT_NODE_IPS": "10.0.0.5\n10.0.0.9\n", "SKYPILOT_NODE_RANK": "1"}
SAGE = {"SM_HOSTS": '["algo-1", "algo-2"]', "SM_CURRENT_HOST": "algo-2"}
FOUND = [
    # Kubeflow, Vertex AI and Ray: workers alone, or a chief that comes first.
    ("workers", MULTI, tf_config({"worker": KUBEFLOW}, index=1), (KUBEFLOW, 1)),
    (
        *("chief", MULTI),
        tf_config({"worker": ["b:1", "c:1"], "chief": ["a:1"]}, index=1),
        (["a:1", "b:1", "c:1"], 2),
    ),
    (
        *("Vertex AI", MULTI),
        tf_config({"chief": ["a:1"], "worker": ["b:1"]}, "chief", "0", job="{}"),
        (["a:1", "b:1"], 0),
    ),
    (
        *("Kubeflow with ps and evaluator", MULTI),
        tf_config({"ps": ["p:1"], "evaluator": ["e:1"], "worker": KUBEFLOW}),
        (KUBEFLOW, 0),
    ),
    (
        *("empty lists", MULTI),
        tf_config({"chief": [], "ps": None, "worker": KUBEFLOW}, index=1),
        (KUBEFLOW, 1),
    ),
    (
        *("SageMaker's master", MULTI),
        tf_config(SAGEMAKER | {"worker": ["algo-2:2222"]}, environment="cloud"),
        (["algo-1:2222", "algo-2:2222"], 1),
    ),
    (
        *("SageMaker as master", MULTI),
        tf_config(SAGEMAKER | {"worker": ["algo-2:2222"]}, "master"),
        (["algo-1:2222", "algo-2:2222"], 0),
    ),
    (
        *("a dictionary", MULTI),
        tf_config({"worker": {str(i): f"w:{i + 1}" for i in reversed(range(11))}}),
        ([f"w:{i + 1}" for i in range(11)], 0),
    ),
    ("one worker", MULTI, tf_config({"worker": ["a:1"]}), None),
    ("one chief", MULTI, tf_config({"chief": ["a:1"], "worker": []}, "chief"), None),
    ("nothing", MULTI, {}, None),
    *((text or "''", MULTI, {"TF_CONFIG": text}, None) for text in ("", " ", "{}")),
    ("no cluster", MULTI, {"TF_CONFIG": '{"cluster": {}, "task": {}}'}, None),
    ("not read", by("none"), tf_config({"worker": KUBEFLOW}), None),
    ("alone", by("none", distribution_strategy="off"), tf_config({"worker": []}), None),
    (
        *("--worker_hosts wins", RuntimeConfig(MULTI_WORKER, worker_hosts="a:1, b:1")),
        {"TF_CONFIG": "{"},
        (["a:1", "b:1"], 0),
    ),
    ("srun", by("slurm"), SLURM, (NODES, 2)),
    ("srun, auto", MULTI, SLURM, (NODES, 2)),
    (
        *("srun, a port", by("slurm", worker_port=99)),
        SLURM | {"SLURM_STEP_NODELIST": "a,b", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"},
        (["a:99", "a:100", "b:101", "b:102"], 2),
    ),
    ("a batch shell", MULTI, BATCH, None),
    ("srun without a word", RuntimeConfig(), SLURM, None),
    (
        *("srun, one task", by("slurm")),
        SLURM
        | {
            "SLURM_STEP_NODELIST": "n1",
            "SLURM_STEP_TASKS_PER_NODE": "1",
            "SLURM_PROCID": "0",
        },
        None,
    ),
    (
        *("mpirun here", by("mpi")),
        MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
        (["127.0.0.1:20000", "127.0.0.1:20001"], 1),
    ),
    ("mpirun", by("mpi", worker_hosts="a:1,b:1"), MPI, (["a:1", "b:1"], 1)),
    (
        *("MPICH", by("mpi", worker_hosts="a:1,b:1")),
        {"PMI_RANK": "0", "PMI_SIZE": "2"},
        (["a:1", "b:1"], 0),
    ),
    (
        *("mpirun in an allocation, auto", MULTI),
        MPI | SLURM | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
        (["127.0.0.1:24711", "127.0.0.1:24712"], 1),
    ),
    (
        *("Indexed Job", by("kubernetes")),
        POD,
        (["alexnet-0.net:20000", "alexnet-1.net:20001"], 1),
    ),
    ("SkyPilot", by("skypilot"), SKY, (["10.0.0.5:20000", "10.0.0.9:20001"], 1)),
    ("SkyPilot, auto", MULTI, SKY, (["10.0.0.5:20000", "10.0.0.9:20001"], 1)),
    ("SageMaker", by("sagemaker"), SAGE, (["algo-1:20000", "algo-2:20001"], 1)),
]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No scheduler's, wherever the tests run; and the name of a pod."""
    names = ("TF_CONFIG", "WORKERS", "JOB_COMPLETION_INDEX", "MPI_LOCALNRANKS")
    for name in os.environ:
        if name in names or name.startswith(("SLURM_", "OMPI_", "PMI_", "SM_", "SKY")):
            monkeypatch.delenv(name)
    pod = "alexnet-1.net.default.svc.cluster.local"
    monkeypatch.setattr(socket, "getfqdn", lambda: pod)

    def put(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("runtime", "variables", "wanted"),
    [case[1:] for case in FOUND],
    ids=[case[0] for case in FOUND],
)
def test_what_engines_give_is_understood(environment, runtime, variables, wanted):
    environment(variables)
    runtime.check(num_columns=1)
    role = launcher.find(runtime)
    assert role.task == "worker"
    assert role.cluster == (wanted and Cluster(tuple(wanted[0]), wanted[1]))
    assert "\n" not in str(role)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("task", ["evaluator", "ps"])
def test_the_tasks_that_do_not_train(environment, task, inside):
    """TonY lists the evaluator in the cluster, Kubeflow does not."""
    cluster = {"worker": KUBEFLOW} | ({task: ["e:1"]} if inside else {})
    environment(tf_config(cluster, task))
    role = launcher.find(MULTI)
    assert (role.task, role.cluster) == (task, None)
    assert str(role) == f"TF_CONFIG: the {task} task"


def without(variables: dict, name: str) -> dict:
    return {key: value for key, value in variables.items() if key != name}


MISTAKES = [
    (MULTI, {"TF_CONFIG": "{"}, "TF_CONFIG='{' cannot be read"),
    (MULTI, {"TF_CONFIG": "[1]"}, "cannot be read"),
    (MULTI, {"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}'}, "KeyError: 'task'"),
    (MULTI, tf_config({"worker": ["a:1"]}, index=1), "worker 1 is not one of 1"),
    (MULTI, tf_config({"worker": ["a:1", "b:1"]}, index=-1), "worker -1 is not one"),
    (MULTI, tf_config({"worker": ["a:1", "b:1"]}, index=1.7), "ValueError: .*1.7"),
    (MULTI, tf_config({"worker": ["a:1"]}, index=float("inf")), "ValueError: .*inf"),
    (MULTI, tf_config({"worker": ["a:1"]}, "chief"), "chief 0 is not one of 0"),
    (MULTI, tf_config({"worker": ["a:1", "b"]}), "'b' should read host:port"),
    (MULTI, tf_config({"worker": ["a:1", ":1"]}), "':1' should read host:port"),
    (MULTI, tf_config({"worker": ["a:1", "b:70000"]}), "'b:70000' should read"),
    (MULTI, tf_config({"worker": ["a:1", "grpc://b:1"]}), "'grpc://b:1' should read"),
    (MULTI, {"TF_CONFIG": "[" * 100_000}, "cannot be read .RecursionError"),
    (MULTI, tf_config({"worker": ["a:1", "a:1"]}), "lists a:1 twice"),
    (MULTI, tf_config({"worker": "a:1"}), "'a:1' is no list of addresses"),
    (MULTI, tf_config({"worker": {"0": "a:1", "2": "b:1"}}), "KeyError: 1"),
    (MULTI, tf_config({"chief": ["a:1", "b:1"]}, "chief"), "2 chiefs, a:1, b:1"),
    (MULTI, tf_config({"master": ["a:1", "b:1"]}, "master"), "2 chiefs, a:1, b:1"),
    (MULTI, tf_config({"chief": ["a:1"], "master": ["b:1"]}, "master"), "2 chiefs"),
    (MULTI, tf_config({"cheif": ["a:1"]}, "cheif"), "there is no job 'cheif'"),
    (
        MULTI,
        {"TF_CONFIG": '{"sparseCluster": {"worker": {"0": "a:1"}, "ps": []}}'},
        "enableDynamicWorker: false",
    ),
    (
        RuntimeConfig(),
        tf_config({"worker": KUBEFLOW}),
        "give --distribution_strategy=multi_worker_mirrored .*--launcher=none",
    ),
    (RuntimeConfig("mirrored"), tf_config({"worker": KUBEFLOW}), "--launcher=none"),
    (
        RuntimeConfig(MULTI_WORKER, worker_hosts="a:1", task_index=1),
        *({}, "--task_index and --worker_hosts: 1 is not one of 1"),
    ),
    (by("slurm"), BATCH, "no 'SLURM_STEP_NODELIST' .*; start it by srun"),
    (by("slurm"), SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1"}, "malformed"),
    (by("slurm"), SLURM | {"SLURM_PROCID": "6"}, "6 is not one of 6"),
    (by("slurm", distribution_strategy="mirrored"), SLURM, "leave --distribution_str"),
    (by("slurm", worker_hosts="a:1,b:1"), SLURM, "6 workers, 2 --worker_hosts"),
    (by("mpi"), MPI, "MPI does not say where .* give --worker_hosts"),
    (by("mpi"), {}, "no 'PMI_RANK' in the environment; start it by mpirun"),
    (by("kubernetes"), without(POD, "WORKERS"), "no 'WORKERS' in the environment"),
    (by("kubernetes"), POD | {"JOB_COMPLETION_INDEX": "0"}, "set `subdomain`"),
    (by("skypilot"), without(SKY, "SKYPILOT_NODE_RANK"), "no 'SKYPILOT_NODE_RANK'"),
    (by("sagemaker"), SAGE | {"SM_CURRENT_HOST": "algo-3"}, "malformed: 'algo-3'"),
    (by("sagemaker"), SAGE | {"SM_HOSTS": "algo-1"}, "malformed"),
    (by("sagemaker"), SAGE | {"SM_HOSTS": '{"algo-2": 1}'}, "malformed: .* is no list"),
    (by("sagemaker"), SAGE | {"SM_HOSTS": '"ab"', "SM_CURRENT_HOST": "a"}, "no list"),
]


def test_a_pod_of_a_kubeflow_trainjob(environment, monkeypatch):
    # JOBSET-REPLICATED JOB-ITS NUMBER-INDEX.JOBSET
    monkeypatch.setattr(socket, "getfqdn", lambda: "alexnet-node-0-1.alexnet")
    environment(POD)
    found = launcher.find(by("kubernetes")).cluster
    names = [host.partition(":")[0] for host in found.hosts]
    assert names == ["alexnet-node-0-0.alexnet", "alexnet-node-0-1.alexnet"]
    assert found.index == 1


@pytest.mark.parametrize(("runtime", "variables", "words"), MISTAKES)
def test_a_mistake_is_one_line(environment, runtime, variables, words):
    environment(variables)
    with pytest.raises(UserError, match=words) as error:
        launcher.find(runtime)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        (by("slurm", task_index=1, worker_hosts="a:1,b:1"), "has its own"),
        (RuntimeConfig(MULTI_WORKER, worker_hosts=""), "--worker_hosts is empty"),
        (RuntimeConfig(task_index=1), "--task_index needs --worker_hosts"),
        (by("slurm", enable_xla=True), "one replica"),
    ],
)
def test_settings_that_do_not_go_together(runtime, words):
    with pytest.raises(UserError, match=words):
        runtime.check(num_columns=1)


def test_an_evaluation_under_tf_config_may_be_alone(environment):
    environment(tf_config({"worker": KUBEFLOW}))
    assert launcher.find(RuntimeConfig(), trains=False).cluster is None
    assert launcher.find(MULTI, trains=False).cluster.hosts == tuple(KUBEFLOW)


NET = [
    *("--use_synthetic_data", "--width=0.125", "--input_size=64", "--num_classes=3"),
    *("--batch_size=4", "--train_steps=3", "--skip_eval", "--num_gpus=0"),
    "--schedule=constant",
]
TRAIN = [sys.executable, "-m", "official.alexnet.train", *NET]


@pytest.fixture(scope="module")
def no_tensorflow(tmp_path_factory) -> pathlib.Path:
    """A folder whose tensorflow cannot be imported."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "tensorflow.py").write_text("raise RuntimeError('started')")
    return folder


@pytest.mark.parametrize(
    ("flags", "variables", "status", "words"),
    [
        ([], tf_config({"worker": KUBEFLOW}), 2, "--launcher=none to train alone"),
        (["--launcher=slurm"], BATCH, 2, "start it by srun"),
        ([], tf_config({"worker": KUBEFLOW, "ps": ["p:1"]}, "ps"), 0, "nothing to do"),
    ],
)
def test_it_is_told_at_once(no_tensorflow, tmp_path, flags, variables, status, words):
    path = os.pathsep.join(map(str, [no_tensorflow, ROOT]))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*TRAIN, *flags, f"--model_dir={tmp_path / 'run'}"],
        env=os.environ | variables | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.splitlines()
    assert words in line
    assert not (tmp_path / "run").exists()
    # On a machine with nothing else to do these are the seconds that it takes.
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 1.5


def kubeflow(ports: list[str]) -> list[tuple[list, dict]]:
    """A chief, a worker, and the tasks that do not train."""
    jobs = {"chief": ports[:1], "worker": ports[1:], "ps": ["127.0.0.1:1"]}
    tasks = [("chief", 0), ("worker", 0), ("evaluator", 0), ("ps", 0)]
    flags = [f"--distribution_strategy={MULTI_WORKER}"]
    return [(flags, tf_config(jobs, *task)) for task in tasks]


def srun(ports: list[str]) -> list[tuple[list, dict]]:
    step = SLURM | {
        "SLURM_STEP_NODELIST": "127.0.0.[1-2]",
        "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    }
    port = int(ports[0].rpartition(":")[2])
    flags = ["--launcher=slurm", f"--worker_port={port}"]
    return [(flags, step | {"SLURM_PROCID": str(i)}) for i in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("engine", [kubeflow, srun])
def test_processes_train_as_the_engine_says(tmp_path, engine):
    folder = tmp_path / "run"
    given = engine(free_hosts(2))
    commands = [[*TRAIN, *flags, f"--model_dir={folder}"] for flags, _ in given]
    environments = [os.environ | variables for _, variables in given]
    with started(commands, environments=environments) as processes:
        outputs = [process.communicate(timeout=600) for process in processes]
    assert [p.returncode for p in processes] == [0] * len(given), outputs
    results = [json.loads(stdout) for stdout, _ in outputs]
    assert [result["step"] for result in results[:2]] == [3, 3]
    assert f"worker 0 ({'127.0.0.1'}" in outputs[0][1]
    if engine is kubeflow:
        assert (results[2]["evaluated"], results[2]["complete"]) == ([3], True)
        assert results[3] == {"task": "ps"}
