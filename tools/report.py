r"""Draws what runs have written: learning curves, and the pictures of TensorBoard.

  python tools/report.py --runs=paper=runs/paper,source=runs/source \
      --output_dir=docs/results/imagenette

Writes curves.png (loss and top-1 of all runs), and for each run NAME its metrics
(NAME.metrics.jsonl), its last picture of conv1's kernels (NAME.conv1_kernels.png) and,
with --input_images, its first input images (NAME.input_images.png). Needs matplotlib:
pip install 'official-alexnet[plots]'.
"""

import io
import json
import pathlib

from absl import flags

from official.alexnet import cli
from official.alexnet.errors import UserError

RUNS = flags.DEFINE_list("runs", None, "name=model_dir of each run.", required=True)
INPUT_IMAGES = flags.DEFINE_bool(
    "input_images", False, "Write the first input images as well: yours to publish?"
)
OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where to write.", required=True)
COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red")


def main() -> dict:
    output_dir = pathlib.Path(OUTPUT_DIR.value)
    output_dir.mkdir(parents=True, exist_ok=True)
    runs = {}
    for item in RUNS.value:
        name, _, folder = item.partition("=")
        metrics = pathlib.Path(folder) / "metrics.jsonl"
        if not metrics.is_file():
            raise UserError(f"--runs={item}: {metrics} does not exist")
        text = metrics.read_text("utf-8")
        (output_dir / f"{name}.metrics.jsonl").write_text(text, "utf-8")
        runs[name] = [json.loads(line) for line in text.splitlines()]
        _copy_pictures(pathlib.Path(folder), output_dir, name)
    _draw_curves(runs, output_dir / "curves.png")
    return {"written": sorted(str(path) for path in output_dir.iterdir())}


def _draw_curves(runs: dict[str, list[dict]], path: pathlib.Path) -> None:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            "curves need matplotlib: pip install 'official-alexnet[plots]'"
        ) from error
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, key, title in zip(
        panels, ("loss", "accuracy"), ("cross-entropy (nats)", "top-1 (%)"), strict=True
    ):
        factor = 100 if key == "accuracy" else 1
        for color, (name, rows) in zip(COLORS, runs.items(), strict=False):
            for split, style in (("train", "-"), ("validation", "o--")):
                points = [
                    (row["step"], factor * row[key])
                    for row in rows
                    if row["split"] == split
                ]
                if points:
                    panel.plot(
                        *zip(*points, strict=True),
                        style,
                        color=color,
                        label=f"{name}, {split}",
                        markersize=4,
                        linewidth=1.2,
                    )
        panel.set(xlabel="step", title=title)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=100)


def _copy_pictures(folder: pathlib.Path, output_dir: pathlib.Path, name: str) -> None:
    """Takes conv1's last kernels and the first inputs out of the event files."""
    import tensorflow as tf  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    found: dict[str, list[tuple[int, list[bytes]]]] = {}
    for path in sorted((folder / "train").glob("events*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "images":
                    # The first two strings are width and height.
                    images = list(value.tensor.string_val)[2:]
                    found.setdefault(value.tag, []).append((event.step, images))
    kernels = max(found["conv1_kernels"], key=lambda item: item[0])[1]
    (output_dir / f"{name}.conv1_kernels.png").write_bytes(kernels[0])
    if not INPUT_IMAGES.value:
        return
    inputs = min(found["input_images"], key=lambda item: item[0])[1]
    pictures = [Image.open(io.BytesIO(image)).resize((112, 112)) for image in inputs]
    row = Image.new("RGB", (114 * len(pictures), 112), "white")
    for i, picture in enumerate(pictures):
        row.paste(picture, (114 * i, 0))
    row.save(output_dir / f"{name}.input_images.png", optimize=True)


if __name__ == "__main__":
    cli.run("report.py", main)
