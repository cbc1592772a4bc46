"""The job files of preparation, their tasks at once as processes of this machine."""

import os
import subprocess
import sys

import pytest
import yaml
from imagenet_inputs import ROOT, environment, files_of

JOBS = ROOT / "tools" / "jobs"
SHARDS = ("--train_shards=5", "--validation_shards=2")


@pytest.fixture
def start(tmp_path):
    """Starts a command in which `python` is this one."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    started = []

    def process(command, **variables) -> subprocess.Popen:
        started.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment() | {"PATH": path} | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield process
    for each in started:
        each.kill()


def check(processes) -> None:
    for process in processes:
        stderr = process.communicate(timeout=120)[1]
        assert process.returncode == 0, stderr


def test_slurm_prepares(start, tree, whole, tmp_path):
    output = tmp_path / "out"
    flags = [f"--input_dir={tree}", f"--output_dir={output}", *SHARDS]
    command = ["bash", str(JOBS / "prepare.sbatch"), *flags]
    array = {"SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1"}
    array["SLURM_CPUS_PER_TASK"] = "1"
    check([start(command, SLURM_ARRAY_TASK_ID=str(i), **array) for i in (1, 2, 3)])
    assert sorted(files_of(output)) == sorted(name for name in whole if "-of-" in name)
    check([start(command, SLURM_CPUS_PER_TASK="1")])
    assert files_of(output) == whole


def test_kubernetes_prepares(start, tree, whole, tmp_path):
    output = tmp_path / "out"
    tasks, last = yaml.safe_load((JOBS / "prepare.yaml").read_text())["items"]
    assert last["spec"]["suspend"] is True
    assert last["spec"]["template"] == tasks["spec"]["template"]
    (container,) = tasks["spec"]["template"]["spec"]["containers"]
    (variable,) = container["env"]
    count = int(variable["value"])
    spec = tasks["spec"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", count)
    assert spec["parallelism"] == count
    (rule, _) = spec["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    places = {"/shared/archives": str(tree), "/shared/imagenet": str(output)}
    flags = [flag.partition("=")[::2] for flag in container["args"]]
    flags = [f"{name}={places.get(value, 1)}" for name, value in flags]
    command = [*container["command"], *flags, *SHARDS]
    names = [{"JOB_COMPLETION_INDEX": str(index)} for index in range(count)]
    check([start(command, TASKS=str(count), **name) for name in names])
    assert sorted(files_of(output)) == sorted(name for name in whole if "-of-" in name)
    check([start(command, TASKS=str(count))])
    assert files_of(output) == whole
