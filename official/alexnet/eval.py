"""Evaluates a trained AlexNet: top-1 and top-5, with one crop or with ten.

Examples:
  alexnet-eval --model_dir=runs/paper --eval_crops=10
  alexnet-eval --model_dir=runs/paper --data_dir=imagenet \\
      --checkpoint_path=runs/paper/ckpt-1000

The settings are those of the run (its params.yaml); flags replace them. The net is
evaluated on one device, grouped, unless the flags say otherwise.
"""

from absl import flags

from official.alexnet import cli, run_files

SETTINGS = (
    "variant num_classes num_columns width input_size data_dir tfds_name "
    "tfds_download statistics use_synthetic_data input_scale batch_size eval_crops "
    "distribution_strategy num_gpus logical_cpus worker_hosts task_index dtype"
)


def main() -> dict:
    model_dir, checkpoint_path = cli.path("model_dir"), cli.path("checkpoint_path")
    config = cli.config_from_flags(run_files.load_config(model_dir))
    cli.start_tensorflow()
    from official.alexnet.training.evaluation import evaluate_run  # noqa: PLC0415

    return evaluate_run(config, model_dir, checkpoint_path)


def run() -> None:
    """Entry point of `alexnet-eval`."""
    flags.DEFINE_string("model_dir", None, "Directory of the run.", required=True)
    flags.DEFINE_string(
        "checkpoint_path",
        None,
        "Such as MODEL_DIR/ckpt-1000. Default: the latest in --model_dir.",
    )
    cli.define_config_flags(SETTINGS.split())
    cli.run("alexnet-eval", main)


if __name__ == "__main__":
    run()
