"""Any photograph to the stored form: RGB, 256x256, JPEG quality 95."""

import dataclasses
import io
import warnings

import numpy as np
from PIL import Image

STORED_SIZE = 256
JPEG_QUALITY = 95
# What OpenCV's and libjpeg's defaults gave at quality 95: chroma at half resolution.
# It is also the quicker to decode and the smaller on disk.
JPEG_SUBSAMPLING = "4:2:0"
# Pillow's own limit (a 256 MB picture), and that of data/pictures.py.
MAX_PIXELS = 89_478_485


class BadImageError(Exception):
    """An image that cannot be read; the text is the reason."""


@dataclasses.dataclass(frozen=True)
class StoredImage:
    """An image as the records hold it.

    Attributes:
        jpeg: the encoded image.
        pixels: uint8 (256, 256, 3), RGB; what decoding `jpeg` gives.
    """

    jpeg: bytes
    pixels: np.ndarray


def convert_image(encoded: bytes) -> StoredImage:
    """Converts an encoded picture to the stored form.

    As in section 2, with the filters and the JPEG quality of cuda-convnet2's
    make-data (2014): the shorter side becomes 256, by area averaging when shrinking
    and bicubic when enlarging, and the central 256x256 is kept. EXIF orientation is
    ignored, as it was then: the pixels count as they are stored.

    Args:
        encoded: the bytes of a JPEG or PNG, whatever the file's name says.

    Returns:
        The JPEG and its decoded pixels.

    Raises:
        BadImageError: the picture is damaged, too large or of another format.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG"))
            if image.width * image.height > MAX_PIXELS:
                raise BadImageError(f"{image.width}x{image.height} pixels is too large")
            if image.mode == "CMYK" and "adobe" not in image.info:
                raise BadImageError(
                    "is CMYK without Adobe's marker, which could mean two pictures"
                )
            rgb = _to_rgb(image)
        except BadImageError:
            raise
        # Pillow's decoders raise almost any exception on damaged bytes.
        except Exception as error:
            raise BadImageError(_reason(error)) from None
    buffer = io.BytesIO()
    resize_and_crop(rgb).save(
        buffer, "JPEG", quality=JPEG_QUALITY, subsampling=JPEG_SUBSAMPLING
    )
    pixels = np.asarray(Image.open(buffer))
    return StoredImage(buffer.getvalue(), pixels)


def resize_and_crop(image: Image.Image) -> Image.Image:
    """Scales the shorter side to 256 and keeps the central square.

    Args:
        image: an RGB picture of any size.

    Returns:
        A 256x256 picture.
    """
    shorter = min(image.size)
    scaled = [max(STORED_SIZE, round(s * STORED_SIZE / shorter)) for s in image.size]
    offset = [(s - STORED_SIZE) // 2 for s in scaled]
    ratio = [source / target for source, target in zip(image.size, scaled, strict=True)]
    # The crop window in source pixels: only what is kept is computed, so that a
    # picture of 20,000x10 costs no more than any other.
    left, top = (o * r for o, r in zip(offset, ratio, strict=True))
    right, bottom = ((o + STORED_SIZE) * r for o, r in zip(offset, ratio, strict=True))
    box = (left, top, min(right, image.width), min(bottom, image.height))
    if shorter > STORED_SIZE:
        return _average_areas(image, box)
    return image.resize((STORED_SIZE, STORED_SIZE), Image.Resampling.BICUBIC, box)


def _average_areas(
    image: Image.Image, box: tuple[float, float, float, float]
) -> Image.Image:
    """Averages the area each stored pixel covers, parts of source pixels included.

    Pillow's BOX filter takes a source pixel whole or not at all.
    """
    left, top, right, bottom = box
    # Whole source pixels around the window.
    x, y = int(left), int(top)
    window = np.asarray(image.crop((x, y, int(np.ceil(right)), int(np.ceil(bottom)))))
    columns = _area_weights(left - x, right - x, window.shape[1])
    rows = _area_weights(top - y, bottom - y, window.shape[0])
    average = np.einsum(
        "ij,jkc,lk->ilc", rows, window.astype(np.float32), columns, optimize=True
    )
    return Image.fromarray(np.rint(average).clip(0, 255).astype(np.uint8))


def _area_weights(start: float, end: float, size: int) -> np.ndarray:
    """(256, size): the share of each source pixel in each stored one."""
    edges = np.linspace(start, end, STORED_SIZE + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(
        edges[:-1, None], pixels
    )
    weights = overlap.clip(0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):
        # 16-bit greyscale PNG: Pillow would clip at 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "neither JPEG nor PNG"
    return " ".join(str(error).split()) or type(error).__name__
