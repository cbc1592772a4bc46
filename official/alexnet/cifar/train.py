"""Trains the CIFAR-10 nets of the paper's sections 3.1 and 3.3.

Examples, Figure 1 and the comparison of section 3.3:
  python -m official.alexnet.cifar.train --data_dir=cifar10 --model_dir=runs/relu \\
      --net=cifar_19pct --noaugment --noweight_decay --stop_train_error=0.25
  python -m official.alexnet.cifar.train --data_dir=cifar10 --model_dir=runs/lrn \\
      --net=cifar_11pct --train_epochs=30 --learning_rate_steps=24,28

A run that is started again with the same --model_dir goes on from its latest
checkpoint, four of which are written in an epoch. Watch it with:
tensorboard --logdir=runs
"""

import dataclasses
import pathlib

from absl import flags

from official.alexnet import cli
from official.alexnet.errors import UserError

FLAGS = flags.FLAGS


def main() -> dict:
    model_dir = pathlib.Path(cli.path("model_dir", of_checkpoints=True))
    if model_dir.exists() and not model_dir.is_dir():
        raise UserError(f"--model_dir={model_dir} is a file: name a directory")
    cli.start_tensorflow()
    from official.alexnet.cifar import data, trainer  # noqa: PLC0415
    from official.alexnet.cifar.settings import Settings  # noqa: PLC0415

    names = [field.name for field in dataclasses.fields(Settings)]
    values = {name: FLAGS[name].value for name in names}
    values["learning_rate_steps"] = tuple(map(_epoch, values["learning_rate_steps"]))
    settings = Settings(**values)
    settings.check()
    cifar10 = data.read(cli.path("data_dir"), FLAGS.tfds_name)
    return trainer.train(settings, cifar10, str(model_dir), clean=FLAGS.clean)


def _epoch(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--learning_rate_steps: {text!r} is not a number") from None


def run() -> None:
    """Entry point of the command."""
    flags.DEFINE_string(
        "data_dir",
        None,
        "Directory of CIFAR-10's binary version (data_batch_1.bin ... test_batch.bin, "
        "or the cifar-10-batches-bin that holds them), or TFDS's with --tfds_name.",
    )
    flags.DEFINE_string(
        "tfds_name", None, "Read what TFDS has prepared under this name: cifar10."
    )
    flags.DEFINE_string(
        "model_dir", None, "Where checkpoints and logs go.", required=True
    )
    flags.DEFINE_bool(
        "clean", False, "Delete an earlier run in --model_dir and start anew."
    )
    flags.DEFINE_string(
        "net", "cifar_19pct", "The net: cifar_19pct, cifar_13pct or cifar_11pct."
    )
    flags.DEFINE_enum(
        "activation", None, ["relu", "tanh"], "Nonlinearity. Default: the net's, relu."
    )
    flags.DEFINE_bool(
        "lrn", None, "LRN after the first two layers. Default: as the net has it."
    )
    flags.DEFINE_integer(
        "input_size", None, "Side of the input in pixels. Default: the net's."
    )
    flags.DEFINE_bool("weight_decay", True, "The weight decay of the net's layers.")
    flags.DEFINE_bool("augment", True, "Random crops and flips.")
    flags.DEFINE_float("learning_rate", 0.001, "Initial learning rate of kernels.")
    flags.DEFINE_list(
        "learning_rate_steps",
        [],
        "Epochs at which it is divided by 10; biases' is not.",
    )
    flags.DEFINE_float(
        "bias_learning_rate", 2.0, "The biases', as a multiple of --learning_rate."
    )
    flags.DEFINE_float("momentum", 0.9, "Momentum.")
    flags.DEFINE_integer("batch_size", 128, "Images a step.")
    flags.DEFINE_float("train_epochs", 30.0, "Epochs to train.")
    flags.DEFINE_float(
        "stop_train_error",
        None,
        "Stop when the training error, running over the last epoch, is not above this.",
    )
    flags.DEFINE_bool(
        "eval_training_set", True, "At the end, measure its error with the final net."
    )
    flags.DEFINE_integer("seed", 0, "Of initial weights, order, crops and flips.")
    cli.run("official.alexnet.cifar.train", main)


if __name__ == "__main__":
    run()
