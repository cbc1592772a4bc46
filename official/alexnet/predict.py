"""Labels photographs with an exported AlexNet.

Examples:
  alexnet-predict --export_dir=exported --images=cat.jpg,dog.png
  alexnet-predict --export_dir=exported --images='photos/*.jpg' --top=3
"""

import pathlib

from absl import flags

from official.alexnet import cli


def main() -> dict:
    cli.start_tensorflow()
    from official.alexnet.serving.prediction import predict  # noqa: PLC0415

    values = flags.FLAGS
    images = [str(pathlib.Path(name).expanduser()) for name in values.images]
    return predict(cli.path("export_dir"), images, values.top, values.batch_size)


def run() -> None:
    """Entry point of `alexnet-predict`."""
    flags.DEFINE_string("export_dir", None, "What alexnet-export wrote.", required=True)
    flags.DEFINE_list(
        "images",
        None,
        "JPEG or PNG files, directories of them, or patterns in quotes.",
        required=True,
    )
    flags.DEFINE_integer("top", 5, "Labels to show for each image.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 32, "Images a call.", lower_bound=1)
    cli.run("alexnet-predict", main)


if __name__ == "__main__":
    run()
