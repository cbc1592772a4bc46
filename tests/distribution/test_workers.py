"""Training by several processes: as one, and after one of them was killed."""

import dataclasses
import json
import pathlib
import signal
import sys

import numpy as np
import pytest
from links import Link, needs_machines, two_machines
from worker_processes import ended, free_hosts, started, tf_environments

from official.alexnet.config import Config, RuntimeConfig
from official.alexnet.distribution.strategy import place
from official.alexnet.training import checkpoints
from official.alexnet.training.preemption import EXIT_STATUS
from official.alexnet.training.trainer import train

FED_WORKER = pathlib.Path(__file__).parent / "fed_worker.py"
LOST = 69
SECONDS = 900  # On a busy machine.


def of_workers(config: Config, columns: int, **train) -> Config:
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_columns=columns),
        train=dataclasses.replace(config.train, **train),
        runtime=RuntimeConfig(
            "multi_worker_mirrored", logical_cpus=columns, num_gpus=0
        ),
    )


def workers(
    config: Config,
    folders: list[pathlib.Path],
    flags: list[list[str]] | None = None,
    chief: bool = False,
    link: Link | None = None,
):
    """Starts a worker for each model_dir, by TF_CONFIG; perhaps with more flags."""
    hosts = free_hosts(len(folders))
    if link:
        hosts = [f"{host}:2222" for host in link.hosts]
    file = folders[0].parent / f"settings-{hosts[0].partition(':')[2]}.yaml"
    file.write_text(config.to_yaml())
    commands = [
        [
            *(link.prefixes[index] if link else ()),
            *(sys.executable, "-m", "official.alexnet.train"),
            *(f"--config_file={file}", f"--model_dir={folder}"),
            *(flags[index] if flags else []),
        ]
        for index, folder in enumerate(folders)
    ]
    return started(commands, environments=tf_environments(hosts, chief))


def finish(processes) -> list[str]:
    outputs = [ended(process, SECONDS) for process in processes]
    for status, stderr in outputs:
        assert status == 0, stderr
    return [stderr for _, stderr in outputs]


def one_process(config: Config, folder: pathlib.Path) -> checkpoints.Contents:
    placement = place(RuntimeConfig(num_gpus=0), 1)
    train(config, str(folder), placement=placement)
    return checkpoints.read(checkpoints.latest(folder))


def assert_close(found: checkpoints.Contents, wanted: checkpoints.Contents) -> None:
    assert found.step == wanted.step
    for name, array in wanted.weights.items():
        np.testing.assert_allclose(found.weights[name], array, atol=1e-5)
        np.testing.assert_allclose(
            found.velocity[name], wanted.velocity[name], atol=1e-5
        )
        # The steps go further than the tolerance, or this would say nothing.
        assert np.abs(wanted.velocity[name]).max() > 1e-4, name


def assert_same_bits(found: checkpoints.Contents, wanted: checkpoints.Contents):
    assert found.step == wanted.step
    for kind in ("weights", "velocity", "dropout"):
        for name, array in getattr(wanted, kind).items():
            np.testing.assert_array_equal(getattr(found, kind)[name], array)
    assert found.progress == wanted.progress


@pytest.mark.slow
@pytest.mark.reliability
def test_two_processes_are_as_one_and_only_the_chief_writes(tiny_config, tmp_path):
    """By TF_CONFIG, one column each; each process has a model_dir of its own."""
    wanted = one_process(tiny_config, tmp_path / "one")
    folders = [tmp_path / "chief", tmp_path / "other"]
    with workers(of_workers(tiny_config, 1), folders) as processes:
        finish(processes)
    assert_close(checkpoints.read(checkpoints.latest(folders[0])), wanted)
    written = {path.name.partition(".")[0] for path in folders[0].iterdir()}
    assert written >= {"checkpoint", "ckpt-5", "metrics", "params", "statistics"}
    assert not folders[1].exists()
    # The other does not find the checkpoint that the chief goes on from.
    with workers(of_workers(tiny_config, 1, train_steps=6), folders) as processes:
        for process in processes:
            status, stderr = ended(process, SECONDS)
            assert status == 2, stderr
            line = stderr.splitlines()[-1]
            assert line.startswith("alexnet-train: worker 1 (127.0.0.1:")
            assert "has --model_dir without a checkpoint, worker 0" in line
            assert "at step 5" in line
    assert not folders[1].exists()
    assert checkpoints.read(checkpoints.latest(folders[0])).step == 5


def test_a_chief_and_workers_are_fed_each_example_once():
    """Kubeflow and Vertex AI count workers from 0, beside the chief."""
    environments = tf_environments(free_hosts(2), chief=True)
    commands = [[sys.executable, str(FED_WORKER)]] * 2
    with started(commands, environments=environments) as processes:
        outputs = [process.communicate(timeout=SECONDS) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    # The chief's share of a batch comes first; once without GPUs and once with them.
    wanted = [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]
    assert [json.loads(stdout) for stdout, _ in outputs] == [w * 2 for w in wanted]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "columns"), [(2, 1), (3, 1), (2, 2)])
def test_a_chief_and_workers_are_as_one_process(tiny_config, tmp_path, count, columns):
    """Both the chief and the first worker are task 0 of their kind."""
    settings = of_workers(
        tiny_config, columns, batch_size=6 * count, train_steps=8, skip_eval=False
    )
    alone = dataclasses.replace(
        settings, model=tiny_config.model, runtime=tiny_config.runtime
    )
    wanted = one_process(alone, tmp_path / "one")
    folder = tmp_path / "run"
    with workers(settings, [folder] * count, chief=True) as processes:
        finish(processes)
    found = checkpoints.read(checkpoints.latest(folder))
    assert_close(found, wanted)
    # Each of the 13 validation images counts once, too.
    assert json.loads(found.progress)["best"] == pytest.approx(
        json.loads(wanted.progress)["best"], abs=1e-4
    )


@pytest.mark.slow
def test_workers_of_other_settings_do_not_start(tiny_config, tmp_path):
    folders = [tmp_path / "run"] * 2
    seeds = [["--seed=3"], ["--seed=4"]]
    with workers(of_workers(tiny_config, 1), folders, flags=seeds) as processes:
        for process in processes:
            status, stderr = ended(process, SECONDS)
            assert status == 2, stderr
            line = stderr.splitlines()[-1]
            assert "has --seed 4, worker 0" in line
    assert not folders[0].exists()


@pytest.mark.slow
@needs_machines
@pytest.mark.parametrize(("delay", "loss"), [(0.0, 0.0), (0.05, 0.01)])
def test_two_machines_are_as_one_process(tiny_config, tmp_path, delay, loss):
    """The delay is that of each way; of the packets of each way some are lost."""
    wanted = one_process(tiny_config, tmp_path / "one")
    folders, settings = [tmp_path / "run"] * 2, of_workers(tiny_config, 1)
    with two_machines() as link:
        link.delay, link.loss = delay, loss
        with workers(settings, folders, link=link) as processes:
            finish(processes)
    assert_close(checkpoints.read(checkpoints.latest(folders[0])), wanted)


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.parametrize("columns", [1, 2])
def test_four_processes_are_as_one(tiny_config, tmp_path, columns):
    wanted = one_process(tiny_config, tmp_path / "one")
    with workers(of_workers(tiny_config, columns), [tmp_path / "run"] * 4) as processes:
        finish(processes)
    assert_close(checkpoints.read(checkpoints.latest(tmp_path / "run")), wanted)


@pytest.mark.slow
@pytest.mark.reliability
def test_a_signal_to_one_worker_ends_all_saved(tiny_config, tmp_path):
    settings = of_workers(tiny_config, 1, train_steps=100_000, log_steps=3)
    folder = tmp_path / "run"
    with workers(settings, [folder] * 2) as processes:
        for line in processes[0].stderr:
            if "step 6/" in line:
                break
        processes[1].send_signal(signal.SIGTERM)
        outputs = [ended(process, 60) for process in processes]
    step = checkpoints.read(checkpoints.latest(folder)).step
    for status, stderr in outputs:
        assert status == EXIT_STATUS, stderr
        assert f"after step {step}, which is saved" in stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.parametrize(("columns", "victims"), [(1, (1, 0)), (2, (1,))])
def test_a_run_goes_on_to_the_same_bits_after_a_worker_was_killed(
    tiny_config, tmp_path, columns, victims
):
    """Killed one after the other, and all started again; steps in many epochs."""
    settings = of_workers(
        tiny_config,
        columns,
        train_steps=30,
        skip_eval=False,
        epochs_between_evals=1,
        checkpoint_steps=4,
        log_steps=3,
        steps_per_loop=2,
    )
    with workers(settings, [tmp_path / "never"] * 2) as processes:
        finish(processes)
    wanted = checkpoints.read(checkpoints.latest(tmp_path / "never"))
    folder = tmp_path / "killed"
    reached = 0
    for victim in victims:
        with workers(settings, [folder] * 2) as processes:
            # stderr of the chief tells of each checkpoint.
            for line in processes[0].stderr:
                if "Saved" in line and int(line.rpartition("-")[2]) > reached:
                    break
            processes[victim].kill()
            status, stderr = ended(processes[1 - victim], 30)
            assert status == LOST, stderr
            last = stderr.splitlines()[-1]
            assert last.startswith(f"alexnet: worker {victim} (127.0.0.1:")
            assert "start all workers again" in last
        reached = checkpoints.read(checkpoints.latest(folder)).step
        assert 0 < reached < 30
    with workers(settings, [folder] * 2) as processes:
        finish(processes)
    assert_same_bits(checkpoints.read(checkpoints.latest(folder)), wanted)
    metrics = [
        [
            {k: v for k, v in json.loads(line).items() if k != "images_per_second"}
            for line in (run / "metrics.jsonl").read_text().splitlines()
        ]
        for run in (folder, tmp_path / "never")
    ]
    assert metrics[0] == metrics[1]
