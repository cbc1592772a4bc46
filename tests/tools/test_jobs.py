"""The job files, as far as a machine without Slurm and Kubernetes can run them.

Slurm's commands are stand-ins: `srun` starts the tasks as processes of this machine.
"""

import ast
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from official.alexnet.config import DataConfig, RuntimeConfig
from official.alexnet.setting_flags import config_of
from official.alexnet.training import checkpoints

JOBS = pathlib.Path(__file__).parents[2] / "tools" / "jobs"

SRUN = """#!/bin/bash
pids=()
for i in $(seq 0 $((SLURM_JOB_NUM_NODES - 1))); do
    SLURM_STEP_NODELIST=$SLURM_JOB_NODELIST SLURM_PROCID=$i \\
        SLURM_STEP_TASKS_PER_NODE="1(x$SLURM_JOB_NUM_NODES)" "$@" &
    pids+=($!)
done
echo "${pids[@]}" > "$SLURM_DIR/pids"
status=0
for pid in "${pids[@]}"; do
    wait "$pid"
    code=$?
    [ $code -gt $status ] && status=$code
done
exit $status
"""
SCONTROL = """#!/bin/bash
[ "$1" = requeue ] && echo "requeue $2" >> "$SLURM_DIR/asked"
"""
SCANCEL = """#!/bin/bash
echo "scancel $*" >> "$SLURM_DIR/asked"
kill -s "${1#--signal=}" $(cat "$SLURM_DIR/pids")
"""
# Tells how it was called; stands in for a run that ends by itself or by a signal.
TOLD = """#!/bin/bash
trap 'exit 75' USR1
printf '%s\\n' "$*" >> "$SLURM_DIR/called"
[ -n "$SECONDS_TO_RUN" ] && for i in $(seq $((SECONDS_TO_RUN * 10))); do sleep 0.1; done
exit ${STATUS:-0}
"""
REAL = f"""#!/bin/bash
exec {sys.executable} -m official.alexnet.train "$@"
"""
# As a pod, whose name is known in its cluster only.
POD = """
import os, socket, sys
from official.alexnet.train import run
pod = f"alexnet-{os.environ['JOB_COMPLETION_INDEX']}"
socket.getfqdn = lambda: f"{pod}.alexnet.default.svc.cluster.local"
run()
"""
NET = [
    *("--use_synthetic_data", "--width=0.125", "--input_size=64", "--num_classes=3"),
    *("--batch_size=4", "--train_steps=3", "--skip_eval", "--num_gpus=0"),
    "--schedule=constant",
]


@pytest.fixture
def machine(tmp_path):
    """Runs a job's shell with stand-ins before the real commands."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def environment(train: str, **variables: str) -> dict[str, str]:
        programs = {"srun": SRUN, "scontrol": SCONTROL, "scancel": SCANCEL}
        for name, text in (programs | {"alexnet-train": train}).items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        return os.environ | {"PATH": path, "SLURM_DIR": str(tmp_path)} | variables

    return environment


def slurm(count: int, restarts: int = 0) -> dict[str, str]:
    names = ["127.0.0.1", "localhost", "127.0.0.2", "127.0.0.3"]
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": ",".join(names[:count]),
        "SLURM_JOB_NUM_NODES": str(count),
        "SLURM_RESTART_COUNT": str(restarts),
    }


def sbatch(*flags: str) -> list[str]:
    return ["bash", str(JOBS / "train.sbatch"), *flags]


def asked(folder: pathlib.Path) -> list[str]:
    file = folder / "asked"
    return file.read_text().splitlines() if file.exists() else []


def test_sbatch_starts_a_task_a_node(machine, tmp_path):
    flags = ["--config_file=paper", "--model_dir=/with a space"]
    run = subprocess.run(sbatch(*flags), env=machine(TOLD, **slurm(3)), check=False)
    assert run.returncode == 0
    wanted = f"--launcher=slurm {' '.join(flags)}"
    assert (tmp_path / "called").read_text().splitlines() == [wanted] * 3
    assert asked(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"),
    [(75, 3, True), (69, 0, True), (137, 0, True), (75, 20, False), (2, 0, False)],
)
def test_sbatch_is_queued_again_where_that_helps(
    machine, tmp_path, status, restarts, requeued
):
    environment = machine(TOLD, STATUS=str(status), **slurm(2, restarts=restarts))
    run = subprocess.run(sbatch(), env=environment, check=False)
    assert run.returncode == status
    assert asked(tmp_path) == (["requeue 4711"] if requeued else [])


def test_sbatch_hands_the_signal_on_and_waits(machine, tmp_path):
    environment = machine(TOLD, SECONDS_TO_RUN="600", **slurm(2))
    with subprocess.Popen(sbatch(), env=environment) as job:
        called = tmp_path / "called"
        for _ in range(600):
            if called.exists() and len(called.read_text().splitlines()) == 2:
                break
            time.sleep(0.1)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(60) == 75
    assert asked(tmp_path) == ["scancel --signal=USR1 4711", "requeue 4711"]


@pytest.mark.parametrize("flag", ["--clean", "-clean", "--clean=true"])
def test_sbatch_does_not_start_anew_each_time(machine, tmp_path, flag):
    environment = machine(TOLD, **slurm(2))
    run = subprocess.run(
        sbatch(flag), env=environment, check=False, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert f"{flag} would start anew" in run.stderr
    assert not (tmp_path / "called").exists()


@pytest.mark.slow
def test_sbatch_trains(machine, tmp_path):
    environment = machine(REAL, **slurm(2))
    run = subprocess.run(
        sbatch(*NET, f"--model_dir={tmp_path / 'run'}"),
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert [result["step"] for result in results] == [3, 3]
    assert checkpoints.read(checkpoints.latest(tmp_path / "run")).step == 3


def documents() -> tuple[dict, dict]:
    service, job = yaml.safe_load_all((JOBS / "kubernetes.yaml").read_text())
    return service, job


def test_kubernetes_names_agree():
    service, job = documents()
    pod = job["spec"]["template"]["spec"]
    (worker,) = pod["containers"]
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    # A pod of an indexed job has the host name JOB-INDEX; the headless service of the
    # subdomain's name gives JOB-INDEX.SUBDOMAIN its address.
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert service["spec"]["clusterIP"] == "None"
    assert job["spec"]["completionMode"] == "Indexed"
    count = int(worker["env"][0]["value"])
    assert count == job["spec"]["completions"] == job["spec"]["parallelism"]
    # What Kubernetes demands of a podFailurePolicy.
    assert pod["restartPolicy"] == "Never"
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes")
        assert codes is None or codes["containerName"] == worker["name"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert volumes == {mount["name"] for mount in worker["volumeMounts"]}


def test_kubeflow_starts_the_same_command_for_each_task():
    job = yaml.safe_load((JOBS / "kubeflow.yaml").read_text())
    replicas = job["spec"]["tfReplicaSpecs"]
    assert list(replicas) == ["Chief", "Worker", "Evaluator"]
    for replica in replicas.values():
        # ExitCode does not try again after 69 and 75.
        assert (replica["replicas"], replica["restartPolicy"]) == (1, "OnFailure")
        (container,) = replica["template"]["spec"]["containers"]
        assert (container["name"], container["command"]) == (
            *("tensorflow", ["alexnet-train"]),
        )
        check_flags(container["args"])


def test_kubeflow_trainer_gives_the_variables_of_an_indexed_job():
    runtime, job = yaml.safe_load_all((JOBS / "trainjob.yaml").read_text())
    reference, trainer = job["spec"]["runtimeRef"], job["spec"]["trainer"]
    assert reference == {"kind": runtime["kind"], "name": runtime["metadata"]["name"]}
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    spec = node["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    # The names that Kubeflow Trainer looks for.
    assert (node["name"], container["name"]) == ("node", "node")
    assert list(node["template"]["metadata"]["labels"].values()) == ["trainer"]
    assert (spec["completionMode"], pod["restartPolicy"]) == ("Indexed", "Never")
    policy = yaml.safe_load(json.dumps(documents()[1]["spec"]["podFailurePolicy"]))
    for rule in policy["rules"]:
        if "onExitCodes" in rule:
            rule["onExitCodes"]["containerName"] = "node"
    assert spec["podFailurePolicy"] == policy
    assert trainer["env"] == [{"name": "WORKERS", "value": str(trainer["numNodes"])}]
    assert trainer["command"] == ["alexnet-train"]
    assert "--launcher=kubernetes" in trainer["args"]
    check_flags(trainer["args"])


def check_flags(arguments: list[str]) -> None:
    """Those of a job are flags of alexnet-train, and settings that go together."""
    names = {field.name for field in dataclasses.fields(RuntimeConfig)} | {"model_dir"}
    names |= {field.name for field in dataclasses.fields(DataConfig)}
    names |= {"config_file", "num_columns"}
    given = dict(text.removeprefix("--").split("=") for text in arguments)
    assert set(given) <= names
    own = {field.name for field in dataclasses.fields(RuntimeConfig)} & set(given)
    numbers = {"worker_timeout"}
    RuntimeConfig(
        **{name: float(given[name]) if name in numbers else given[name] for name in own}
    ).check(num_columns=2)


def test_kubernetes_trains_by_the_variables_of_a_pod():
    (worker,) = documents()[1]["spec"]["template"]["spec"]["containers"]
    assert worker["command"] == ["alexnet-train"]
    assert "--launcher=kubernetes" in worker["args"]
    assert [variable["name"] for variable in worker["env"]] == ["WORKERS"]
    check_flags(worker["args"])


@pytest.mark.slow
def test_kubernetes_trains(machine, tmp_path):
    hosts = "127.0.0.1:27200,127.0.0.1:27201"
    flags = ["--launcher=kubernetes", f"--worker_hosts={hosts}", *NET]
    pods = [
        subprocess.Popen(
            [sys.executable, "-c", POD, *flags, f"--model_dir={tmp_path / 'run'}"],
            env=os.environ | {"WORKERS": "2", "JOB_COMPLETION_INDEX": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [pod.communicate(timeout=600) for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0], outputs
    assert checkpoints.read(checkpoints.latest(tmp_path / "run")).step == 3


RAY = (JOBS / "ray_train.py").read_text()


def test_ray_runs_a_program_of_25_lines():
    assert len(RAY.splitlines()) <= 25
    settings = next(
        ast.literal_eval(node.value)
        for node in ast.parse(RAY).body
        if isinstance(node, ast.Assign)
    )
    strategy = {"distribution_strategy": "multi_worker_mirrored"}
    assert config_of(settings | strategy).model.num_columns == 2


RAY_STEPS = 60


def ray_program(folder: pathlib.Path) -> subprocess.Popen:
    """The file, with another run and without GPUs; each worker notes its process."""
    settings = {name: value or True for name, _, value in map(split_flag, NET)}
    settings |= {"train_steps": RAY_STEPS, "checkpoint_steps": 2, "steps_per_loop": 2}
    settings |= {"batch_size": 4, "num_gpus": 0, "worker_timeout": 60}
    note = f"import os; open(f'{folder}.{{os.getpid()}}', 'w').close(); "
    text = re.sub(r"SETTINGS = .*", f"SETTINGS = {settings!r}", RAY, count=1)
    text = text.replace("/shared/runs/paper", str(folder))
    gpus = '{"use_gpu": True, "resources_per_worker": {"GPU": 2}}'
    assert gpus in text
    text = text.replace(gpus, "{}")
    text = text.replace("    train(settings", f"    {note}train(settings")
    return subprocess.Popen(
        [sys.executable, "-c", text],
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        stdout=folder.with_suffix(".log").open("w"),
        stderr=subprocess.STDOUT,
    )


def split_flag(text: str) -> tuple[str, str, str]:
    return text.removeprefix("--").partition("=")


@pytest.mark.slow
def test_ray_trains_and_resumes_after_a_worker_was_killed(tmp_path):
    pytest.importorskip("ray.train")
    with ray_program(tmp_path / "whole") as program:
        assert program.wait(600) == 0
    wanted = checkpoints.read(checkpoints.latest(tmp_path / "whole"))
    assert wanted.step == RAY_STEPS
    folder = tmp_path / "killed"
    with ray_program(folder) as program:
        while not (folder / "ckpt-4.index").exists():
            assert program.poll() is None
            time.sleep(0.05)
        pids = [int(path.suffix[1:]) for path in tmp_path.glob("killed.[0-9]*")]
        assert len(pids) == 2
        os.kill(pids[0], signal.SIGKILL)
        assert program.wait(600) == 0
    # Started anew, and not from the start; Ray has the line of the worker left over.
    log = folder.with_suffix(".log").read_text()
    assert "perhaps killed; start all workers again" in log
    assert len([*tmp_path.glob("killed.[0-9]*")]) > 2
    found = checkpoints.read(checkpoints.latest(folder))
    assert found.step == RAY_STEPS
    for name, array in wanted.weights.items():
        np.testing.assert_array_equal(found.weights[name], array)
