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

from official.alexnet.training.preemption import Preemption


def run() -> None:
    """Entry point of `alexnet-train`."""
    # First of all: a signal may come while the rest is imported.
    with Preemption("alexnet-train") as preemption:
        from absl import flags  # noqa: PLC0415

        from official.alexnet import cli, library  # noqa: PLC0415

        def main() -> dict:
            config = cli.config_from_flags()
            model_dir = cli.path("model_dir", of_checkpoints=True)
            clean = flags.FLAGS.clean
            done = library.other_task(config, model_dir, cli.start_tensorflow, clean)
            if done is not None:
                return done
            cli.start_tensorflow()
            preemption.check()
            from official.alexnet.training.trainer import train  # noqa: PLC0415

            with library.saying_how_to_resume(clean):
                return train(config, model_dir, clean=clean, preemption=preemption)

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
