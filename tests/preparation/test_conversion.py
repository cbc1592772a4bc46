"""The stored image against exact filters in NumPy, and pictures that cannot be read."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, JpegImagePlugin

from official.alexnet.preparation import conversion
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


def _areas(size, count):
    """(count, size): the share of each source pixel in each of `count` equal parts."""
    edges = np.linspace(0, size, count + 1)
    pixels = np.arange(size)
    ends = np.minimum(edges[1:, None], pixels + 1)
    weights = (ends - np.maximum(edges[:-1, None], pixels)).clip(0)
    return weights / weights.sum(1, keepdims=True)


def _cubic(size, count, a=-0.75):
    """(count, size): Keys's kernel with OpenCV's `a`; edge pixels are repeated."""
    places = (np.arange(count) + 0.5) * size / count - 0.5
    weights = np.zeros((count, size))
    for step in (-1, 0, 1, 2):
        pixel = np.floor(places).astype(int) + step
        d = np.abs(places - pixel)
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        value = np.where(d <= 1, near, far)
        np.add.at(weights, (np.arange(count), pixel.clip(0, size - 1)), value)
    return weights


def _exact(image):
    """Shorter side to 256 by exact weights, then the middle; float64."""
    image = np.asarray(image, float)
    sides = image.shape[:2]
    scaled = [round(side * 256 / min(sides)) for side in sides]
    filtered = _areas if min(sides) > 256 else _cubic
    rows, columns = (
        filtered(side, count)[(count - 256) // 2 :][:256]
        for side, count in zip(sides, scaled, strict=True)
    )
    return np.einsum("ij,jkc,lk->ilc", rows, image, columns, optimize=True).clip(0, 255)


@pytest.mark.parametrize(
    "size",
    [
        *((500, 375), (375, 500), (301, 257), (512, 512), (2000, 1500), (257, 5000)),
        *((256, 256), (300, 256), (255, 300), (90, 200), (1000, 131), (3, 2)),
    ],
)
def test_shorter_side_to_256_then_the_centre(size):
    """Noise, in which each source pixel shows."""
    rng = np.random.default_rng(size)
    image = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    cropped = resize_and_crop(image)
    assert cropped.dtype == np.uint8
    difference = np.abs(cropped - _exact(image))
    assert difference.max() <= 1
    # Rounding alone is a quarter.
    assert difference.mean() < 0.3


def test_stored_jpeg_is_quality_95_rgb_of_256():
    stored = convert_image(_encode(_photo(400, 300)))
    image = Image.open(io.BytesIO(stored.jpeg))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (256, 256))
    # The tables of libjpeg's quality 95, first row of luminance (ITU-T T.81 K.1
    # scaled by 10 %), and chroma at half resolution both ways.
    assert image.quantization[0][:8] == [2, 1, 1, 2, 2, 4, 5, 6]
    assert JpegImagePlugin.get_sampling(image) == 2
    assert np.abs(stored.pixels - _exact(_photo(400, 300))).mean() < 2


@pytest.mark.parametrize(
    "options",
    [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"quality": 30}],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_has_the_pixels_that_pillow_reads(mode, options, monkeypatch):
    encoded = _encode(_photo(301, 257, mode), "JPEG", **options)
    quick = convert_image(encoded)
    monkeypatch.setattr(conversion, "_decode_quickly", lambda *_: None)
    assert quick.jpeg == convert_image(encoded).jpeg


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
    expected = _exact(image.convert("RGB"))
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
