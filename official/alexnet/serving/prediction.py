"""Labels image files with a SavedModel, or takes features of them."""

import collections
import csv
import io
import itertools
import json
import pathlib
import re
import stat
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from absl import logging
from PIL import Image

from official.alexnet import disk, run_files
from official.alexnet import paths as paths_lib
from official.alexnet.data import image_files
from official.alexnet.data.classes import key, read_labels
from official.alexnet.data.pictures import MAX_PIXELS
from official.alexnet.errors import NoRoom, UserError
from official.alexnet.serving import feature_files

# Between lines on how far it is, where the answers go to a file.
_SECONDS = 30
_DAMAGED = "is not a whole JPEG or PNG image"
# Columns of a table, once for each of the `top` labels.
_BEST = ("label", "probability")


def predict(
    export_dir: str,
    images: list[str],
    top: int,
    batch_size: int,
    output_file: str | None = None,
) -> dict:
    """Labels images; prints them, one paragraph an image, or writes them to a file.

    A bad image is named in the log, and the others are labelled.

    Args:
        export_dir: what `export` wrote.
        images: files, directories or patterns.
        top: labels an image, most probable first.
        batch_size: images a call of the model.
        output_file: a new .jsonl or .csv file: a line an image, added batch by batch.
            Memory then does not grow with their number.

    Returns:
        Without a file `predictions`, the labels of each image with their
        probabilities, and `bad_images`, each with its `error`; with one its name and
        the numbers of both.

    Raises:
        UserError: no such directory, or not one image can be labelled.
    """
    folder = _folder(export_dir)
    pictures = _Pictures(images, batch_size, is_logged=output_file is not None)
    served = _load(folder)  # The loaded object keeps the weights alive.
    classify = served.signatures["serving_default"]
    num_classes = classify.structured_outputs["probabilities"].shape[1]
    labels = read_labels(folder / run_files.LABELS_FILE, num_classes)
    top = min(top, num_classes)
    path = pathlib.Path(output_file) if output_file else None
    if path:
        _start(path, top)
    predictions: list[dict] = []
    bad_images: list[dict] = []

    def call(encoded: tf.Tensor) -> np.ndarray:
        return classify(encoded)["probabilities"].numpy()

    for answers in pictures.answers(call):
        for row, probabilities in answers:
            if probabilities is not None:
                row["labels"] = best(probabilities, labels, top)
        rows = [row for row, _ in answers]
        if path:
            try:
                disk.append(path, _lines(path, rows, top).encode())
            except NoRoom as error:
                raise NoRoom(
                    f"{error}, with another --output_file: what is answered stays here"
                ) from error
            continue
        for row in rows:
            (bad_images if "error" in row else predictions).append(row)
            if "labels" in row:
                _show(row)
    if path:
        return pictures.counts(path)
    return {"predictions": predictions, "bad_images": bad_images}


def extract(
    export_dir: str,
    images: list[str],
    features: list[str],
    batch_size: int,
    output_file: str,
) -> dict:
    """Writes the outputs of layers for images to a file; memory does not grow.

    A bad image is named in the log and left out.

    Args:
        export_dir: what `export` wrote, with these layers among its `features`.
        images, batch_size: as of `predict`.
        features: layers, such as `fc7`.
        output_file: a new .npz or .parquet file, which appears when it is whole; see
            `feature_files`.

    Returns:
        The file's name and the numbers of images.

    Raises:
        UserError: no such directory or layer, or not one image can be read.
    """
    folder = _folder(export_dir)
    pictures = _Pictures(images, batch_size, is_logged=True)
    served = _load(folder)
    run = served.signatures["features"]
    # An export without --features has fc7 under the name `features`.
    keys = {name: name for name in run.structured_outputs} | {"fc7": "features"}
    for name in features:
        if name not in keys:
            raise UserError(
                f"--features={name}: {folder} gives {', '.join(sorted(keys))}; export "
                f"it again with --features={','.join(features)}"
            )
    shapes = {name: run.structured_outputs[keys[name]].shape[1:] for name in features}
    classes = class_places(run_files.class_names(folder))

    def call(encoded: tf.Tensor) -> list[list[np.ndarray]]:
        outputs = run(encoded)
        arrays = [outputs[keys[name]].numpy() for name in features]
        return list(zip(*arrays, strict=True))

    path = pathlib.Path(output_file)
    with feature_files.create(path, shapes) as file:
        for answers in pictures.answers(call):
            good = [(row["image"], values) for row, values in answers if values]
            if good:
                names, values = zip(*good, strict=True)
                folders = (pathlib.Path(name).parent.name for name in names)
                labels = [classes.get(key(folder)) for folder in folders]
                arrays = zip(*values, strict=True)
                file.add(names, labels, dict(zip(features, arrays, strict=True)))
    return pictures.counts(path)


def class_places(names: Sequence[str] | None) -> dict[str, int]:
    """The class of images by the `key` of their folder's name; none for two alike."""
    keys = [key(name) for name in names or ()]
    counts = collections.Counter(keys)
    return {name: place for place, name in enumerate(keys) if counts[name] == 1}


class _Pictures:
    """The images that names stand for, batch by batch.

    Args:
        names: files, directories or patterns.
        batch_size: images a batch.
        is_logged: whether the log says from time to time how many are done.

    Raises:
        UserError: there is no image at all.
    """

    def __init__(self, names: list[str], batch_size: int, is_logged: bool):
        found = image_files.find(names)
        first = list(itertools.islice(found, 2))
        self._is_alone = len(first) == 1
        if self._is_alone and first[0][1]:
            raise UserError(f"--images={image_files.text(first[0][0])} {first[0][1]}")
        self._found = itertools.chain(first, found)
        self._batch_size = batch_size
        self._is_logged = is_logged
        self._num_images, self._num_bad = 0, 0

    def answers(self, call: Callable) -> Iterator[list[tuple[dict, object]]]:
        """Yields batches of (row, answer); a bad image's row has an `error`.

        Args:
            call: from a batch of encoded images to a sequence of answers.

        Raises:
            UserError: not one image can be read.
        """
        said, first_bad = time.monotonic(), None
        while batch := list(itertools.islice(self._found, self._batch_size)):
            answers = _answer(batch, call)
            bad = [row for row, _ in answers if "error" in row]
            self._num_images += len(answers)
            self._num_bad += len(bad)
            first_bad = first_bad or next(iter(bad), None)
            # One alone is named by the UserError below.
            for row in () if self._is_alone else bad:
                logging.warning("%s", _said(row))
            yield answers
            if self._is_logged and time.monotonic() - said > _SECONDS:
                said = time.monotonic()
                logging.info("%s images", f"{self._num_images:,}")
        if self._num_bad == self._num_images:
            count = self._num_images
            of = "" if count == 1 else f"not one of {count} images can be used: "
            raise UserError(of + _said(first_bad))

    def counts(self, path: pathlib.Path) -> dict:
        return {
            "output_file": image_files.text(path),
            "num_images": self._num_images,
            "num_bad_images": self._num_bad,
        }


def _folder(export_dir: str) -> pathlib.Path:
    folder = paths_lib.of_checkpoints(export_dir, "--export_dir")
    if not (folder / "saved_model" / "saved_model.pb").is_file():
        raise UserError(
            f"--export_dir={folder} holds no saved_model/: name a directory that "
            "alexnet-export wrote, with saved_model among its --formats"
        )
    return folder


def _load(folder: pathlib.Path):
    saved_model = folder / "saved_model"
    try:
        return tf.saved_model.load(str(saved_model))
    except (tf.errors.OpError, OSError, ValueError, LookupError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{saved_model} cannot be loaded: {reason}; export it again"
        ) from error


def _answer(batch: list[tuple[str, str]], call: Callable) -> list[tuple[dict, object]]:
    """A row for each of `image_files.find`, with its answer, or None and an error."""
    read = [reason or _read(name) for name, reason in batch]
    good = iter(_by_halves(call, [data for data in read if isinstance(data, bytes)]))
    rows = []
    for (name, _), data in zip(batch, read, strict=True):
        row = {"image": image_files.text(name)}
        answer = next(good) if isinstance(data, bytes) else data
        if isinstance(answer, str):
            row["error"], answer = answer, None
        rows.append((row, answer))
    return rows


def _by_halves(call: Callable, encoded: list[bytes]) -> list:
    """The answer to each image, or what is wrong with it."""
    if not encoded:
        return []
    try:
        return list(call(tf.constant(encoded)))
    except tf.errors.InvalidArgumentError as error:
        half = len(encoded) // 2
        if half:
            halves = encoded[:half], encoded[half:]
            return [found for part in halves for found in _by_halves(call, part)]
        found = re.search(r"image 0 of the batch ([^\n\]]*)", error.message)
        if not found:
            raise
        return [found[1].partition(" [")[0].strip()]


def find_images(names: list[str], flag: str = "images") -> list[pathlib.Path]:
    """The image files that files, directories or patterns name, in order.

    Args:
        names: files, directories or patterns.
        flag: that they were given with, for messages.

    Raises:
        UserError: a name stands for no image.
    """
    paths = []
    for name, reason in image_files.find(names):
        if reason:
            raise UserError(f"--{flag}={image_files.text(name)} {reason}")
        paths.append(pathlib.Path(name))
    return paths


def read_image(path: pathlib.Path) -> bytes:
    """The bytes of an image file.

    Raises:
        UserError: it is not a whole JPEG or PNG.
    """
    data = _read(str(path))
    if isinstance(data, str):
        raise UserError(f"{image_files.text(path)} {data}")
    return data


def _read(name: str) -> bytes | str:
    """The bytes of a JPEG or PNG file, or what is wrong with it, such as `is empty`."""
    path = pathlib.Path(name)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "is no plain file"  # A pipe would be waited for.
        if status.st_size == 0:
            return "is empty"
        # Pillow says nothing on stderr of its own, as libjpeg does.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("JPEG", "PNG")) as image:
                image.load()
        return path.read_bytes()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return f"has more than {MAX_PIXELS:,} pixels"
    except MemoryError:
        return "cannot be read: no memory is left"
    # Pillow's decoders raise almost any exception on damaged bytes.
    except Exception as error:
        reason = getattr(error, "strerror", None)
        return f"cannot be read: {reason}" if reason else _DAMAGED


def best(probabilities: np.ndarray, labels: Sequence[str], top: int) -> list[dict]:
    """The `top` most probable labels of (num_classes,), or all, best first."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [
        {"label": labels[i], "probability": round(float(probabilities[i]), 6)}
        for i in order
    ]


def _said(row: dict) -> str:
    return " ".join(f"{row['image']} {row['error']}".splitlines())


def _show(row: dict) -> None:
    print(row["image"])
    for best in row["labels"]:
        print(f"  {100 * best['probability']:6.2f} %  {best['label']}")


def _start(path: pathlib.Path, top: int) -> None:
    """Makes the file; of a table the first line names the columns."""
    with disk.saying_where(path):
        path.open("x").close()
    if path.suffix.lower() == ".csv":
        best = [f"{name}_{i + 1}" for i in range(top) for name in _BEST]
        disk.append(path, _csv([["image", *best, "error"]]).encode())


def _lines(path: pathlib.Path, rows: list[dict], top: int) -> str:
    if path.suffix.lower() != ".csv":
        return "".join(json.dumps(row) + "\n" for row in rows)
    table = []
    for row in rows:
        best = [label[key] for label in row.get("labels", ()) for key in _BEST]
        nothing = [""] * (top * len(_BEST))
        table.append([row["image"], *(best or nothing), row.get("error", "")])
    return _csv(table)


def _csv(rows: list[list]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
