"""Exports a trained AlexNet as SavedModel, .keras file, ONNX and LiteRT.

Example:
  alexnet-export --model_dir=runs/paper --export_dir=exported \\
      --formats=saved_model,keras,onnx,litert
  alexnet-export --model_dir=runs/paper --export_dir=exported --features=pool5,fc6

- saved_model: saved_model/ needs TensorFlow alone. Its signatures: serving_default
  (JPEG or PNG bytes to probabilities, logits, classes), image_tensor (uint8 RGB of
  any size to the same) and features (bytes to the 4096 activations of fc7, and to those
  of the layers that --features names). A picture is taken as it is stored: turn a
  phone's photograph upright first, with PIL.ImageOps.exif_transpose. EXIF's orientation
  is not read.
- keras: alexnet.keras, the bare net, for pixels minus the mean image, scaled.
- onnx, litert: alexnet.onnx and alexnet.tflite, from images (uint8 RGB of the net's
  input size; the mean image is inside) to probabilities and logits.

Beside them stand labels.txt, statistics.npz (the mean image) and params.yaml.
"""

from absl import flags

from official.alexnet import cli, run_files
from official.alexnet.serving import formats as formats_lib

SETTINGS = ("variant", "num_classes", "width", "input_size", "input_scale")


def main() -> dict:
    values = flags.FLAGS
    formats_lib.check_formats(
        values.formats, values.litert_quantization, values.features
    )
    model_dir = cli.path("model_dir", of_checkpoints=True)
    checkpoint_path = cli.path("checkpoint_path", of_checkpoints=True)
    export_dir = cli.path("export_dir", of_checkpoints="saved_model" in values.formats)
    config = cli.config_from_flags(run_files.load_config(model_dir), reads_data=False)
    cli.start_tensorflow()
    from official.alexnet.serving.export import export  # noqa: PLC0415

    return export(
        config,
        model_dir,
        export_dir,
        checkpoint_path,
        formats=values.formats,
        litert_quantization=values.litert_quantization,
        portable=values.portable,
        features=values.features,
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
    flags.DEFINE_list(
        "formats",
        list(formats_lib.DEFAULT),
        f"What to write, out of {', '.join(formats_lib.FILES)}; onnx needs the "
        "package onnx.",
    )
    flags.DEFINE_list(
        "features",
        [],
        "Layers whose outputs the signature `features` of the SavedModel gives by "
        "name, such as pool5,fc6: those of conv1 to fc7 after their nonlinearity.",
    )
    flags.DEFINE_enum(
        "litert_quantization",
        "none",
        ["none", "dynamic_range"],
        "dynamic_range: weights of the LiteRT file in 8 bits, a quarter of its size.",
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
