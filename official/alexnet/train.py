"""Trains AlexNet.

Examples:
  alexnet-train --config_file=paper --data_dir=imagenet --model_dir=runs/paper \\
      --distribution_strategy=one_device --num_columns=2 --num_gpus=2
  alexnet-train --use_synthetic_data --model_dir=runs/try --train_steps=20 \\
      --num_columns=2 --logical_cpus=2 --batch_size=16

A run that is started again with the same --model_dir goes on from its latest
checkpoint. Watch it with: tensorboard --logdir=runs/paper
"""

from absl import flags

from official.alexnet import cli

MODEL_DIR = flags.DEFINE_string(
    "model_dir", None, "Where checkpoints and logs go.", required=True
)
CLEAN = flags.DEFINE_bool(
    "clean", False, "Delete an earlier run in --model_dir and start anew."
)


def main() -> dict:
    # TensorFlow takes seconds to import: not before the flags are known to be right.
    from official.alexnet.training.trainer import train  # noqa: PLC0415

    config = cli.config_from_flags()
    return train(config, MODEL_DIR.value, clean=CLEAN.value)


def run() -> None:
    """Entry point of `alexnet-train`."""
    cli.define_config_flags()
    cli.run("alexnet-train", main)


if __name__ == "__main__":
    run()
