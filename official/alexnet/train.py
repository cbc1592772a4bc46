"""Trains AlexNet.

Examples:
  alexnet-train --config_file=paper --data_dir=imagenet --model_dir=runs/paper \\
      --distribution_strategy=one_device --num_columns=2 --num_gpus=2
  alexnet-train --use_synthetic_data --model_dir=runs/try --train_steps=20 \\
      --num_columns=2 --logical_cpus=2 --batch_size=16

A run that is started again with the same --model_dir resumes at its latest
checkpoint; the log names the settings that are other than before. SIGTERM and Ctrl-C:
the step under way is finished and saved, and the exit status is 75; a second signal
stops at once. Watch a run with:
tensorboard --logdir=runs/paper
"""

from absl import flags

from official.alexnet import cli, library


def main() -> dict:
    config = cli.config_from_flags()
    model_dir = cli.path("model_dir", of_checkpoints=True)
    clean = flags.FLAGS.clean
    start = cli.start_tensorflow
    return library.run_training(config, model_dir, clean, signals=True, start=start)


def run() -> None:
    """Entry point of `alexnet-train`."""
    flags.DEFINE_string(
        "model_dir", None, "Where checkpoints and logs go.", required=True
    )
    flags.DEFINE_bool(
        "clean", False, "Delete an earlier run in --model_dir and start anew."
    )
    cli.define_config_flags()
    cli.run("alexnet-train", main)


if __name__ == "__main__":
    run()
