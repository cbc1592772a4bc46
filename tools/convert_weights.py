r"""Converts weights of AlexNet between Caffe, PyTorch and this package.

From the published files to what the binaries and Keras take, and back:

  python tools/convert_weights.py --input=bvlc_alexnet.caffemodel --variant=caffe \
      --mean=imagenet_mean.binaryproto --labels=labels.txt --output=runs/bvlc
  python tools/convert_weights.py --input=alexnet-owt-7be5be79.pth --sha256=7be5be79 \
      --variant=owt --output=torchvision.keras
  python tools/convert_weights.py --input=runs/paper --output=paper.caffemodel

What a file holds, and what is wrong with it as far as its numbers tell:

  python tools/convert_weights.py --inspect=bvlc_alexnet.npy

The names say the formats: .caffemodel (a .prototxt is written beside it), .pth (.pt,
.bin: a state_dict), .safetensors, .keras, and to read .npy, MatConvNet's .mat and
TF-Slim's checkpoints; a name without any of these is the directory of a run, as
--model_dir of the binaries takes it. The net of a run is known; for files, say it with
--variant (paper if it is not said) and the other settings of the net. The number of
classes is that of the file.

Nothing in a file is run. An .npy, a .caffemodel or .safetensors of others and a .pth
from before PyTorch 1.6 have no checksum of their numbers: give --sha256 where it is
known.
The last line on stdout is one JSON object with the results.
"""

import dataclasses
import hashlib
import importlib
import json
import pathlib

import numpy as np
from absl import flags

from official.alexnet import cli, fields, run_files
from official.alexnet.config import Config, ModelConfig
from official.alexnet.data import classes
from official.alexnet.data.statistics import IMAGE_SHAPE, Statistics
from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import VARIANTS, Variant
from official.alexnet.weights import caffemodel, files, formats, inspection
from official.alexnet.weights import preprocessing as preprocessing_lib
from official.alexnet.weights.preprocessing import Preprocessing

SETTINGS = (
    *("variant", "width", "input_size", "activation", "normalization", "dropout"),
    *("pool_size", "pool_stride", "remove"),
)
_OTHERS = (".onnx", ".tflite", ".h5", ".npz")  # Nobody calls a run's directory so.
_FLAGS = {
    "input": "File, checkpoint or directory of a run to read.",
    "output": "What to write; a new name.",
    "inspect": "File, checkpoint or run to look at, instead of --input and --output. "
    "Without --variant all are tried.",
    "sha256": "Of --input, or its first 8 digits or more: else it is refused.",
    "preprocessing": "JSON of how images become the input, as --preprocessing_out "
    "writes it. Default: what --input says, or what the variant's published weights "
    "take.",
    "mean": "Mean to subtract, in place of that of --preprocessing: three numbers "
    "(red,green,blue, 0..255), or Caffe's mean image, BGR: a .binaryproto or a .npy of "
    "(3, 256, 256).",
    "statistics": "statistics.npz with the mean image, in place of --mean; a run keeps "
    "it whole, with its colour PCA.",
    "labels": "Names of the classes for a run, one a line, in their order.",
    "preprocessing_out": "New .json file to write, for --output's channel order.",
}


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    for name, text in _FLAGS.items():
        flags.DEFINE_string(name, None, text)
    flags.DEFINE_enum(
        "channel_order",
        None,
        ["rgb", "bgr"],
        "Of the images that --input was trained on, if it is a file of Caffe or "
        "PyTorch. Default: what the file says, bgr for a .caffemodel or .npy, else "
        "rgb.",
    )
    cli.define_config_flags(SETTINGS)


def main() -> dict:
    """Converts what the flags say; returns the results to print."""
    values = flags.FLAGS
    if values.inspect:
        for name in _FLAGS.keys() - {"inspect", "sha256"}:
            if values[name].value:
                raise UserError(f"--inspect only looks: leave --{name} out")
        return _inspect(cli.path("inspect"))
    if not values.input or not values.output:
        raise UserError("give --input and --output, or --inspect")
    source = pathlib.Path(cli.path("input"))
    target = pathlib.Path(cli.path("output"))
    known, suffix = formats.SUFFIXES, target.suffix
    if suffix not in known and suffix.lower() in (*known, *_OTHERS):
        raise UserError(f"--output={target}: {suffix} is not written here; see --help")
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise UserError(f"--output={target} exists: give a new name")
    beside = target.with_suffix(".prototxt")
    if target.suffix == ".caffemodel" and beside.exists():
        raise UserError(f"--output={target}: {beside} exists: give a new name")
    note = cli.new_file("preprocessing_out", ".json")
    image = note and pathlib.Path(note).with_suffix(".mean.npy")
    if image and image.exists():
        raise UserError(f"--preprocessing_out={note}: {image} exists: give a new name")
    if cli.path("labels") and target.suffix in formats.SUFFIXES:
        raise UserError(f"--labels goes into the directory of a run, not into {target}")
    if not target.parent.is_dir():
        raise UserError(f"--output={target}: there is no directory {target.parent}")
    model = _model(source)
    net = model.net()
    found = _read(source, net)
    model = dataclasses.replace(model, num_classes=found.num_classes)
    files.check(found, net, structure.weight_shapes(net, found.num_classes))
    inspection.warn(str(source), found.weights, net)
    preprocessing = _preprocessing(found, model)
    if note and preprocessing is None:
        raise UserError(
            "--preprocessing_out: what the net's input is, is not known; give --mean"
        )
    written = _write(source, target, found, model, preprocessing)
    out_order = form.order if (form := formats.format_of(target)) else "rgb"
    if preprocessing is not None:
        preprocessing = preprocessing.in_order(out_order)
    if note:
        written += _write_preprocessing(pathlib.Path(note), preprocessing)
    results = {
        "input": str(source),
        "output": str(target),
        "written": written,
        "variant": net.name,
        "num_classes": found.num_classes,
        "num_parameters": sum(array.size for array in found.weights.values()),
        "preprocessing": preprocessing.as_dict() if preprocessing else None,
    }
    if source.is_file():
        results["sha256"] = hashlib.sha256(source.read_bytes()).hexdigest()
    return results


def _read(source: pathlib.Path, net: Variant, **options) -> files.WeightFile:
    values, read = flags.FLAGS, files.read
    if source.suffix not in formats.SUFFIXES or source.suffix == formats.KERAS:
        read = _run_weights().read
    given = {"sha256": values.sha256, "channel_order": values.channel_order}
    return read(str(source), net, **given, **options)


def _inspect(path: str) -> dict:
    """Prints what a file holds; returns the same."""
    source = pathlib.Path(path)
    model = _model(source)
    given = model.variant if flags.FLAGS["variant"].present else None
    names = [given] if given else [model.variant, *VARIANTS]
    nets, found, reason = {}, None, None
    for name in dict.fromkeys(names):
        try:
            net = dataclasses.replace(model, variant=name).net()
            found = found or _read(source, net, allow_nan=True)
            files.check(found, net, structure.weight_shapes(net, found.num_classes))
            nets[fields.show(name)] = net  # A run's may be a row of its own.
        except UserError as error:
            reason = reason or error
    if found is None:
        raise reason
    form = formats.format_of(source)
    best = inspection.Inspection()
    for i, (name, net) in enumerate(list(nets.items())):
        # Read for it: its dropout says by what fc7 and fc8 are divided.
        weights = _read(source, net, allow_nan=True).weights
        inspected = inspection.inspect(weights, net)
        # Another net of these shapes may have been drawn or scaled as this is.
        is_told = inspected.dropout != inspection.UNKNOWN
        if not i or (is_told and len(inspected.faults) < len(best.faults)):
            best, nets = inspected, {name: net} | nets
        if not best.faults:
            break
    known = found.preprocessing
    has_background = "slim" in nets and found.num_classes == 1001
    lines = [
        f"format: {form.name if form else 'a checkpoint'}",
        f"variant: {' or '.join(nets) if nets else f'none fits: {reason}'}",
        f"classes: {found.num_classes}" + (", 0 is none" if has_background else ""),
        f"input: {known.formula() if known else 'the file does not say'}",
        *(best.lines() if nets else ()),
    ]
    print("\n".join(lines))
    return {
        "inspect": path,
        "variants": list(nets),
        "num_classes": found.num_classes,
        "preprocessing": known.as_dict() if known else None,
        **dataclasses.asdict(best),
    }


def _run_weights():
    # Files of Caffe and PyTorch do without TensorFlow.
    cli.start_tensorflow()
    return importlib.import_module("official.alexnet.training.run_weights")


def _model(source: pathlib.Path) -> ModelConfig:
    """The net that --input's run and the flags describe."""
    base = None
    folder = run_files.folder_of(source)
    is_run = source.suffix not in formats.SUFFIXES
    if is_run and (folder / run_files.PARAMS_FILE).is_file():
        run = run_files.load_config(str(folder))
        base = Config(model=run.model)
    return cli.config_from_flags(base, reads_data=False).model


def _preprocessing(found: files.WeightFile, model: ModelConfig) -> Preprocessing | None:
    """How images become the net's input, RGB: of the flags, the file, or published."""
    values = flags.FLAGS
    if values.preprocessing:
        path = pathlib.Path(cli.path("preprocessing"))
        if not path.is_file():
            raise UserError(f"--preprocessing={path}: there is no such file")
        text = path.read_bytes()
        known = preprocessing_lib.from_json(text, str(path)).in_order("rgb")
    else:
        published = preprocessing_lib.published(model.net().name, model.image_size)
        known = found.preprocessing or published
    if values.mean and values.statistics:
        raise UserError("--mean and --statistics both name a mean: give one of them")
    if values.statistics:
        image = Statistics.load(cli.path("statistics")).mean_image
    elif values.mean:
        image = _mean(values.mean)
    else:
        return known
    known = known or Preprocessing(model.image_size)
    mean = tuple(float(m) for m in image.reshape(-1, 3).mean(0) * known.scale)
    image = np.float32(image * known.scale) if image.ndim == 3 else None
    return dataclasses.replace(known, mean=mean, mean_image=image)


def _mean(text: str) -> np.ndarray:
    """(3,) or (256, 256, 3) float64 RGB in 0..255."""
    path = pathlib.Path(cli.path("mean"))
    if path.suffix not in (".binaryproto", ".npy"):
        try:
            mean = np.array([float(number) for number in text.split(",")])
        except ValueError:
            mean = np.zeros(0)
        if mean.shape != (3,) or not np.all((mean >= 0) & (mean <= 255)):
            raise UserError(
                f"--mean={text} should be three numbers from 0 to 255, or a "
                ".binaryproto or .npy file"
            )
        return mean
    data = files.read_bytes(path, (".binaryproto", ".npy"))
    try:
        if path.suffix == ".npy":
            image = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            image = caffemodel.read_blob(data)
    except Exception as error:  # Each library raises errors of its own.
        text = " ".join(str(error).split())
        raise UserError(f"--mean={path}: it is no mean image ({text})") from error
    planes = (3, *IMAGE_SHAPE[:2])
    if image.shape not in (planes, (1, *planes)) or image.dtype.kind != "f":
        raise UserError(
            f"--mean={path}: {image.dtype} of {image.shape}, not numbers of {planes}"
        )
    image = np.asarray(image, np.float64).reshape(planes)
    if not np.all((image >= 0) & (image <= 255)):
        raise UserError(f"--mean={path}: it holds what is not in 0 to 255")
    return image[::-1].transpose(1, 2, 0)


def _write(
    source: pathlib.Path,
    target: pathlib.Path,
    found: files.WeightFile,
    model: ModelConfig,
    preprocessing: Preprocessing | None,
) -> list[str]:
    if target.suffix == formats.KERAS:
        _run_weights().save_keras(target, found.weights, model)
        return [str(target)]
    if target.suffix in formats.SUFFIXES:
        return files.write(str(target), found.weights, model.net(), preprocessing)
    if preprocessing is None:
        raise UserError(
            f"--output={target}: what is subtracted from the images is not known for "
            f"variant {model.net().name}; give --mean, --statistics or --preprocessing"
        )
    path, labels = cli.path("statistics"), _labels(source, found)
    statistics = Statistics.load(path) if path else None
    given = model, preprocessing, statistics, labels
    return _run_weights().write(target, found.weights, *given)


def _labels(source: pathlib.Path, found: files.WeightFile) -> tuple[str, ...] | None:
    """Those of --labels, or else of the file, run or export that --input is of."""
    own, path = run_files.class_names(source), cli.path("labels")
    labels = classes.read_names(pathlib.Path(path)) if path else own or found.labels
    num_classes = found.num_classes
    # TF-Slim's class 0 is none of the thousand.
    if labels and len(labels) == 1000 and num_classes == 1001:
        labels = ("background", *labels)
    if path and labels is None:
        raise UserError(f"--labels={path} cannot be read: no such file")
    if labels and len(labels) != num_classes:
        given = f"--labels={path}" if path else f"the list of classes of {source}"
        raise UserError(
            f"{given} has {len(labels)} names, but the net has {num_classes} classes"
        )
    classes.check_same(own, labels, f"--input={source}", "leave --labels out")
    return labels


def _write_preprocessing(path: pathlib.Path, preprocessing: Preprocessing) -> list[str]:
    """The JSON, and a mean image in 0..255 beside it as Caffe's .npy has it."""
    path.write_text(json.dumps(preprocessing.as_dict(), indent=2) + "\n", "utf-8")
    if preprocessing.mean_image is None:
        return [str(path)]
    beside = path.with_suffix(".mean.npy")
    image = preprocessing.in_order("bgr").mean_image / preprocessing.scale
    np.save(beside, image.transpose(2, 0, 1))
    return [str(path), str(beside)]


if __name__ == "__main__":
    define_flags()
    cli.run("convert_weights", main)
