r"""Draws what a net has learned: Figures 3 and 4 of the paper, and learning curves.

  python tools/visualize.py --model_dir=runs/paper --output_dir=pictures
  python tools/visualize.py --model_dir=runs/paper --output_dir=pictures \
      --what=predictions --images='photos/*.jpg' --top=5
  python tools/visualize.py --model_dir=exported --output_dir=pictures \
      --what=kernels,neighbors --data_dir=imagenet
  python tools/visualize.py --runs=paper=runs/paper,source=runs/source \
      --output_dir=pictures

--what names the pictures, each a PNG of that name in --output_dir:

  kernels      the first layer's kernels, column by column (Figure 3), and how
               colourful each column is
  predictions  photographs with their most probable labels (Figure 4, left)
  neighbors    photographs with the training images whose fc7 features are nearest
               (Figure 4, right)
  curves       loss, top-1 and top-5 of one run or several, from metrics.jsonl

Photographs are those of --images, labelled by the names of their folders, or
validation images. All but the kernels need matplotlib:
pip install 'official-alexnet[plots]'. The last line on stdout is one JSON object with
the numbers behind the pictures. TensorBoard shows them: tensorboard --logdir=pictures
"""

import pathlib

from absl import flags

from official.alexnet import cli, paths, run_files
from official.alexnet.data import image_files
from official.alexnet.errors import UserError, check_known

FLAGS = flags.FLAGS
PICTURES = ("kernels", "predictions", "neighbors", "curves")
# Flags that only some of them read.
READ_BY = {
    **dict.fromkeys(("images", "num_images"), ("predictions", "neighbors")),
    **dict.fromkeys(("search_images", "num_neighbors"), ("neighbors",)),
    "top": ("predictions",),
}
SETTINGS = "data_dir tfds_name statistics batch_size eval_crops dtype"


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    text = "Directory of a run, or of what alexnet-export wrote."
    flags.DEFINE_string("model_dir", None, text)
    text = "Such as MODEL_DIR/ckpt-1000. Default: the latest in --model_dir."
    flags.DEFINE_string("checkpoint_path", None, text)
    text = "name=model_dir of each run whose curves to draw. Default: --model_dir."
    flags.DEFINE_list("runs", None, text)
    flags.DEFINE_string("output_dir", None, "Where to write.", required=True)
    text = f"Pictures, out of {', '.join(PICTURES)}. Default: kernels and curves."
    flags.DEFINE_list("what", None, text)
    flags.DEFINE_multi_string(
        "images",
        None,
        "JPEG or PNG files, directories of them, or patterns in quotes, with commas "
        "between them. Default: validation images.",
    )
    text = "Images to search, named as --images. Default: the training images."
    flags.DEFINE_multi_string("search_images", None, text)
    flags.DEFINE_integer(
        "num_images",
        None,
        "Photographs to draw, spread evenly over the images. Default: as in the "
        "paper, 8 for predictions and 5 for neighbors.",
        lower_bound=1,
    )
    flags.DEFINE_integer("top", 5, "Labels a photograph.", lower_bound=1)
    flags.DEFINE_integer("num_neighbors", 6, "Neighbours a photograph.", lower_bound=1)
    cli.define_config_flags(SETTINGS.split())


def main() -> dict:
    """Draws; returns the numbers to print."""
    what, model_dir, runs = _what(), cli.path("model_dir"), _runs()
    config = None
    if set(what) != {"curves"}:
        config = run_files.load_config(model_dir)
        config = cli.config_from_flags(config, reads_data=False)
    cli.start_tensorflow()
    from visualizing import (  # noqa: PLC0415
        curves,
        drawing,
        kernels,
        neighbors,
        photographs,
        predictions,
        trained,
    )

    results = {"written": []}
    if set(what) != {"kernels"}:
        drawing.new_figure(1, 1)  # Where matplotlib is missing: before the work.
    if config:
        net = trained.find(config, model_dir, cli.path("checkpoint_path"))
        results |= {"source": net.source, "step": net.step}
    if "curves" in what:
        histories = [curves.read(name, folder) for name, folder in runs.items()]
    output_dir = pathlib.Path(cli.path("output_dir"))
    output_dir.mkdir(parents=True, exist_ok=True)

    def images(flag: str, split: str) -> photographs.Images:
        names = image_files.split(FLAGS[flag].value or [])
        return photographs.find(net, names, flag, split)

    for name in what:
        step = net.step if config else 0
        if name == "kernels":
            pixels, numbers = kernels.picture(net)
        elif name == "predictions":
            shown = images("images", "validation").spread(FLAGS.num_images or 8)
            pixels, numbers = predictions.picture(net, shown, FLAGS.top)
        elif name == "neighbors":
            shown = images("images", "validation").spread(FLAGS.num_images or 5)
            searched = images("search_images", "train")
            pixels, numbers = neighbors.picture(
                net, shown, searched, FLAGS.num_neighbors
            )
        else:
            pixels, numbers = curves.picture(histories)
            step = max(history.rows[-1]["step"] for history in histories)
        drawing.write(name, pixels, output_dir, step)
        results["written"].append(str(output_dir / f"{name}.png"))
        results[name] = numbers
    return results


def _what() -> list[str]:
    """The pictures to draw; each has what it needs, and each flag is read."""
    if not FLAGS.model_dir and not FLAGS.runs:
        raise UserError("name a net with --model_dir, or --runs")
    what = FLAGS.what
    if what is None:
        own = pathlib.Path(cli.path("model_dir") or "") / run_files.METRICS_FILE
        has_curves = FLAGS.runs or own.is_file()  # An export has none.
        what = ["kernels"] * bool(FLAGS.model_dir) + ["curves"] * bool(has_curves)
    if not what:
        raise UserError(f"--what is empty: name some of {', '.join(PICTURES)}")
    for flag, readers in READ_BY.items():
        if FLAGS[flag].present and not {*readers} & {*what}:
            raise UserError(f"--{flag} is for --what={' or '.join(readers)}")
    for name in what:
        check_known(name, PICTURES, "--what: no picture is called")
        if name != "curves" and not FLAGS.model_dir:
            raise UserError(f"--what={name} needs --model_dir")
    return list(dict.fromkeys(what))


def _runs() -> dict[str, str]:
    """The directories of --runs=name=model_dir,... by name; else --model_dir's."""
    runs = {}
    for item in FLAGS.runs or []:
        name, equals, folder = item.partition("=")
        if not (name and equals and folder):
            raise UserError(f"--runs={item}: should be name=model_dir")
        if name in runs:
            raise UserError(f"--runs: two runs are called {name}")
        runs[name] = str(paths.local(folder, "--runs"))
    model_dir = cli.path("model_dir")
    return runs or {pathlib.Path(model_dir).absolute().name: model_dir}


if __name__ == "__main__":
    define_flags()
    cli.run("visualize.py", main)
