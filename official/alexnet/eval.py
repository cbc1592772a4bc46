"""Evaluates trained AlexNets: top-1 and top-5, with one crop or with ten.

Examples:
  alexnet-eval --model_dir=runs/paper --eval_crops=10
  alexnet-eval --model_dir=runs/paper --data_dir=imagenet \\
      --checkpoint_path=runs/paper/ckpt-1000
  alexnet-eval --model_dir=runs/a,runs/b,runs/c --ensemble_weights=0.5,0.3,0.2 \\
      --eval_crops=10
  alexnet-eval --model_dir=runs/paper --follow

The settings are those of the run (its params.yaml); flags replace them, but for those
that say what net and input the weights are for. The net is evaluated on one device,
grouped, unless the flags say otherwise. Of several runs the
probabilities are averaged; each has its own net, statistics and input scale. --follow
runs beside the training, and writes to evaluation/ in the run's directory.
"""

import contextlib
import math
import pathlib

from absl import flags

from official.alexnet import cli, library, paths, run_files
from official.alexnet.distribution import launcher
from official.alexnet.errors import UserError

NET_SETTINGS = "variant num_classes width input_size statistics input_scale"
SETTINGS = (
    f"{NET_SETTINGS} num_columns data_dir tfds_name tfds_download "
    "use_synthetic_data label_base batch_size eval_crops "
    "distribution_strategy launcher num_gpus logical_gpus gpu_memory_mb logical_cpus "
    "worker_hosts worker_port task_index worker_timeout dtype"
)


def main() -> dict:
    file = cli.new_file("predictions_file", ".csv")
    folders = _paths("model_dir")
    if flags.FLAGS.follow:
        return _follow(folders)
    checkpoints = _paths("checkpoint_path") or [None] * len(folders)
    if len(checkpoints) != len(folders):
        raise UserError(
            f"--checkpoint_path names {len(checkpoints)} checkpoint(s), --model_dir "
            f"{len(folders)} run(s): give one for each"
        )
    given = [name for name in NET_SETTINGS.split() if flags.FLAGS[name].present]
    if len(folders) > 1 and given:
        raise UserError(
            f"--{given[0]} cannot be given with several runs: each has its own"
        )
    weights = _weights(len(folders))
    configs = [
        cli.config_from_flags(run_files.load_config(folder)) for folder in folders
    ]
    cli.start_tensorflow()
    from official.alexnet.training import evaluation  # noqa: PLC0415

    if len(folders) == 1:
        return evaluation.evaluate_run(configs[0], folders[0], checkpoints[0], file)
    runs = zip(configs, folders, checkpoints, weights, strict=True)
    return evaluation.evaluate_runs([evaluation.Run(*run) for run in runs], file)


def _follow(folders: list[str]) -> dict:
    values = flags.FLAGS
    others = values["checkpoint_path"].value or values["predictions_file"].value
    if len(folders) > 1 or others:
        raise UserError(
            "--follow takes one --model_dir, and neither --checkpoint_path nor "
            "--predictions_file"
        )
    run_files.wait_for(folders[0], values.timeout)
    config = cli.config_from_flags(run_files.load_config(folders[0]))
    if launcher.find(config.runtime, trains=False).cluster:
        raise UserError("--follow is for one process: leave the other workers out")
    cli.start_tensorflow()
    from official.alexnet.training.following import follow  # noqa: PLC0415

    return follow(config, folders[0], values.timeout)


def _paths(flag: str) -> list[str]:
    """Paths with commas between them; one path may hold a comma itself."""
    value = cli.path(flag)
    if value is None:
        return []
    is_one = any(pathlib.Path(f"{value}{end}").exists() for end in ("", ".index"))
    parts = [value] if is_one else value.split(",")
    if not all(parts):
        raise UserError(f"--{flag}={value} has an empty path between its commas")
    return [str(paths.of_checkpoints(part, f"--{flag}")) for part in parts]


def _weights(count: int) -> list[float]:
    texts = flags.FLAGS["ensemble_weights"].value
    if not texts:
        return [1.0] * count
    with contextlib.suppress(ValueError):
        weights = list(map(float, texts))
        fits = all(0 <= weight < math.inf for weight in weights) and sum(weights) > 0
        if len(weights) == count and fits:
            return weights
    raise UserError(
        f"--ensemble_weights={','.join(texts)} should be a number of 0 or more for "
        f"each of the {count} run(s), not all 0"
    )


def run() -> None:
    """Entry point of `alexnet-eval`."""
    flags.DEFINE_string(
        "model_dir",
        None,
        "Directory of the run; of several, with commas, the average is evaluated.",
        required=True,
    )
    flags.DEFINE_string(
        "checkpoint_path",
        None,
        "Such as MODEL_DIR/ckpt-1000, one for each of --model_dir. Default: the "
        "latest in each.",
    )
    flags.DEFINE_list(
        "ensemble_weights",
        None,
        "Weight of each of --model_dir in the average; they need not add up to 1. "
        "Default: all the same.",
    )
    flags.DEFINE_string(
        "predictions_file",
        None,
        "New .csv file: a line an image, with its name, its label and the five most "
        "probable classes. Default: none.",
    )
    flags.DEFINE_bool(
        "follow",
        False,
        "Evaluate each checkpoint as it appears, until the run is complete.",
    )
    flags.DEFINE_float(
        "timeout",
        library.FOLLOW_SECONDS,
        "Seconds without a new checkpoint after which --follow ends.",
        lower_bound=0,
    )
    cli.define_config_flags(SETTINGS.split())
    cli.run("alexnet-eval", main)


if __name__ == "__main__":
    run()
