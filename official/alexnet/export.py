"""Exports a trained AlexNet as SavedModel and .keras file.

Example:
  alexnet-export --model_dir=runs/paper --export_dir=exported

The SavedModel needs TensorFlow alone. Its signatures: serving_default (JPEG or PNG
bytes to probabilities, logits, classes), image_tensor (uint8 RGB of any size to the
same) and features (bytes to the 4096 activations of fc7). Beside it stand
alexnet.keras, labels.txt, statistics.npz (the mean image) and params.yaml.
"""

from absl import flags

from official.alexnet import cli, run_files

SETTINGS = ("variant", "num_classes", "width", "input_size", "input_scale")


def main() -> dict:
    model_dir, checkpoint_path = cli.path("model_dir"), cli.path("checkpoint_path")
    config = cli.config_from_flags(run_files.load_config(model_dir))
    cli.start_tensorflow()
    from official.alexnet.serving.export import export  # noqa: PLC0415

    return export(
        config,
        model_dir,
        cli.path("export_dir"),
        checkpoint_path,
        portable=flags.FLAGS.portable,
    )


def run() -> None:
    """Entry point of `alexnet-export`."""
    flags.DEFINE_string("model_dir", None, "Directory of the run.", required=True)
    flags.DEFINE_string(
        "export_dir", None, "Where to write; a new directory.", required=True
    )
    flags.DEFINE_string(
        "checkpoint_path",
        None,
        "Such as MODEL_DIR/ckpt-1000. Default: the latest in --model_dir.",
    )
    flags.DEFINE_bool(
        "portable",
        True,
        "A SavedModel in ops that any TensorFlow runs. --noportable: in the forms that "
        "are fastest here, which need XLA (TensorFlow's Python packages have it) and, "
        "on a CPU, oneDNN.",
    )
    cli.define_config_flags(SETTINGS)
    cli.run("alexnet-export", main)


if __name__ == "__main__":
    run()
