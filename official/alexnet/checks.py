"""Rules between settings, one function a section; each raises a one-line UserError.

`config.check` applies them all.
"""

from __future__ import annotations

import typing

from official.alexnet.errors import UserError
from official.alexnet.training.schedules import LayerRate

if typing.TYPE_CHECKING:
    from official.alexnet.config import (
        DataConfig,
        ModelConfig,
        RuntimeConfig,
        TrainConfig,
    )


def check_net(model: ModelConfig) -> None:
    """The net can be built."""
    columns = model.net().num_columns
    if model.num_columns not in (1, columns):
        raise UserError(
            f"--num_columns={model.num_columns}: the variant {model.variant} takes "
            + ("1 only" if columns == 1 else f"1 or {columns}")
        )
    if model.image_size > 256:
        raise UserError(
            f"--input_size should be at most 256 (the images are 256 x 256), not "
            f"{model.image_size}"
        )


def check_data(data: DataConfig, needed: bool) -> None:
    """There is one source of images, or none where none is needed."""
    named = data.data_dir is not None or data.tfds_name is not None
    if needed and not named and not data.use_synthetic_data:
        raise UserError("no data: give --data_dir, --tfds_name or --use_synthetic_data")
    if named and data.use_synthetic_data:
        raise UserError(
            "--use_synthetic_data would leave --data_dir and --tfds_name unread: give "
            "one or the other (--nouse_synthetic_data)"
        )
    if data.tfds_download and data.tfds_name is None:
        raise UserError("--tfds_download needs --tfds_name, such as imagenet2012")


def check_loop(train: TrainConfig) -> None:
    """The loop's settings go together."""
    if train.eval_crops not in (1, 10):
        raise UserError(f"--eval_crops should be 1 or 10, not {train.eval_crops}")
    if train.schedule == "plateau" and train.skip_eval:
        raise UserError(
            "--schedule=plateau follows the validation error: it cannot go with "
            "--skip_eval; use --schedule=constant or steps"
        )
    first, last = train.profile_steps if len(train.profile_steps) == 2 else (0, 1)
    if len(train.profile_steps) not in (0, 2) or not 0 <= first < last:
        raise UserError("--profile_steps takes the first and last step, such as 10,12")


def check_schedule(train: TrainConfig) -> None:
    """The learning rates are known at every step."""
    if train.schedule == "steps" and not train.learning_rate_steps:
        raise UserError("--schedule=steps needs --learning_rate_steps, in epochs")
    if train.bias_schedule == "steps" and not train.bias_learning_rate_steps:
        raise UserError(
            "--bias_schedule=steps needs --bias_learning_rate_steps, in epochs"
        )
    for name in ("learning_rate_steps", "bias_learning_rate_steps"):
        epochs = getattr(train, name)
        if list(epochs) != sorted({*epochs}) or min(epochs, default=0) < 0:
            raise UserError(
                f"--{name} should be epochs in rising order, not {_list(epochs)}"
            )
    rates, epochs = train.learning_rates, train.learning_rate_steps
    if rates and (len(rates) != len(epochs) or min(rates) <= 0):
        raise UserError(
            f"--learning_rates={_list(rates)} should be a number above 0 for each of "
            f"--learning_rate_steps={_list(epochs)}"
        )
    for name in ("dexp", "bias_dexp"):
        values = getattr(train, name)
        factor, levels = values if len(values) == 2 else (0, 0)
        if factor <= 0 or levels < 2 or levels % 1:
            raise UserError(
                f"--{name} takes a factor and a number of levels, 2 or more, such as "
                f"250,4, not {_list(values)}"
            )


def check_layers(train: TrainConfig) -> None:
    """It is clear how each layer starts and how fast it learns."""
    for text in train.layer_learning_rates:
        try:
            layer = LayerRate.parse(text).name.partition("/")[0]
        except ValueError:
            raise UserError(
                f"--layer_learning_rates: {text!r} should read LAYER=MULTIPLE or "
                "LAYER=MULTIPLE@EPOCH, with numbers of 0 or more"
            ) from None
        if layer in train.freeze_layers:
            raise UserError(
                f"--layer_learning_rates={text}, but --freeze_layers names {layer} "
                "too: give one of the two"
            )
    if train.init_layers and train.init_from is None:
        raise UserError("--init_layers needs --init_from, which it takes layers of")


def _list(values: tuple) -> str:
    return ",".join(f"{value:g}" for value in values)


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
