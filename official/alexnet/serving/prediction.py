"""Labels image files with a SavedModel; of this package it uses only the labels."""

import csv
import io
import itertools
import json
import pathlib
import re
import stat
import time
import warnings
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import logging
from PIL import Image

from official.alexnet import disk
from official.alexnet import paths as paths_lib
from official.alexnet.data import image_files
from official.alexnet.data.classes import read_labels
from official.alexnet.data.pictures import MAX_PIXELS
from official.alexnet.errors import UserError
from official.alexnet.run_files import LABELS_FILE

# Between lines on how far it is, where the answers go to a file.
_SECONDS = 30
_DAMAGED = "is not a whole JPEG or PNG image"
# Columns of a table, once for each of the `top` labels.
_BEST = ("label", "probability")


class _BadImageError(Exception):
    """An image that is not labelled; the text is the reason, such as `is empty`."""


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
    folder = paths_lib.of_checkpoints(export_dir, "--export_dir")
    saved_model = folder / "saved_model"
    if not (saved_model / "saved_model.pb").is_file():
        raise UserError(
            f"--export_dir={folder} holds no saved_model/: name a directory that "
            "alexnet-export wrote, with saved_model among its --formats"
        )
    found = image_files.find(images)
    first = list(itertools.islice(found, 2))
    if len(first) == 1 and first[0][1]:
        raise UserError(f"--images={image_files.text(first[0][0])} {first[0][1]}")
    # The loaded object keeps the weights alive.
    served = _load(saved_model)
    classify = served.signatures["serving_default"]
    num_classes = classify.structured_outputs["probabilities"].shape[1]
    labels = read_labels(folder / LABELS_FILE, num_classes)
    top = min(top, num_classes)
    path = pathlib.Path(output_file) if output_file else None
    if path:
        _start(path, top)
    predictions: list[dict] = []
    bad_images: list[dict] = []
    num_images, num_bad, first_bad = 0, 0, None
    said = time.monotonic()
    pictures = itertools.chain(first, found)
    while batch := list(itertools.islice(pictures, batch_size)):
        rows = _label(batch, classify, labels, top)
        bad = [row for row in rows if "error" in row]
        num_images, num_bad = num_images + len(rows), num_bad + len(bad)
        first_bad = first_bad or next(iter(bad), None)
        # One alone is named by the UserError below.
        for row in bad if len(first) > 1 else ():
            logging.warning("%s", _said(row))
        if path:
            disk.append(path, _lines(path, rows, top).encode())
        else:
            good = [row for row in rows if "labels" in row]
            predictions += good
            bad_images += bad
            for row in good:
                _show(row)
        if path and time.monotonic() - said > _SECONDS:
            said = time.monotonic()
            logging.info("%s images", f"{num_images:,}")
    if num_bad == num_images:
        of = "" if num_images == 1 else f"not one of {num_images} images is labelled: "
        raise UserError(of + _said(first_bad))
    if not path:
        return {"predictions": predictions, "bad_images": bad_images}
    return {
        "output_file": image_files.text(path),
        "num_images": num_images,
        "num_bad_images": num_bad,
    }


def _load(saved_model: pathlib.Path):
    try:
        return tf.saved_model.load(str(saved_model))
    except (tf.errors.OpError, OSError, ValueError, LookupError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{saved_model} cannot be loaded: {reason}; export it again"
        ) from error


def _label(
    batch: list[tuple[str, str]], classify: Callable, labels: list[str], top: int
) -> list[dict]:
    """A row for each of `image_files.find`: its labels, or its error."""
    rows = [{"image": image_files.text(name)} for name, _ in batch]
    encoded, places = [], []
    for place, (name, reason) in enumerate(batch):
        try:
            if reason:
                raise _BadImageError(reason)
            encoded.append(_read(name))
            places.append(place)
        except _BadImageError as error:
            rows[place]["error"] = str(error)
    for place, found in zip(places, _classify(classify, encoded), strict=True):
        if isinstance(found, str):
            rows[place]["error"] = found
        else:
            rows[place]["labels"] = _best(found, labels, top)
    return rows


def _classify(classify: Callable, encoded: list[bytes]) -> list[np.ndarray | str]:
    """The probabilities of each image, or what is wrong with it, by halves."""
    if not encoded:
        return []
    try:
        return list(classify(tf.constant(encoded))["probabilities"].numpy())
    except tf.errors.InvalidArgumentError as error:
        half = len(encoded) // 2
        if half:
            halves = encoded[:half], encoded[half:]
            return [found for part in halves for found in _classify(classify, part)]
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
    try:
        return _read(str(path))
    except _BadImageError as error:
        raise UserError(f"{image_files.text(path)} {error}") from error


def _read(name: str) -> bytes:
    path = pathlib.Path(name)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _BadImageError("is no plain file")  # A pipe would be waited for.
        if status.st_size == 0:
            raise _BadImageError("is empty")
        # Pillow says nothing on stderr of its own, as libjpeg does.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("JPEG", "PNG")) as image:
                image.load()
        return path.read_bytes()
    except _BadImageError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _BadImageError(f"has more than {MAX_PIXELS:,} pixels") from None
    # Pillow's decoders raise almost any exception on damaged bytes.
    except Exception as error:
        reason = getattr(error, "strerror", None)
        raise _BadImageError(
            f"cannot be read: {reason}" if reason else _DAMAGED
        ) from error


def _best(probabilities: np.ndarray, labels: list[str], top: int) -> list[dict]:
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
    nothing = [""] * (top * len(_BEST))
    return _csv(
        [
            row["image"],
            *(
                [best[key] for best in row.get("labels", ()) for key in _BEST]
                or nothing
            ),
            row.get("error", ""),
        ]
        for row in rows
    )


def _csv(rows: list[list]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
