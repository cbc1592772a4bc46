"""What the pictures share: figures, short labels, PNG, and TensorBoard's copy."""

import io
import pathlib
import re
import textwrap
import typing

import numpy as np
from PIL import Image

from official.alexnet.data.atomic import atomic_write
from official.alexnet.errors import UserError

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, **options) -> "Figure":
    """A figure of a size in inches.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            "this picture needs matplotlib: pip install 'official-alexnet[plots]'"
        ) from error
    return Figure(figsize=(width, height), **options)


def short(label: str, width: int) -> str:
    """A class's first name, without its WordNet id, in at most `width` characters."""
    name = re.sub(r"^n\d{8}\s+", "", label).split(",")[0].strip()
    if len(name) <= width:
        return name
    # At a space where there is one, otherwise within the word.
    words = textwrap.shorten(name, width, placeholder="…")
    return words if len(words) > width // 2 else name[: width - 1] + "…"


def pixels_of(figure: "Figure", dpi: int = 100) -> np.ndarray:
    """The figure as (height, width, 3) uint8."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return np.asarray(Image.open(buffer).convert("RGB"))


def write_png(pixels: np.ndarray, path: pathlib.Path) -> None:
    """Writes (height, width, 3) uint8; the file appears only when it is whole."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def write_summary(
    logdir: pathlib.Path, step: int, pictures: dict[str, np.ndarray]
) -> None:
    """Writes pictures, (height, width, 3) uint8 by name, for TensorBoard."""
    import tensorflow as tf  # noqa: PLC0415

    with tf.summary.create_file_writer(str(logdir)).as_default(step=step):
        for name, pixels in pictures.items():
            tf.summary.image(name, pixels[None])
