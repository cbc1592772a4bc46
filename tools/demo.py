r"""The whole road in minutes: archives, records, training, evaluation, a served net.

  python tools/demo.py --output_dir=demo

Draws a small ImageNet in the layout of the real archives, prepares it, trains the
two-column network on logical CPU devices, evaluates it with one crop and with ten,
exports it, and has a fresh process label pictures with the SavedModel. Each step is a
command that is printed as it is run. Every file goes below --output_dir, which should
be new or an earlier demo's; an earlier one is gone on with.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import time

from absl import flags

from official.alexnet import cli
from official.alexnet.errors import UserError

flags.DEFINE_string("output_dir", "demo", "Where all files go.")
TRAIN_STEPS = flags.DEFINE_integer(
    "train_steps", None, "Steps of training. Default: those of the demo's YAML."
)
TOOLS = pathlib.Path(__file__).parent


def main() -> dict:
    started = time.perf_counter()
    root = pathlib.Path(cli.path("output_dir", of_checkpoints=True))
    archives, data, run = root / "archives", root / "data", root / "run"
    exported, pictures = root / "exported", root / "pictures"
    if not archives.exists():
        _tool("make_sample_imagenet.py", f"--output_dir={archives}")
    _tool(
        "prepare_imagenet.py",
        f"--input_dir={archives}",
        f"--output_dir={data}",
        "--train_shards=4",
        "--validation_shards=2",
    )
    steps = [f"--train_steps={TRAIN_STEPS.value}"] if TRAIN_STEPS.value else []
    trained = _binary(
        "train",
        "--config_file=demo",
        f"--data_dir={data}",
        f"--model_dir={run}",
        *steps,
    )
    one = _binary("eval", f"--model_dir={run}", "--eval_crops=1")
    ten = _binary("eval", f"--model_dir={run}", "--eval_crops=10")
    shutil.rmtree(exported, ignore_errors=True)  # Of fewer steps, it may be.
    _binary("export", f"--model_dir={run}", f"--export_dir={exported}")
    _unpack(archives / "ILSVRC2012_img_val.tar", pictures, count=3)
    predicted = _binary(
        "predict", f"--export_dir={exported}", f"--images={pictures}", "--top=3"
    )
    _print_table(trained, one, ten, predicted, time.perf_counter() - started)
    print(f"\nTensorBoard: {_tensorboard()} --logdir={run}\n")
    return {
        "accuracy": one["accuracy"],
        "ten_crop_accuracy": ten["accuracy"],
        "top_5_accuracy": one["top_5_accuracy"],
        "num_examples": one["num_examples"],
        "steps": trained["step"],
        "seconds": round(time.perf_counter() - started, 1),
    }


def _tool(script: str, *arguments: str) -> dict:
    return _run([str(TOOLS / script), *arguments])


def _binary(name: str, *arguments: str) -> dict:
    return _run(["-m", f"official.alexnet.{name}", *arguments])


def _run(arguments: list[str]) -> dict:
    """Runs a command, showing what it prints; returns its last line's JSON."""
    print("\n$ python", " ".join(arguments), flush=True)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    last = ""
    for line in process.stdout:
        last = line
        if not line.startswith("{"):
            print(line, end="", flush=True)
    if process.wait() != 0:
        raise UserError(f"python {' '.join(arguments)} failed; see above")
    return json.loads(last)


def _unpack(archive: pathlib.Path, folder: pathlib.Path, count: int) -> None:
    """Takes a few validation pictures out of their tar."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.isfile()]
        for member in members[:count]:
            content = tar.extractfile(member).read()
            (folder / pathlib.Path(member.name).name).write_bytes(content)


def _print_table(
    trained: dict, one: dict, ten: dict, predicted: dict, seconds: float
) -> None:
    first = predicted["predictions"][0]
    best = first["labels"][0]
    rows = {
        "steps of training": trained["step"],
        "unseen images": one["num_examples"],
        "top-1, centre crop": f"{100 * one['accuracy']:.1f} %",
        "top-1, ten crops": f"{100 * ten['accuracy']:.1f} %",
        "top-5, centre crop": f"{100 * one['top_5_accuracy']:.1f} %",
        pathlib.Path(first["image"]).name: (
            f"{best['label']} ({100 * best['probability']:.1f} %)"
        ),
        "minutes": f"{seconds / 60:.1f}",
    }
    width = max(map(len, rows))
    print()
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value}")


def _tensorboard() -> str:
    beside = pathlib.Path(sys.executable).with_name("tensorboard")
    return os.path.relpath(beside) if beside.exists() else "tensorboard"


if __name__ == "__main__":
    cli.run("demo.py", main)
