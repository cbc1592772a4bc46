"""Exports a trained AlexNet as SavedModel and .keras file.

Example:
  alexnet-export --model_dir=runs/paper --export_dir=exported

The SavedModel needs TensorFlow alone. Its signatures: serving_default (JPEG or PNG
bytes to probabilities, logits, classes), image_tensor (uint8 RGB of any size to the
same) and features (bytes to the 4096 activations of fc7). Beside it stand
alexnet.keras, labels.txt, statistics.npz (the mean image) and params.yaml.
"""

from absl import flags

from official.alexnet import cli

MODEL_DIR = flags.DEFINE_string(
    "model_dir", None, "Directory of the run.", required=True
)
EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "Where to write; a new directory.", required=True
)
CHECKPOINT_PATH = flags.DEFINE_string(
    "checkpoint_path", None, "Such as MODEL_DIR/ckpt-1000; the latest by default."
)
SETTINGS = ("variant", "num_classes", "width", "input_size", "input_scale")


def main() -> dict:
    from official.alexnet.serving.export import export  # noqa: PLC0415
    from official.alexnet.training.run import load_config  # noqa: PLC0415

    config = cli.config_from_flags(load_config(MODEL_DIR.value))
    return export(config, MODEL_DIR.value, EXPORT_DIR.value, CHECKPOINT_PATH.value)


def run() -> None:
    """Entry point of `alexnet-export`."""
    cli.define_config_flags(SETTINGS)
    cli.run("alexnet-export", main)


if __name__ == "__main__":
    run()
