"""Labels photographs with an exported AlexNet.

Examples:
  alexnet-predict --export_dir=exported --images=cat.jpg,dog.png
  alexnet-predict --export_dir=exported --images='photos/*.jpg' --top=3
  alexnet-predict --export_dir=exported --images=photos --output_file=answers.csv
  alexnet-predict --export_dir=exported --images=photos --features=fc7 \\
      --output_file=features.npz

A picture that cannot be read is named, and the others are labelled. The status is 2
where none was.
A picture is taken as it is stored: turn a phone's photograph upright first, with
PIL.ImageOps.exif_transpose. EXIF's orientation is not read.
"""

import pathlib

from absl import flags

from official.alexnet import cli
from official.alexnet.data import image_files
from official.alexnet.errors import UserError
from official.alexnet.serving import feature_files


def main() -> dict:
    values = flags.FLAGS
    features = values.features
    output_file = _output_file(features)
    export_dir = cli.path("export_dir", of_checkpoints=True)
    images = image_files.split(values.images)
    if not images:
        raise UserError("--images is empty; see alexnet-predict --help")
    cli.start_tensorflow()
    from official.alexnet.serving.prediction import extract, predict  # noqa: PLC0415

    if features:
        return extract(export_dir, images, features, values.batch_size, output_file)
    return predict(export_dir, images, values.top, values.batch_size, output_file)


def _output_file(features: list[str]) -> str | None:
    value = cli.path("output_file")
    if features and value is None:
        raise UserError("--features needs --output_file, such as features.npz")
    if not features and value and value.endswith(feature_files.ENDINGS):
        raise UserError(f"--output_file={value} needs --features, such as fc7")
    endings = feature_files.ENDINGS if features else (".jsonl", ".csv")
    value = cli.new_file("output_file", *endings)
    if features:
        feature_files.check(pathlib.Path(value))
    return value


def run() -> None:
    """Entry point of `alexnet-predict`."""
    flags.DEFINE_string("export_dir", None, "What alexnet-export wrote.", required=True)
    # A shell makes several flags of --images={a,b}.jpg.
    flags.DEFINE_multi_string(
        "images",
        None,
        "JPEG or PNG files, directories of them, or patterns in quotes, with commas "
        "between them.",
        required=True,
    )
    flags.DEFINE_string(
        "output_file",
        None,
        "New .jsonl or .csv file for the answers, a line an image, for any number of "
        "them; with --features, .npz or .parquet. Default: all are printed.",
    )
    flags.DEFINE_list(
        "features",
        [],
        "Layers whose outputs to write to --output_file in place of labels: fc7, or "
        "those of alexnet-export --features.",
    )
    flags.DEFINE_integer("top", 5, "Labels to show for each image.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 32, "Images a call.", lower_bound=1)
    cli.run("alexnet-predict", main)


if __name__ == "__main__":
    run()
