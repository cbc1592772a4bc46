"""Labels photographs with an exported AlexNet.

Examples:
  alexnet-predict --export_dir=exported --images=cat.jpg,dog.png
  alexnet-predict --export_dir=exported --images='photos/*.jpg' --top=3
"""

from absl import flags

from official.alexnet import cli

EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "What alexnet-export wrote.", required=True
)
IMAGES = flags.DEFINE_list(
    "images",
    None,
    "JPEG or PNG files, directories of them, or patterns in quotes.",
    required=True,
)
TOP = flags.DEFINE_integer("top", 5, "Labels to show for each image.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images a call.", lower_bound=1)


def main() -> dict:
    from official.alexnet.serving.prediction import predict  # noqa: PLC0415

    return predict(EXPORT_DIR.value, IMAGES.value, TOP.value, BATCH_SIZE.value)


def run() -> None:
    """Entry point of `alexnet-predict`."""
    cli.run("alexnet-predict", main)


if __name__ == "__main__":
    run()
