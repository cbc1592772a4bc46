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
import struct
import tarfile

import numpy as np
from absl import flags
from PIL import Image

from official.alexnet import cli
from official.alexnet.errors import UserError

_DEVKIT = "ILSVRC2012_devkit_t12"
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


# === Classes: each gives a mask, 0 (background) to 1 (figure) ===
# x and y are (height, width) arrays, the origin in the middle of the picture, the
# shorter side going from -1 to 1. Nothing here changes its class when mirrored.


def _wave(phase: np.ndarray, softness: float = 0.15) -> np.ndarray:
    """A square wave of period 1 with soft edges."""
    return np.clip(0.5 + np.sin(2 * np.pi * phase) / (2 * softness), 0, 1)


def _inside(distance: np.ndarray) -> np.ndarray:
    """1 where the distance to an edge is negative."""
    return np.clip(0.5 - distance / 0.02, 0, 1)


def _turn(rng, x, y, degrees):
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * x - sine * y, sine * x + cosine * y


def _flag(rng, x, y):
    _, y = _turn(rng, x, y, 8)
    return _wave(y * rng.uniform(2.5, 5) + rng.uniform())


def _fence(rng, x, y):
    x, _ = _turn(rng, x, y, 8)
    return _wave(x * rng.uniform(2.5, 5) + rng.uniform())


def _chessboard(rng, x, y):
    x, y = _turn(rng, x, y, 10)
    frequency = rng.uniform(1.5, 2.8)
    waves = np.sin(2 * np.pi * (frequency * x + rng.uniform()))
    waves = waves * np.sin(2 * np.pi * (frequency * y + rng.uniform()))
    return np.clip(0.5 + waves / 0.2, 0, 1)


def _polka_dots(rng, x, y):
    x, y = _turn(rng, x, y, 45)
    frequency = rng.uniform(2.5, 4.5)
    row = np.floor(frequency * y)
    u = (frequency * x + 0.5 * (row % 2) + rng.uniform()) % 1 - 0.5
    v = (frequency * y) % 1 - 0.5
    return np.clip((rng.uniform(0.2, 0.3) - np.hypot(u, v)) / 0.06 + 0.5, 0, 1)


def _target(rng, x, y):
    x, y = x - rng.uniform(-0.3, 0.3), y - rng.uniform(-0.3, 0.3)
    return _wave(np.hypot(x, y * rng.uniform(0.85, 1.18)) * rng.uniform(2.5, 4.5))


def _sunburst(rng, x, y):
    x, y = x - rng.uniform(-0.3, 0.3), y - rng.uniform(-0.3, 0.3)
    spokes = rng.integers(7, 13)
    return _wave(np.arctan2(y, x) / (2 * np.pi) * spokes + rng.uniform(), 0.3)


def _ball(rng, x, y):
    x, y = x - rng.uniform(-0.25, 0.25), y - rng.uniform(-0.25, 0.25)
    return _inside(np.hypot(x, y) - rng.uniform(0.4, 0.65))


def _cross(rng, x, y):
    x, y = _turn(rng, x, y, 12)
    x, y = x - rng.uniform(-0.2, 0.2), y - rng.uniform(-0.2, 0.2)
    length, width = rng.uniform(0.55, 0.8), rng.uniform(0.12, 0.22)
    bars = [np.maximum(abs(a) - length, abs(b) - width) for a, b in ((x, y), (y, x))]
    return _inside(np.minimum(*bars))


def _brick_wall(rng, x, y):
    x, y = _turn(rng, x, y, 5)
    rows = rng.uniform(3, 5)
    v = rows * y + rng.uniform()
    u = (rows / 2.2 * x + 0.5 * (np.floor(v) % 2) + rng.uniform()) % 1
    joint = rng.uniform(0.09, 0.14)
    distance = np.minimum(np.minimum(u, 1 - u) * 2.2, np.minimum(v % 1, 1 - v % 1))
    return np.clip((distance - joint) / 0.06 + 0.5, 0, 1)


def _zigzag(rng, x, y):
    frequency = rng.uniform(1.2, 2.2)
    teeth = abs((frequency * x + rng.uniform()) % 1 - 0.5)
    return _wave(y * rng.uniform(2, 3.2) + teeth * rng.uniform(1.6, 2.2))


def _confetti(rng, x, y):
    mask = np.zeros_like(x)
    for _ in range(rng.integers(16, 26)):
        u, v = _turn(rng, x - rng.uniform(-1, 1), y - rng.uniform(-1, 1), 90)
        sides = np.maximum(v - 0.1, abs(u) * 1.7 - 0.5 * (v + 0.2))
        mask = np.maximum(mask, _inside(sides - 0.01))
    return mask


# WordNet's ids start at n00001740 and end below n15300051: these are nobody's.
# (WordNet id, words, mask), in label order, that is by id.
CLASSES = (
    ("n90000012", "flag, horizontal stripes", _flag),
    ("n90000135", "picket fence, vertical stripes", _fence),
    ("n90000248", "chessboard, checkers", _chessboard),
    ("n90000369", "polka dots", _polka_dots),
    ("n90000417", "target, concentric rings", _target),
    ("n90000580", "sunburst, radial spokes", _sunburst),
    ("n90000673", "ball, disc", _ball),
    ("n90000794", "cross, plus sign", _cross),
    ("n90000826", "brick wall, masonry", _brick_wall),
    ("n90000951", "zigzag, chevron", _zigzag),
    ("n90001063", "confetti, scattered triangles", _confetti),
)


# === Pictures ===


def draw(rng: np.random.Generator, label: int, width: int, height: int) -> Image.Image:
    """Draws one picture of a class.

    Args:
        rng: all its chances come from here.
        label: index into `CLASSES`.
        width: in pixels.
        height: in pixels.

    Returns:
        An RGB picture.
    """
    scale = 2 / min(width, height)
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * scale
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) * scale
    x, y = np.meshgrid(x, y)
    mask = CLASSES[label][2](rng, x, y).astype(np.float32)[..., None]
    figure, ground = _colors(rng)
    light = rng.uniform(-14, 14) * x + rng.uniform(-14, 14) * y
    grain = rng.standard_normal((height, width), np.float32) * rng.uniform(2, 12)
    pixels = ground + (figure - ground) * mask + (light + grain)[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Figure and ground, told apart by their brightness too, either way round."""
    while True:
        pair = np.array(
            [
                colorsys.hsv_to_rgb(
                    rng.uniform(), rng.uniform(0.1, 0.9), rng.uniform(0.1, 1)
                )
                for _ in range(2)
            ],
            np.float32,
        )
        brightness = pair @ np.array([0.299, 0.587, 0.114], np.float32)
        if abs(brightness[0] - brightness[1]) > 0.25:
            return 255 * pair[0], 255 * pair[1]


def picture(rng: np.random.Generator, label: int, awkward: str | None) -> bytes:
    """Draws and encodes one picture.

    Args:
        rng: all its chances come from here.
        label: index into `CLASSES`.
        awkward: one of the values of `_AWKWARD`, or None for a plain JPEG.

    Returns:
        The bytes of the file.
    """
    width, height = rng.integers(280, 401), rng.integers(260, 341)
    if awkward in ("wide", "tall"):
        width, height = rng.integers(700, 901), rng.integers(120, 161)
    elif awkward == "small":
        width, height = rng.integers(90, 201), rng.integers(90, 201)
    if awkward == "tall":
        width, height = height, width
    image = draw(rng, label, int(width), int(height))
    options = {"format": "JPEG", "quality": 90}
    if awkward == "greyscale":
        image = image.convert("L")
    elif awkward == "cmyk":
        image = image.convert("CMYK")
    elif awkward == "png":
        options = {"format": "PNG", "compress_level": 1}
    elif awkward == "exif":
        exif = Image.Exif()
        # "Turn me by a quarter": who obeys takes stripes one way for the other.
        exif[_EXIF_ORIENTATION] = 6
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


# === Archives ===


def write_archives(
    output_dir: pathlib.Path,
    num_classes: int,
    train_per_class: int,
    validation_per_class: int,
    seed: int,
) -> dict:
    """Writes the archives and lists.

    Args:
        output_dir: where to; made if it is not there.
        num_classes: the first so many of `CLASSES`.
        train_per_class: training pictures of each.
        validation_per_class: validation pictures of each.
        seed: of everything drawn.

    Returns:
        The results that the program prints.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    with tarfile.open(output_dir / "ILSVRC2012_img_train.tar", "w") as outer:
        for label in range(num_classes):
            synset = CLASSES[label][0]
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for number in range(train_per_class):
                    rng = np.random.default_rng([seed, 0, label, number])
                    kind = _awkward(label * train_per_class + number)
                    _add(
                        inner,
                        f"{synset}_{number + 1}.JPEG",
                        picture(rng, label, kind),
                    )
            _add(outer, f"{synset}.tar", buffer.getvalue())

    labels = np.repeat(np.arange(num_classes), validation_per_class)
    order = np.random.default_rng([seed, 2]).permutation(len(labels))
    with tarfile.open(output_dir / "ILSVRC2012_img_val.tar", "w") as tar:
        for number, place in enumerate(order):
            rng = np.random.default_rng([seed, 1, place])
            data = picture(rng, labels[place], _awkward(place))
            _add(tar, f"ILSVRC2012_val_{number + 1:08d}.JPEG", data)

    identifiers = _identifiers(num_classes, seed)
    truth = "".join(f"{identifiers[labels[place]]}\n" for place in order)
    (output_dir / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    words = "".join(f"{s} {w}\n" for s, w, _ in CLASSES[:num_classes])
    (output_dir / "synset_words.txt").write_text(words)
    with (
        # No time of day in the header: the same flags give the same bytes.
        gzip.GzipFile(output_dir / f"{_DEVKIT}.tar.gz", "wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        folder = f"{_DEVKIT}/data"
        _add(tar, f"{folder}/ILSVRC2012_validation_ground_truth.txt", truth.encode())
        _add(tar, f"{folder}/meta.mat", _meta_mat(identifiers))
    return {
        "num_train": num_classes * train_per_class,
        "num_validation": num_classes * validation_per_class,
        "num_classes": num_classes,
        "output_dir": str(output_dir),
    }


def _awkward(number: int) -> str | None:
    return _AWKWARD.get(number % _PERIOD)


def _identifiers(num_classes: int, seed: int) -> list[int]:
    """ILSVRC2012_ID of each label: never simply label + 1."""
    identifiers = list(range(1, num_classes + 1))
    np.random.default_rng([seed, 3]).shuffle(identifiers)
    if identifiers == sorted(identifiers):
        identifiers.reverse()
    return identifiers


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _meta_mat(identifiers: list[int]) -> bytes:
    """The devkit's meta.mat: a struct array `synsets`, as a MAT-file of level 5."""
    fields = ("ILSVRC2012_ID", "WNID", "words", "num_children")
    width = 32
    names = b"".join(field.encode().ljust(width, b"\0") for field in fields)
    values = []
    for label in np.argsort(identifiers):
        synset, words, _ = CLASSES[label]
        values += [_mat_number(identifiers[label]), _mat_text(synset)]
        values += [_mat_text(words), _mat_number(0)]
    array = _mat_array(
        2,
        (len(identifiers), 1),
        _mat_element(5, struct.pack("<i", width)) + _mat_element(1, names),
        *values,
        name=b"synsets",
    )
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x100) + b"IM"
    return header + array


def _mat_number(value: int) -> bytes:
    return _mat_array(6, (1, 1), _mat_element(9, struct.pack("<d", value)))


def _mat_text(text: str) -> bytes:
    return _mat_array(4, (1, len(text)), _mat_element(4, text.encode("utf-16-le")))


def _mat_array(kind: int, shape: tuple, *contents: bytes, name: bytes = b"") -> bytes:
    """One array; kinds are 2 struct, 4 char, 6 double."""
    head = _mat_element(6, struct.pack("<II", kind, 0))
    head += _mat_element(5, struct.pack("<ii", *shape)) + _mat_element(1, name)
    return _mat_element(14, head + b"".join(contents))


def _mat_element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


# === Program ===


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    flags.DEFINE_string("output_dir", None, "Folder for the archives.", required=True)
    flags.DEFINE_integer("num_classes", 10, "Classes.", 2, len(CLASSES))
    flags.DEFINE_integer("train_per_class", 120, "Training pictures of each.", 1)
    flags.DEFINE_integer("validation_per_class", 20, "Validation pictures of each.", 1)
    flags.DEFINE_integer("seed", 0, "Of everything drawn.", 0)


def main() -> dict:
    """Writes the archives; returns the results to print."""
    values = flags.FLAGS
    try:
        return write_archives(
            pathlib.Path(cli.path("output_dir")),
            values.num_classes,
            values.train_per_class,
            values.validation_per_class,
            values.seed,
        )
    except OSError as error:
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from None


if __name__ == "__main__":
    define_flags()
    cli.run("make_sample_imagenet", main)
