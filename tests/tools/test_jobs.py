"""The job files, as far as a machine without Slurm and Kubernetes can run them.

Slurm's commands are stand-ins: `srun` starts the tasks as processes of this machine.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

from official.alexnet.training import checkpoints

JOBS = pathlib.Path(__file__).parents[2] / "tools" / "jobs"

SRUN = """#!/bin/bash
pids=()
for i in $(seq 0 $((SLURM_JOB_NUM_NODES - 1))); do
    SLURM_NODEID=$i SLURM_PROCID=$i "$@" &
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
if [ "$1" = requeue ]; then
    echo "requeue $2" >> "$SLURM_DIR/asked"
else
    [ "$1 $2" = "show hostnames" ] || exit 1
    echo "$3" | tr , '\\n'
fi
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
# Pods' names are known in their cluster only.
REAL = f"""#!/bin/bash
args=("${{@//alexnet-[0-9].alexnet/127.0.0.1}}")
exec {sys.executable} -m official.alexnet.train "${{args[@]}}"
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


def slurm(count: int, port: int = 27000, restarts: int = 0) -> dict[str, str]:
    names = ["127.0.0.1", "localhost", "127.0.0.2", "127.0.0.3"]
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": ",".join(names[:count]),
        "SLURM_JOB_NUM_NODES": str(count),
        "SLURM_RESTART_COUNT": str(restarts),
        "ALEXNET_PORT": str(port),
    }


def sbatch(*flags: str) -> list[str]:
    return ["bash", str(JOBS / "train.sbatch"), *flags]


def asked(folder: pathlib.Path) -> list[str]:
    file = folder / "asked"
    return file.read_text().splitlines() if file.exists() else []


def test_sbatch_gives_each_node_its_place(machine, tmp_path):
    flags = ["--config_file=paper", "--model_dir=/with a space"]
    run = subprocess.run(sbatch(*flags), env=machine(TOLD, **slurm(3)), check=False)
    assert run.returncode == 0
    hosts = "127.0.0.1:27000,localhost:27001,127.0.0.2:27002"
    assert sorted((tmp_path / "called").read_text().splitlines()) == [
        f"--config_file=paper --model_dir=/with a space "
        f"--distribution_strategy=multi_worker_mirrored --worker_hosts={hosts} "
        f"--task_index={index}"
        for index in range(3)
    ]
    assert asked(tmp_path) == []


def test_sbatch_on_one_node_needs_no_hosts(machine, tmp_path):
    run = subprocess.run(sbatch("--seed=1"), env=machine(TOLD, **slurm(1)), check=False)
    assert run.returncode == 0
    called = (tmp_path / "called").read_text()
    assert called == "--seed=1 --distribution_strategy=mirrored\n"


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
    environment = machine(REAL, **slurm(2, port=27100))
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


def pod_command(flags: list[str] | None = None) -> list[str]:
    (worker,) = documents()[1]["spec"]["template"]["spec"]["containers"]
    script, name, *own = worker["args"]
    return [*worker["command"], script, name, *(own if flags is None else flags)]


def test_kubernetes_gives_each_pod_its_place(machine, tmp_path):
    environment = machine(TOLD, WORKERS="3", JOB_COMPLETION_INDEX="2")
    subprocess.run(pod_command(), env=environment, check=True)
    hosts = ",".join(f"alexnet-{i}.alexnet:{2222 + i}" for i in range(3))
    called = (tmp_path / "called").read_text()
    assert re.match("--config_file=paper --data_dir=/shared/imagenet ", called)
    assert called.endswith(f"--worker_hosts={hosts} --task_index=2\n")


@pytest.mark.slow
def test_kubernetes_trains(machine, tmp_path):
    pods = [
        subprocess.Popen(
            pod_command([*NET, f"--model_dir={tmp_path / 'run'}"]),
            env=machine(REAL, WORKERS="2", JOB_COMPLETION_INDEX=str(index)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [pod.communicate(timeout=600) for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0], outputs
    assert checkpoints.read(checkpoints.latest(tmp_path / "run")).step == 3
