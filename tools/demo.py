r"""The whole road in minutes: archives, records, training, evaluation, a served net.

  python tools/demo.py --output_dir=demo

Draws a small ImageNet in the layout of the real archives, prepares it, trains the
two-column network on logical CPU devices, evaluates it with one crop and with ten,
exports it, and has a fresh process label pictures with the SavedModel. Each step is a
command that is printed when it starts. Every file goes below --output_dir, which should
be new or an earlier demo's; an earlier one is resumed.
"""

import itertools
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
FIRST_CLASS = b"n90000012 "  # Of those that make_sample_imagenet.py draws.


def main() -> dict:
    started = time.perf_counter()
    root = pathlib.Path(cli.path("output_dir", of_checkpoints=True))
    names = ("archives", "data", "run", "exported", "pictures")
    archives, data, run, exported, pictures = (root / name for name in names)
    words = archives / "synset_words.txt"
    lists = [path for path in (words, data / "labels.txt") if path.is_file()]
    are_ours = all(path.read_bytes().startswith(FIRST_CLASS) for path in lists)
    is_drawn = words.is_file() and are_ours
    has_others = any(root.joinpath(name).exists() for name in names)
    if has_others and not (lists and are_ours):
        raise UserError(f"--output_dir={root} holds what is no demo's: name a new one")
    if not is_drawn:
        drawn = root / "archives.tmp"  # Where it may be stopped half-way.
        shutil.rmtree(drawn, ignore_errors=True)
        _call("make_sample_imagenet.py", output_dir=drawn)
        drawn.rename(archives)
    shards = {"train_shards": 4, "validation_shards": 2}
    _call("prepare_imagenet.py", input_dir=archives, output_dir=data, **shards)
    steps = {"train_steps": TRAIN_STEPS.value} if TRAIN_STEPS.value else {}
    trained = _call("train", config_file="demo", data_dir=data, model_dir=run, **steps)
    one = _call("eval", model_dir=run, eval_crops=1)
    ten = _call("eval", model_dir=run, eval_crops=10)
    shutil.rmtree(exported, ignore_errors=True)  # It may be of fewer steps.
    _call("export", model_dir=run, export_dir=exported)
    pictures.mkdir(exist_ok=True)
    with tarfile.open(archives / "ILSVRC2012_img_val.tar") as tar:
        for member in itertools.islice(filter(tarfile.TarInfo.isfile, tar), 3):
            content = tar.extractfile(member).read()
            (pictures / pathlib.Path(member.name).name).write_bytes(content)
    predicted = _call("predict", export_dir=exported, images=pictures, top=3)

    first = predicted["predictions"][0]
    best = first["labels"][0]
    seconds = time.perf_counter() - started
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
    print("", *(f"  {name:<{width}}  {rows[name]}" for name in rows), sep="\n")
    tensorboard = pathlib.Path(sys.executable).with_name("tensorboard")
    shown = os.path.relpath(tensorboard) if tensorboard.exists() else tensorboard.name
    print(f"\nTensorBoard: {shown} --logdir={run}\n")
    return {
        "accuracy": one["accuracy"],
        "ten_crop_accuracy": ten["accuracy"],
        "top_5_accuracy": one["top_5_accuracy"],
        "num_examples": one["num_examples"],
        "steps": trained["step"],
        "seconds": round(seconds, 1),
    }


def _call(program: str, **settings) -> dict:
    """Starts a tool or binary, showing what it prints; returns its last line's JSON."""
    is_tool = program.endswith(".py")
    start = [str(TOOLS / program)] if is_tool else ["-m", f"official.alexnet.{program}"]
    command = [*start, *(f"--{name}={value}" for name, value in settings.items())]
    print("\n$ python", *command, flush=True)
    process = subprocess.Popen(
        [sys.executable, *command],
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
        raise UserError(f"python {' '.join(command)} failed; see above")
    return json.loads(last)


if __name__ == "__main__":
    cli.run("demo.py", main)
