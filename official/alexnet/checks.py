"""Rules between settings, one function a section; each raises a one-line UserError.

`config.check` applies them all.
"""

from __future__ import annotations

import typing

from official.alexnet.errors import UserError
from official.alexnet.modeling.variants import find_variant

if typing.TYPE_CHECKING:
    from official.alexnet.config import (
        DataConfig,
        ModelConfig,
        RuntimeConfig,
        TrainConfig,
    )


def check_net(model: ModelConfig) -> None:
    """The net can be built."""
    columns = find_variant(model.variant).num_columns
    if model.num_columns not in (1, columns):
        raise UserError(
            f"--num_columns={model.num_columns}: the variant {model.variant} takes "
            + ("1 only" if columns == 1 else f"1 or {columns}")
        )
    if not 63 <= model.input_size <= 256:
        raise UserError(
            f"--input_size should be 63 to 256 (the images are 256 x 256), not "
            f"{model.input_size}"
        )
    if not 0 <= model.dropout < 1:
        raise UserError(f"--dropout should be in [0, 1), not {model.dropout}")


def check_data(data: DataConfig) -> None:
    """There is one source of images."""
    named = data.data_dir is not None or data.tfds_name is not None
    if not named and not data.use_synthetic_data:
        raise UserError("no data: give --data_dir, --tfds_name or --use_synthetic_data")
    if named and data.use_synthetic_data:
        raise UserError(
            "--use_synthetic_data would leave --data_dir and --tfds_name unread: give "
            "one or the other (--nouse_synthetic_data)"
        )
    if data.tfds_download and data.tfds_name is None:
        raise UserError("--tfds_download needs --tfds_name, such as imagenet2012")


def check_schedule(train: TrainConfig) -> None:
    """The loop's settings go together."""
    if train.eval_crops not in (1, 10):
        raise UserError(f"--eval_crops should be 1 or 10, not {train.eval_crops}")
    if train.schedule == "steps" and not train.learning_rate_steps:
        raise UserError("--schedule=steps needs --learning_rate_steps, in epochs")
    if train.schedule == "plateau" and train.skip_eval:
        raise UserError(
            "--schedule=plateau follows the validation error: it cannot go with "
            "--skip_eval; use --schedule=constant or steps"
        )
    first, last = train.profile_steps if len(train.profile_steps) == 2 else (0, 1)
    if len(train.profile_steps) not in (0, 2) or not 0 <= first < last:
        raise UserError("--profile_steps takes the first and last step, such as 10,12")


def check_machine(runtime: RuntimeConfig, num_columns: int) -> None:
    """The strategy's settings go together."""
    if runtime.enable_xla and num_columns > 1:
        raise UserError(
            "--enable_xla drops device names, and with them the columns: use it with "
            "--num_columns=1"
        )
    if runtime.enable_xla and "mirrored" in runtime.distribution_strategy:
        raise UserError(
            "--enable_xla works on one replica: use --distribution_strategy=off or "
            "one_device"
        )
    if runtime.num_gpus and runtime.logical_cpus is not None:
        raise UserError(
            "--num_gpus and --logical_cpus cannot go together: give one (a "
            "--config_file's is taken back with "
            "--params_override=runtime.logical_cpus=null)"
        )
    workers = runtime.distribution_strategy == "multi_worker_mirrored"
    if runtime.worker_hosts is not None and not workers:
        raise UserError(
            "--worker_hosts needs --distribution_strategy=multi_worker_mirrored"
        )
    if runtime.task_index and runtime.worker_hosts is None:
        raise UserError("--task_index needs --worker_hosts; TF_CONFIG has its own")
