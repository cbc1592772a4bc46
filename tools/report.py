r"""Collects what runs have written, for a page of results.

  python tools/report.py --runs=paper=runs/paper,source=runs/source \
      --output_dir=docs/results/imagenette

Writes curves.png (loss, top-1 and top-5 of all runs), and for each run NAME its metrics
(NAME.metrics.jsonl), the first layer's kernels in its latest checkpoint
(NAME.conv1_kernels.png) and, with --input_images, its first input images
(NAME.input_images.png). The pictures are those of tools/visualize.py. Needs matplotlib:
pip install 'official-alexnet[plots]'.
"""

import io
import json
import pathlib

from absl import flags

from official.alexnet import cli, run_files
from official.alexnet.errors import UserError


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    flags.DEFINE_list("runs", None, "name=model_dir of each run.", required=True)
    flags.DEFINE_bool(
        "input_images", False, "Write the first input images as well: yours to publish?"
    )
    flags.DEFINE_string("output_dir", None, "Where to write.", required=True)


def main() -> dict:
    """Writes; returns what was written."""
    from visualizing import curves, drawing  # noqa: PLC0415

    runs = curves.parse_runs(flags.FLAGS.runs)
    histories = [curves.read(name, folder) for name, folder in runs.items()]
    cli.start_tensorflow()
    output_dir = pathlib.Path(cli.path("output_dir"))
    output_dir.mkdir(parents=True, exist_ok=True)
    for history, (name, folder) in zip(histories, runs.items(), strict=True):
        lines = "".join(json.dumps(row) + "\n" for row in history.rows)
        (output_dir / f"{name}.{run_files.METRICS_FILE}").write_text(lines, "utf-8")
        layer, picture = _kernels(folder)
        drawing.write_png(picture, output_dir / f"{name}.{layer}_kernels.png")
        if flags.FLAGS.input_images:
            _write_inputs(pathlib.Path(folder), output_dir / f"{name}.input_images.png")
    picture = drawing.pixels_of(curves.draw(histories))
    drawing.write_png(picture, output_dir / "curves.png")
    return {"written": sorted(str(path) for path in output_dir.iterdir())}


def _kernels(folder: str):
    from visualizing import kernels, trained  # noqa: PLC0415

    net = trained.from_run(run_files.load_config(folder), folder, None, None)
    layer, columns = kernels.first_kernels(net)
    return layer, kernels.draw(columns, "each")


def _write_inputs(folder: pathlib.Path, path: pathlib.Path) -> None:
    """Takes the first inputs out of the event files of training."""
    import tensorflow as tf  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    found = []
    for file in sorted((folder / "train").glob("events*")):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.tag == "input_images":
                    # The first two strings are width and height.
                    found.append((event.step, list(value.tensor.string_val)[2:]))
    if not found:
        raise UserError(f"{folder / 'train'} holds no event file with input images")
    images = min(found, key=lambda item: item[0])[1]
    pictures = [Image.open(io.BytesIO(image)).resize((112, 112)) for image in images]
    row = Image.new("RGB", (114 * len(pictures), 112), "white")
    for i, picture in enumerate(pictures):
        row.paste(picture, (114 * i, 0))
    row.save(path, optimize=True)


if __name__ == "__main__":
    define_flags()
    cli.run("report.py", main)
