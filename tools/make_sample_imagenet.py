r"""Draws a small ImageNet, packed as ILSVRC-2012 is, to try the whole road on.

  python tools/make_sample_imagenet.py --output_dir=demo/archives
  python tools/prepare_imagenet.py --input_dir=demo/archives --output_dir=demo/data \
      --train_shards=4 --validation_shards=2

Writes ILSVRC2012_img_train.tar (a tar of one tar per class), ILSVRC2012_img_val.tar
(flat), ILSVRC2012_devkit_t12.tar.gz (data/meta.mat and the ground truth, its ids in
an order that is not that of the labels, as in the real one), and beside them
ILSVRC2012_validation_ground_truth.txt and synset_words.txt (in label order).

Classes differ by shape and texture only: every picture has colours, size, place,
contrast, light and noise of its own. A few are awkward as a few of the real ones are:
greyscale, CMYK, PNG under the name of .JPEG, long and narrow, small, EXIF-rotated.
The same flags give the same files.
"""

import colorsys
import gzip
import io
import pathlib
import tarfile
from collections.abc import Callable, Iterable
from typing import BinaryIO, NamedTuple

import numpy as np
import scipy.io
from absl import flags
from PIL import Image

from official.alexnet import cli
from official.alexnet.errors import UserError

# Of every twenty pictures, these are awkward, in this way.
_PERIOD = 20
_AWKWARD = {
    1: "greyscale",
    4: "cmyk",
    7: "png",
    9: "wide",
    12: "tall",
    15: "small",
    18: "exif",
}
_EXIF_ORIENTATION = 274
_DEVKIT = "ILSVRC2012_devkit_t12"
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


# Each class gives a mask, 0 (background) to 1 (figure). x and y are (height, width)
# arrays, the origin in the middle of the picture, the shorter side from -1 to 1.
# Nothing here changes its class when mirrored.


def _wave(phase: np.ndarray, softness: float = 0.15) -> np.ndarray:
    """A square wave of period 1 with soft edges."""
    return np.clip(0.5 + np.sin(2 * np.pi * phase) / (2 * softness), 0, 1)


def _inside(distance: np.ndarray, softness: float = 0.02) -> np.ndarray:
    """1 where the distance to an edge is negative."""
    return np.clip(0.5 - distance / softness, 0, 1)


def _flag(rng, x, y):
    return _wave(y * rng.uniform(2.5, 5) + rng.uniform())


def _fence(rng, x, y):
    return _flag(rng, y, x)


def _chessboard(rng, x, y):
    frequency = rng.uniform(1.5, 2.8)
    waves = np.sin(2 * np.pi * (frequency * x + rng.uniform()))
    waves = waves * np.sin(2 * np.pi * (frequency * y + rng.uniform()))
    return _inside(-waves, 0.2)


def _polka_dots(rng, x, y):
    frequency = rng.uniform(2.5, 4.5)
    row = np.floor(frequency * y)
    u = (frequency * x + 0.5 * (row % 2) + rng.uniform()) % 1 - 0.5
    v = (frequency * y) % 1 - 0.5
    return _inside(np.hypot(u, v) - rng.uniform(0.2, 0.3), 0.06)


def _target(rng, x, y):
    return _wave(np.hypot(x, y * rng.uniform(0.85, 1.18)) * rng.uniform(2.5, 4.5))


def _sunburst(rng, x, y):
    spokes = rng.integers(7, 13)
    return _wave(np.arctan2(y, x) / (2 * np.pi) * spokes + rng.uniform(), 0.3)


def _ball(rng, x, y):
    return _inside(np.hypot(x, y) - rng.uniform(0.4, 0.65))


def _cross(rng, x, y):
    length, width = rng.uniform(0.55, 0.8), rng.uniform(0.12, 0.22)
    bars = [np.maximum(abs(a) - length, abs(b) - width) for a, b in ((x, y), (y, x))]
    return _inside(np.minimum(*bars))


def _brick_wall(rng, x, y):
    rows = rng.uniform(3, 5)
    v = rows * y + rng.uniform()
    u = (rows / 2.2 * x + 0.5 * (np.floor(v) % 2) + rng.uniform()) % 1
    distance = np.minimum(np.minimum(u, 1 - u) * 2.2, np.minimum(v % 1, 1 - v % 1))
    return _inside(rng.uniform(0.09, 0.14) - distance, 0.06)


def _zigzag(rng, x, y):
    frequency = rng.uniform(1.2, 2.2)
    teeth = abs((frequency * x + rng.uniform()) % 1 - 0.5)
    return _wave(y * rng.uniform(2, 3.2) + teeth * rng.uniform(1.6, 2.2))


class SampleClass(NamedTuple):
    """A class: its WordNet id and words, its mask, and how that is placed."""

    synset: str
    words: str
    mask: Callable
    degrees: float = 0  # turned by so many at most, to either side
    shift: float = 0  # and then moved by so much at most, each way


# In label order. WordNet's ids end below n15300051: these are nobody's.
CLASSES = (
    SampleClass("n90000012", "flag, horizontal stripes", _flag, degrees=8),
    SampleClass("n90000135", "picket fence, vertical stripes", _fence, degrees=8),
    SampleClass("n90000248", "chessboard, checkers", _chessboard, degrees=10),
    SampleClass("n90000369", "polka dots", _polka_dots, degrees=45),
    SampleClass("n90000417", "target, concentric rings", _target, shift=0.3),
    SampleClass("n90000580", "sunburst, radial spokes", _sunburst, shift=0.3),
    SampleClass("n90000673", "ball, disc", _ball, shift=0.25),
    SampleClass("n90000794", "cross, plus sign", _cross, degrees=12, shift=0.2),
    SampleClass("n90000826", "brick wall, masonry", _brick_wall, degrees=5),
    SampleClass("n90000951", "zigzag, chevron", _zigzag),
)


def draw(rng: np.random.Generator, label: int, width: int, height: int) -> Image.Image:
    """Draws an RGB picture, in pixels, of `CLASSES[label]`; `rng` decides the rest."""
    drawn = CLASSES[label]
    scale = 2 / min(width, height)
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * scale
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) * scale
    place = across, down = np.meshgrid(x, y)
    if drawn.degrees:
        angle = np.deg2rad(rng.uniform(-drawn.degrees, drawn.degrees))
        cosine, sine = np.cos(angle), np.sin(angle)
        place = cosine * across - sine * down, sine * across + cosine * down
    if drawn.shift:
        place = [axis - rng.uniform(-drawn.shift, drawn.shift) for axis in place]
    mask = drawn.mask(rng, *place).astype(np.float32)[..., None]
    figure, ground = _colors(rng)
    light = rng.uniform(-14, 14) * across + rng.uniform(-14, 14) * down
    grain = rng.standard_normal((height, width), np.float32) * rng.uniform(2, 12)
    pixels = ground + (figure - ground) * mask + (light + grain)[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _colors(rng: np.random.Generator) -> np.ndarray:
    """Figure and ground, (2, 3), told apart by their brightness, either way round."""
    while True:
        hsv = rng.uniform((0, 0.1, 0.1), (1, 0.9, 1), (2, 3))
        pair = np.array([colorsys.hsv_to_rgb(*color) for color in hsv], np.float32)
        brightness = pair @ np.array([0.299, 0.587, 0.114], np.float32)
        if abs(brightness[0] - brightness[1]) > 0.25:
            return 255 * pair


def _picture(seed: list[int], label: int, number: int) -> bytes:
    """Draws and encodes the picture of that number in its split."""
    rng = np.random.default_rng(seed)
    kind = _AWKWARD.get(number % _PERIOD)
    width, height = rng.integers(280, 401), rng.integers(260, 341)
    if kind in ("wide", "tall"):
        width, height = rng.integers(700, 901), rng.integers(120, 161)
    elif kind == "small":
        width, height = rng.integers(90, 201), rng.integers(90, 201)
    if kind == "tall":
        width, height = height, width
    image = draw(rng, label, int(width), int(height))
    options = {"format": "JPEG", "quality": 90}
    if kind in ("greyscale", "cmyk"):
        image = image.convert({"greyscale": "L", "cmyk": "CMYK"}[kind])
    elif kind == "png":
        options = {"format": "PNG", "compress_level": 1}
    elif kind == "exif":
        # "Turn me by a quarter": who obeys takes stripes one way for the other.
        options["exif"] = Image.Exif()
        options["exif"][_EXIF_ORIENTATION] = 6
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def write_archives(
    output_dir: pathlib.Path,
    num_classes: int,
    train_per_class: int,
    validation_per_class: int,
    seed: int,
) -> dict:
    """Writes the archives and lists of the first `num_classes` of `CLASSES`.

    `output_dir` is made if it is not there, both numbers of pictures are of each class,
    and all is drawn from `seed`. Returns the results that the program prints.
    """

    def train_pictures(label):
        for number in range(train_per_class):
            name = f"{CLASSES[label].synset}_{number + 1}.JPEG"
            place = label * train_per_class + number
            yield name, _picture([seed, 0, label, number], label, place)

    def train_tars():
        for label in range(num_classes):
            buffer = io.BytesIO()
            _write_tar(buffer, train_pictures(label))
            yield f"{CLASSES[label].synset}.tar", buffer.getvalue()

    def validation_pictures():
        for number, place in enumerate(order, 1):
            name = f"ILSVRC2012_val_{number:08d}.JPEG"
            yield name, _picture([seed, 1, place], labels[place], place)

    labels = np.repeat(np.arange(num_classes), validation_per_class)
    order = np.random.default_rng([seed, 2]).permutation(len(labels))
    identifiers = _identifiers(num_classes, seed)
    truth = "".join(f"{identifiers[label]}\n" for label in labels[order]).encode()
    words = "".join(f"{c.synset} {c.words}\n" for c in CLASSES[:num_classes])
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / "synset_words.txt").write_text(words)
    (output_dir / _TRUTH).write_bytes(truth)
    with (output_dir / "ILSVRC2012_img_train.tar").open("wb") as file:
        _write_tar(file, train_tars())
    with (output_dir / "ILSVRC2012_img_val.tar").open("wb") as file:
        _write_tar(file, validation_pictures())
    # No time of day in the header: the same flags give the same bytes.
    with gzip.GzipFile(output_dir / f"{_DEVKIT}.tar.gz", "wb", mtime=0) as file:
        contents = {_TRUTH: truth, "meta.mat": _meta_mat(identifiers)}
        _write_tar(file, ((f"{_DEVKIT}/data/{n}", d) for n, d in contents.items()))
    return {
        "num_train": num_classes * train_per_class,
        "num_validation": num_classes * validation_per_class,
        "num_classes": num_classes,
        "output_dir": str(output_dir),
    }


def _write_tar(file: BinaryIO, members: Iterable[tuple[str, bytes]]) -> None:
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _identifiers(num_classes: int, seed: int) -> list[int]:
    """ILSVRC2012_ID of each label: never simply label + 1."""
    identifiers = list(range(1, num_classes + 1))
    np.random.default_rng([seed, 3]).shuffle(identifiers)
    return identifiers if identifiers != sorted(identifiers) else identifiers[::-1]


def _meta_mat(identifiers: list[int]) -> bytes:
    """The devkit's meta.mat: a struct array `synsets`, as a MAT-file of level 5."""
    fields = ("ILSVRC2012_ID", "WNID", "words", "num_children")
    rows = [
        (float(identifiers[label]), *CLASSES[label][:2], 0.0)
        for label in np.argsort(identifiers)
    ]
    synsets = np.array(rows, [(field, object) for field in fields])
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": synsets}, oned_as="column")
    # SciPy's header tells the time of day.
    return b"MATLAB 5.0 MAT-file".ljust(124) + buffer.getvalue()[124:]


def main() -> dict:
    """Writes the archives; returns the results to print."""
    names = ("num_classes", "train_per_class", "validation_per_class", "seed")
    values = [flags.FLAGS[name].value for name in names]
    folder = pathlib.Path(cli.path("output_dir"))
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"--output_dir={folder} is not empty: name a new directory")
    return write_archives(folder, *values)


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "Folder for the archives.", required=True)
    flags.DEFINE_integer("num_classes", 10, "Classes.", 2, len(CLASSES))
    flags.DEFINE_integer("train_per_class", 120, "Training pictures of each.", 1)
    flags.DEFINE_integer("validation_per_class", 20, "Validation pictures of each.", 1)
    flags.DEFINE_integer("seed", 0, "Of everything drawn.", 0)
    cli.run("make_sample_imagenet", main)
