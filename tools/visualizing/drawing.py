"""What the pictures share: figures, short labels, PNG, and TensorBoard's copy."""

import io
import pathlib
import re
import textwrap

import numpy as np
import tensorflow as tf
from PIL import Image

from official.alexnet.disk import atomic_write
from official.alexnet.errors import UserError

try:
    from matplotlib.figure import Figure
except ImportError:
    Figure = None


def new_figure(width: float, height: float) -> Figure:
    """A figure of a size in inches, whose panels leave room for what is around them.

    Raises:
        UserError: matplotlib is missing.
    """
    if Figure is None:
        raise UserError(
            "this picture needs matplotlib: pip install 'official-alexnet[plots]'"
        )
    return Figure(figsize=(width, height), layout="constrained")


def empty_panels(figure: Figure, rows: int, columns: int, **ratios) -> np.ndarray:
    """Panels without axes, (rows, columns)."""
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # Inches.
    panels = figure.subplots(rows, columns, squeeze=False, gridspec_kw=ratios)
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    return panels


def short(label: str, width: int) -> str:
    """A class's first name, without its WordNet id, in at most `width` characters."""
    name = re.sub(r"^n\d{8}\s+", "", label).split(",")[0].strip()
    if len(name) <= width:
        return name
    # At a space where there is one, otherwise within the word.
    words = textwrap.shorten(name, width, placeholder="…")
    return words if len(words) > width // 2 else name[: width - 1] + "…"


def pixels_of(figure: Figure) -> np.ndarray:
    """The figure as (height, width, 3) uint8."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, facecolor="white")
    return np.asarray(Image.open(buffer).convert("RGB"))


def write(name: str, pixels: np.ndarray, folder: pathlib.Path, step: int) -> None:
    """Writes (height, width, 3) uint8 to NAME.png, and beside it for TensorBoard."""
    with atomic_write(folder / f"{name}.png") as temporary:
        Image.fromarray(pixels).save(temporary, "PNG", optimize=True)
    with tf.summary.create_file_writer(str(folder)).as_default(step=step):
        tf.summary.image(name, pixels[None])
