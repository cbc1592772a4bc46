"""Any photograph to the stored form: RGB, 256x256, JPEG quality 95."""

import contextlib
import io
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

STORED_SIZE = 256
# What OpenCV's and libjpeg's defaults gave at quality 95, 4:2:0 chroma, is also the
# quicker to decode and the smaller on disk.
_ENCODING = (
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
)
# Of a set: whatever of the conversion changes a byte of it.
SETTINGS = {
    "image_size": STORED_SIZE,
    "resized_by": "area, cubic",  # OpenCV's, when shrinking and when enlarging.
    "jpeg_quality": 95,
    "jpeg_subsampling": "4:2:0",
}
# Pillow's own limit (a 256 MB picture), and that of data/pictures.py.
_MAX_PIXELS = 89_478_485
# The longer side of what is enlarged, in shorter sides.
_LONGEST = 16


class BadImageError(Exception):
    """An image that cannot be read; the text is the reason."""


class StoredImage(NamedTuple):
    """A JPEG as the records hold it, and what it decodes to: (256, 256, 3) RGB."""

    jpeg: bytes
    pixels: np.ndarray


def convert_image(encoded: bytes) -> StoredImage:
    """Converts a JPEG or PNG, whatever its file's name says, to the stored form.

    As in section 2, with OpenCV's filters and the JPEG quality of cuda-convnet2's
    make-data (2014): the shorter side becomes 256, by area averaging when shrinking and
    bicubic when enlarging, and the central 256x256 is kept. EXIF orientation is
    ignored, as it was then: the pixels count as they are stored. Raises BadImageError
    where the picture is damaged, too large or of another format.
    """
    image = resize_and_crop(_decode(encoded))
    jpeg = cv2.imencode(".jpg", image, _ENCODING)[1]
    pixels = cv2.cvtColor(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return StoredImage(jpeg.tobytes(), pixels)


def resize_and_crop(image: np.ndarray) -> np.ndarray:
    """Scales uint8 (height, width, 3) to a shorter side of 256, keeps the middle."""
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter < STORED_SIZE:
        # Enlarged as a whole, a picture of 200,000x10 would take 4 GB.
        longest = _LONGEST * shorter
        image = _middle(image, longest + height % 2, longest + width % 2)
    if shorter != STORED_SIZE:
        height, width = (round(s * STORED_SIZE / shorter) for s in image.shape[:2])
        method = cv2.INTER_AREA if shorter > STORED_SIZE else cv2.INTER_CUBIC
        image = cv2.resize(image, (width, height), interpolation=method)
    return np.ascontiguousarray(_middle(image, STORED_SIZE, STORED_SIZE))


def _middle(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of an image; a side that is shorter is kept whole."""
    top = max(0, image.shape[0] - height) // 2
    left = max(0, image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _decode(encoded: bytes) -> np.ndarray:
    """The pixels as uint8 BGR, as OpenCV has them."""
    try:
        image = Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG"))
        if image.width * image.height > _MAX_PIXELS:
            raise BadImageError(f"{image.width}x{image.height} pixels is too large")
        if image.mode == "CMYK" and "adobe" not in image.info:
            raise BadImageError(
                "is CMYK without Adobe's marker, which could mean two pictures"
            )
        pixels = _decode_quickly(encoded, image)
        return _to_bgr(image) if pixels is None else pixels
    except Image.UnidentifiedImageError:
        raise BadImageError("neither JPEG nor PNG") from None
    except MemoryError:
        raise  # It says nothing of the picture.
    # Pillow's decoders raise almost any exception on damaged bytes.
    except Exception as error:
        text = " ".join(str(error).split())
        raise BadImageError(text or type(error).__name__) from None


def _decode_quickly(encoded: bytes, image: Image.Image) -> np.ndarray | None:
    """A JPEG by OpenCV, which gives Pillow's pixels; None where Pillow has to judge.

    OpenCV rounds CMYK otherwise, refuses a PNG that has lost nothing but its end, and
    prints what it finds wrong with one.
    """
    if image.format == "PNG" or image.mode not in ("L", "RGB"):
        return None
    with contextlib.suppress(cv2.error):
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    return None


def _to_bgr(image: Image.Image) -> np.ndarray:
    image.load()
    if image.mode.startswith("I"):
        # 16-bit greyscale PNG: Pillow would clip at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR)
