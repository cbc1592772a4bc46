"""Evaluates a trained AlexNet: top-1 and top-5, with one crop or with ten.

Examples:
  alexnet-eval --model_dir=runs/paper --eval_crops=10
  alexnet-eval --model_dir=runs/paper --data_dir=imagenet \\
      --checkpoint_path=runs/paper/ckpt-1000

The settings are those of the run (its params.yaml); flags replace them. The net is
evaluated on one device, grouped, unless the flags say otherwise.
"""

from absl import flags

from official.alexnet import cli

MODEL_DIR = flags.DEFINE_string(
    "model_dir", None, "Directory of the run.", required=True
)
CHECKPOINT_PATH = flags.DEFINE_string(
    "checkpoint_path", None, "Such as MODEL_DIR/ckpt-1000; the latest by default."
)
SETTINGS = (
    "variant num_classes num_columns width input_size data_dir tfds_name "
    "tfds_download statistics use_synthetic_data input_scale batch_size eval_crops "
    "distribution_strategy num_gpus logical_cpus worker_hosts task_index dtype "
    "run_eagerly"
)


def main() -> dict:
    from official.alexnet.training.evaluation import evaluate_run  # noqa: PLC0415
    from official.alexnet.training.run import load_config  # noqa: PLC0415

    config = cli.config_from_flags(load_config(MODEL_DIR.value))
    return evaluate_run(config, MODEL_DIR.value, CHECKPOINT_PATH.value)


def run() -> None:
    """Entry point of `alexnet-eval`."""
    cli.define_config_flags(SETTINGS.split())
    cli.run("alexnet-eval", main)


if __name__ == "__main__":
    run()
