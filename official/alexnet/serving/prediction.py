"""Labels image files with a SavedModel; of this package it uses only the labels."""

import glob
import pathlib
import re

import numpy as np
import tensorflow as tf
from PIL import Image

from official.alexnet.data.classes import read_labels
from official.alexnet.errors import UserError
from official.alexnet.run_files import LABELS_FILE

_SUFFIXES = {".jpg", ".jpeg", ".png"}


def predict(export_dir: str, images: list[str], top: int, batch_size: int) -> dict:
    """Labels images and prints them, one paragraph an image.

    Args:
        export_dir: what `export` wrote.
        images: files, directories or patterns.
        top: labels an image, most probable first.
        batch_size: images a call of the model.

    Returns:
        For each image its labels with their probabilities.

    Raises:
        UserError: no such directory or image, a file that is not an image, or one
            that the model does not take.
    """
    folder = pathlib.Path(export_dir)
    saved_model = folder / "saved_model"
    if not (saved_model / "saved_model.pb").is_file():
        raise UserError(
            f"--export_dir={folder} holds no saved_model/: name a directory that "
            "alexnet-export wrote, with saved_model among its --formats"
        )
    paths = find_images(images)
    # The loaded object keeps the weights alive.
    served = _load(saved_model)
    classify = served.signatures["serving_default"]
    predictions = []
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        encoded = [read_image(path) for path in batch]
        try:
            probabilities = classify(tf.constant(encoded))["probabilities"].numpy()
        except tf.errors.InvalidArgumentError as error:
            raise _refused(error, batch) from error
        labels = read_labels(folder / LABELS_FILE, probabilities.shape[1])
        for path, row in zip(batch, probabilities, strict=True):
            predictions.append({"image": str(path), "labels": _best(row, labels, top)})
            _show(predictions[-1])
    return {"predictions": predictions}


def _load(saved_model: pathlib.Path):
    try:
        return tf.saved_model.load(str(saved_model))
    except (tf.errors.OpError, OSError, ValueError, LookupError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{saved_model} cannot be loaded: {reason}; export it again"
        ) from error


def _refused(error: tf.errors.OpError, batch: list[pathlib.Path]) -> Exception:
    """The error to raise for a picture that the model does not take."""
    found = re.search(r"image (\d+) of the batch ([^\n]*)", error.message)
    if not found:
        return error
    reason = found[2].partition(" [")[0].strip()
    return UserError(f"{batch[int(found[1])]} {reason}")


def find_images(names: list[str], flag: str = "images") -> list[pathlib.Path]:
    """The image files that files, directories or patterns name, in order.

    Args:
        names: files, directories or patterns.
        flag: that they were given with, for messages.

    Raises:
        UserError: a name stands for no image.
    """
    found = []
    for name in names:
        path = pathlib.Path(name)
        if path.is_dir():
            matches = [p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES]
        elif path.is_file():
            matches = [path]
        else:
            matches = [pathlib.Path(match) for match in glob.glob(name)]  # noqa: PTH207
        if not matches:
            raise UserError(f"--{flag}={name}: no such image")
        found += sorted(matches)
    return found


def read_image(path: pathlib.Path) -> bytes:
    """The bytes of an image file.

    Raises:
        UserError: it is not a whole JPEG or PNG.
    """
    try:
        # Pillow says nothing on stderr of its own, as libjpeg does.
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is not a whole JPEG or PNG image") from error
    return path.read_bytes()


def _best(probabilities: np.ndarray, labels: list[str], top: int) -> list[dict]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [
        {"label": labels[i], "probability": round(float(probabilities[i]), 6)}
        for i in order
    ]


def _show(prediction: dict) -> None:
    print(prediction["image"])
    for best in prediction["labels"]:
        print(f"  {100 * best['probability']:6.2f} %  {best['label']}")
