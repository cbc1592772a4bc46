"""The stored image against Pillow step by step, and pictures that cannot be read."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, JpegImagePlugin

from official.alexnet.preparation.conversion import (
    BadImageError,
    convert_image,
    resize_and_crop,
)


def _photo(width, height, mode="RGB"):
    rng = np.random.default_rng(width * height)
    blobs = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    image = blobs.resize((width, height), Image.Resampling.BICUBIC)
    return image.convert(mode)


def _encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _two_steps(image):
    """Shorter side to 256, then the middle: the whole picture is resized.

    By TensorFlow's area averaging or Pillow's bicubic.
    """
    shorter = min(image.size)
    size = [round(side * 256 / shorter) for side in image.size]
    if shorter > 256:
        area = tf.image.resize(
            np.asarray(image), size[::-1], tf.image.ResizeMethod.AREA
        )
        resized = np.rint(area)
    else:
        resized = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    left, top = (size[0] - 256) // 2, (size[1] - 256) // 2
    return resized[top : top + 256, left : left + 256].astype(int)


@pytest.mark.parametrize(
    "size",
    [(500, 375), (375, 500), (301, 257), (256, 256), (90, 200), (1000, 131), (3, 2)],
)
def test_shorter_side_to_256_then_the_centre(size):
    image = _photo(*size)
    cropped = np.asarray(resize_and_crop(image), int)
    # One grey level: the window is rounded otherwise than the whole.
    assert np.abs(cropped - _two_steps(image)).max() <= 1


def test_shrinking_is_the_mean_over_an_area():
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    mean = pixels.reshape(256, 2, 256, 2, 3).mean((1, 3))
    shrunk = np.asarray(resize_and_crop(Image.fromarray(pixels)), float)
    assert np.abs(shrunk - mean).max() <= 0.5


def test_stored_jpeg_is_quality_95_rgb_of_256():
    stored = convert_image(_encode(_photo(400, 300)))
    image = Image.open(io.BytesIO(stored.jpeg))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (256, 256))
    # The tables of libjpeg's quality 95, first row of luminance (ITU-T T.81 K.1
    # scaled by 10 %), and chroma at half resolution both ways.
    assert image.quantization[0][:8] == [2, 1, 1, 2, 2, 4, 5, 6]
    assert JpegImagePlugin.get_sampling(image) == 2
    assert np.abs(stored.pixels - _two_steps(_photo(400, 300))).mean() < 2


def test_pixels_are_what_tensorflow_will_read():
    stored = convert_image(_encode(_photo(400, 300)))
    decoded = tf.io.decode_jpeg(stored.jpeg, dct_method="INTEGER_ACCURATE").numpy()
    assert stored.pixels.dtype == np.uint8
    np.testing.assert_array_equal(stored.pixels, decoded)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
def test_modes_of_png_become_rgb(mode):
    image = _photo(300, 256, mode)
    if mode == "P":  # the default one has dots, which suffer as a JPEG
        image = _photo(300, 256).quantize(16, dither=Image.Dither.NONE)
    expected = _two_steps(image.convert("RGB"))
    stored = convert_image(_encode(image))
    assert stored.pixels.shape == (256, 256, 3)
    mean = {"1": 12, "P": 5}.get(mode, 3)
    assert np.abs(stored.pixels - expected).mean() < mean


def test_cmyk_jpeg_becomes_rgb():
    image = Image.new("RGB", (300, 300), (200, 40, 90))
    stored = convert_image(_encode(image.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(stored.pixels.mean((0, 1)) - [200, 40, 90]).max() < 3


def test_sixteen_bit_greyscale_is_scaled_not_clipped():
    values = np.full((300, 300), 0x4080, np.uint16)
    stored = convert_image(_encode(Image.fromarray(values)))
    np.testing.assert_allclose(stored.pixels, 0x40, atol=1)


def test_exif_orientation_is_ignored():
    image = Image.new("RGB", (300, 300))
    image.paste((255, 255, 255), (0, 0, 300, 100))  # a white band at the top
    exif = Image.Exif()
    exif[274] = 6
    stored = convert_image(_encode(image, "JPEG", exif=exif))
    assert stored.pixels[40].mean() > 250
    assert stored.pixels[128].mean() < 5
    assert Image.open(io.BytesIO(stored.jpeg)).getexif().get(274) is None


def _png_header_only(width, height):
    """A PNG that claims to be huge."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = b"IDAT" + zlib.compress(b"")
    chunk += struct.pack(">I", len(data) - 4) + data
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(data))


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "neither JPEG nor PNG"),
        (b"hello, world", "neither JPEG nor PNG"),
        (_encode(_photo(40, 30), "GIF"), "neither JPEG nor PNG"),
        (_encode(_photo(300, 300), "JPEG")[:2000], "truncated"),
        (_encode(_photo(300, 300))[:2000], "truncated"),
        (_png_header_only(30_000, 30_000), "exceeds|too large"),
        (_png_header_only(10_000, 9_000), "exceeds|too large"),
    ],
    ids=["empty", "text", "gif", "cut jpeg", "cut png", "bomb", "large"],
)
def test_bad_images_say_why(encoded, reason):
    with pytest.raises(BadImageError, match=reason) as caught:
        convert_image(encoded)
    assert "\n" not in str(caught.value)


def test_a_long_thin_picture_costs_no_more_than_its_window():
    """Resized whole, this one would take 4 GB."""
    stored = convert_image(_encode(Image.new("RGB", (200_000, 10), (10, 200, 30))))
    np.testing.assert_allclose(stored.pixels.mean((0, 1)), [10, 200, 30], atol=3)
