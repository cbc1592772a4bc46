"""Trains on N machines under Ray Train: python tools/jobs/ray_train.py

Change: the settings, by the names of the flags, `model_dir`, which all workers see, and
their number.
"""

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer

SETTINGS = {"config_file": "paper", "data_dir": "/shared/imagenet", "num_columns": 2}
GPUS = {"use_gpu": True, "resources_per_worker": {"GPU": 2}}


def work(settings: dict) -> None:
    from official.alexnet import train  # noqa: PLC0415

    train(settings, "/shared/runs/paper")


TensorflowTrainer(
    work,
    train_loop_config=SETTINGS | {"distribution_strategy": "multi_worker_mirrored"},
    scaling_config=ScalingConfig(num_workers=2, **GPUS),
    run_config=RunConfig(failure_config=FailureConfig(max_failures=20)),
).fit()
