r"""Draws what a net has learned: Figures 3 and 4 of the paper, and learning curves.

  python tools/visualize.py --model_dir=runs/paper --output_dir=pictures
  python tools/visualize.py --model_dir=runs/paper --output_dir=pictures \
      --what=predictions --images='photos/*.jpg' --top=5
  python tools/visualize.py --export_dir=exported --output_dir=pictures \
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
validation images. The pictures are written for TensorBoard as well. All but the kernels
need matplotlib: pip install 'official-alexnet[plots]'. The last line on stdout is one
JSON object with the numbers behind the pictures.
"""

import difflib
import pathlib

from absl import flags
from visualizing.curves import parse_runs

from official.alexnet import cli, run_files
from official.alexnet.config import Config
from official.alexnet.data import image_files
from official.alexnet.errors import UserError

PICTURES = ("kernels", "predictions", "neighbors", "curves")
SETTINGS = "data_dir tfds_name statistics batch_size eval_crops dtype"


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    flags.DEFINE_string("model_dir", None, "Directory of the run.")
    flags.DEFINE_string(
        "export_dir", None, "What alexnet-export wrote, in place of --model_dir."
    )
    flags.DEFINE_string(
        "checkpoint_path",
        None,
        "Such as MODEL_DIR/ckpt-1000. Default: the latest in --model_dir.",
    )
    flags.DEFINE_list(
        "runs",
        None,
        "name=model_dir of each run whose curves to draw. Default: --model_dir.",
    )
    flags.DEFINE_string("output_dir", None, "Where to write.", required=True)
    flags.DEFINE_list(
        "what",
        None,
        f"Pictures, out of {', '.join(PICTURES)}. Default: those that need no images.",
    )
    flags.DEFINE_string(
        "logdir",
        None,
        "Where TensorBoard's copies go. Default: MODEL_DIR/pictures; without a "
        "--model_dir OUTPUT_DIR/tensorboard.",
    )
    flags.DEFINE_multi_string(
        "images",
        None,
        "JPEG or PNG files, directories of them, or patterns in quotes, with commas "
        "between them. Default: validation images.",
    )
    flags.DEFINE_integer(
        "num_images",
        None,
        "Photographs to draw, spread evenly over the images. Default: as in the "
        "paper, 8 for predictions and 5 for neighbors.",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "labels",
        None,
        "File with the name of each class, one a line. Default: the run's labels.txt.",
    )
    flags.DEFINE_integer("top", 5, "Labels a photograph.", lower_bound=1)
    flags.DEFINE_integer("num_neighbors", 6, "Neighbours a photograph.", lower_bound=1)
    flags.DEFINE_multi_string(
        "search_images",
        None,
        "Images to search for neighbours, named as --images. Default: the training "
        "images.",
    )
    flags.DEFINE_string(
        "cache_dir",
        None,
        "Where features of searched images are kept, 16 KB an image. Default: "
        "OUTPUT_DIR/features.",
    )
    flags.DEFINE_enum(
        "kernel_scale",
        "each",
        ["each", "all"],
        "each: every kernel from its least weight (black) to its greatest (white); "
        "all: one scale for all kernels, 0 is mid-grey.",
    )
    cli.define_config_flags(SETTINGS.split())


def main() -> dict:
    """Draws; returns the numbers to print."""
    what = _what()
    config = _config(what)
    runs = _runs() if "curves" in what else {}
    cli.start_tensorflow()
    from visualizing import curves, drawing, trained  # noqa: PLC0415

    net = None
    if set(what) - {"curves"}:
        labels = cli.path("labels")
        if cli.path("export_dir"):
            net = trained.from_export(config, cli.path("export_dir"), labels)
        else:
            net = trained.from_run(
                config, cli.path("model_dir"), cli.path("checkpoint_path"), labels
            )
    histories = [curves.read(name, folder) for name, folder in runs.items()]

    output_dir = pathlib.Path(cli.path("output_dir"))
    output_dir.mkdir(parents=True, exist_ok=True)
    results = {"written": []}
    if net:
        results |= {"source": net.source, "step": net.step}
    for name in what:
        if name == "kernels":
            pixels, results[name] = _kernels(net)
        elif name == "predictions":
            pixels, results[name] = _predictions(net)
        elif name == "neighbors":
            pixels, results[name] = _neighbors(net, output_dir)
        else:
            pixels = drawing.pixels_of(curves.draw(histories))
            results[name] = curves.results(histories)
        path = output_dir / f"{name}.png"
        drawing.write_png(pixels, path)
        last = max((history.rows[-1]["step"] for history in histories), default=0)
        step = last if name == "curves" else net.step
        drawing.write_summary(_logdir(output_dir), step, {name: pixels})
        results["written"].append(str(path))
    return results | {"logdir": str(_logdir(output_dir))}


def _what() -> list[str]:
    """The pictures to draw, after a look at what each needs."""
    values = flags.FLAGS
    if values.model_dir and values.export_dir:
        raise UserError("--model_dir and --export_dir both name a net: give one")
    if values.export_dir and values.checkpoint_path:
        raise UserError("--checkpoint_path is of a --model_dir: an export has its own")
    has_net = values.model_dir or values.export_dir
    has_metrics = values.model_dir or values.runs
    if not has_net and not has_metrics:
        raise UserError("name a net with --model_dir or --export_dir, or --runs")
    if values.what is None:
        return ["kernels"] * bool(has_net) + ["curves"] * bool(has_metrics)
    for name in values.what:
        if name not in PICTURES:
            close = difflib.get_close_matches(name, PICTURES, n=1)
            advice = f"did you mean {close[0]}? " if close else ""
            raise UserError(
                f"--what={name}: no such picture; {advice}known: {', '.join(PICTURES)}"
            )
        if name == "curves" and not has_metrics:
            raise UserError("--what=curves needs --model_dir or --runs")
        if name != "curves" and not has_net:
            raise UserError(f"--what={name} needs --model_dir or --export_dir")
    if not values.what:
        raise UserError(f"--what is empty: name some of {', '.join(PICTURES)}")
    return list(dict.fromkeys(values.what))


def _config(what: list[str]) -> Config | None:
    """Settings of the net, if there is a net to look at."""
    flag = "export_dir" if cli.path("export_dir") else "model_dir"
    if set(what) == {"curves"}:
        return None
    config = run_files.load_config(cli.path(flag), flag)
    return cli.config_from_flags(config, reads_data=False)


def _runs() -> dict[str, str]:
    """Name and directory of each run to draw curves of."""
    if not flags.FLAGS.runs:
        folder = pathlib.Path(cli.path("model_dir"))
        return {folder.absolute().name: str(folder)}
    return parse_runs(flags.FLAGS.runs)


def _logdir(output_dir: pathlib.Path) -> pathlib.Path:
    if cli.path("logdir"):
        return pathlib.Path(cli.path("logdir"))
    if cli.path("model_dir"):
        return pathlib.Path(cli.path("model_dir")) / "pictures"
    return output_dir / "tensorboard"


def _kernels(net):
    from visualizing import kernels  # noqa: PLC0415

    layer, columns = kernels.first_kernels(net)
    picture = kernels.draw(columns, flags.FLAGS.kernel_scale)
    return picture, kernels.results(layer, columns)


def _predictions(net):
    from visualizing import drawing, predictions  # noqa: PLC0415

    train, top = net.config.train, flags.FLAGS.top
    shown = _photographs(net, flags.FLAGS.num_images or 8)
    scores = predictions.probabilities(net, shown, train.eval_crops, train.batch_size)
    picture = predictions.draw(shown, scores, net.labels, top)
    results = predictions.results(shown, scores, net.labels, top)
    return drawing.pixels_of(picture), results


def _neighbors(net, output_dir: pathlib.Path):
    from visualizing import drawing, features, neighbors  # noqa: PLC0415

    shown = _photographs(net, flags.FLAGS.num_images or 5)
    searched = _images(net, "search_images", "train")
    extractor = features.Extractor(net, net.config.train.batch_size)
    cache_dir = pathlib.Path(cli.path("cache_dir") or output_dir / "features")
    table = extractor.of_images(searched, cache_dir)
    queries = extractor.of_photographs(shown)
    indices, distances = neighbors.nearest(
        queries, table["features"], flags.FLAGS.num_neighbors
    )
    found = neighbors.photographs(searched, table, indices)
    picture = neighbors.draw(shown, found, distances, net.labels)
    results = neighbors.results(shown, found, distances, net.labels)
    return drawing.pixels_of(picture), results | {"searched": len(searched)}


def _photographs(net, count: int):
    return _images(net, "images", "validation").spread(count)


def _images(net, flag: str, split: str):
    """The images that a flag names, or a split of the run's records."""
    from visualizing import photographs  # noqa: PLC0415

    from official.alexnet.serving.prediction import find_images  # noqa: PLC0415

    names = image_files.split(flags.FLAGS[flag].value or [])
    if not names:
        return photographs.Recorded(net.split(split).records)
    paths = find_images(names, flag)
    return photographs.files_with_labels(paths, net.labels)


if __name__ == "__main__":
    define_flags()
    cli.run("visualize.py", main)
