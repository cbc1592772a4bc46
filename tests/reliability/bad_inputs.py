"""Pictures and records as they should not be, and some that only look so.

Each kind says what must become of it: `good`, `bad`, or `either` (a flipped byte may
hit what no decoder looks at). That is the oracle; nothing of the package is used here.
"""

import functools
import io
import struct
import zlib

import numpy as np
from PIL import Image

SIZE = 256


def picture(number: int) -> Image.Image:
    """A smooth picture whose colours tell its number."""
    across = np.linspace(-20, 20, SIZE)
    color = [30 + 32 * (number // 6**i % 6) for i in range(3)]
    pixels = np.clip(np.array(color) + across[:, None, None] + across[:, None], 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def encode(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    if kind == "JPEG":
        options = {"quality": 90} | options
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _chunk(name: bytes, data: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + crc


def png(width: int, height: int, depth: int, color: int, compressed: bytes) -> bytes:
    """A PNG with a header of its own; color 0 is grey, 2 RGB, 4 grey with alpha."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", compressed)
    return b"\x89PNG\r\n\x1a\n" + chunks + _chunk(b"IEND", b"")


@functools.cache
def bomb() -> bytes:
    """30,000 x 30,000 black pixels in a hundred kilobytes."""
    compressor = zlib.compressobj(9)
    row = bytes(1 + 30_000 // 8)
    parts = [compressor.compress(row * 1000) for _ in range(30)]
    return png(30_000, 30_000, 1, 0, b"".join([*parts, compressor.flush()]))


def _png_16_bit(image: Image.Image, channels: int, rng) -> bytes:
    upper = np.asarray(image if channels == 3 else image.convert("L"), np.uint16)
    values = (upper << 8 | rng.integers(0, 256, upper.shape, np.uint16)).astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in values)
    return png(SIZE, SIZE, 16, {1: 0, 3: 2}[channels], zlib.compress(raw))


def _without_adobe(cmyk: bytes) -> bytes:
    """With the word in a comment, which says nothing of the colours."""
    at = cmyk.index(b"Adobe") - 4
    comment = b"\xff\xfe\x00\x07Adobe"
    return cmyk[:2] + comment + cmyk[2:at] + cmyk[at + 16 :]


def _lying_jpeg(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xc0\x00\x11\x08") + 5
    return jpeg[:at] + struct.pack(">HH", 65_000, 65_000) + jpeg[at + 4 :]


def flip(data: bytes, rng: np.random.Generator, count: int, start: int = 0) -> bytes:
    """Flips a bit in each of `count` bytes."""
    flipped = bytearray(data)
    for position in rng.integers(start, len(data), count):
        flipped[position] ^= 1 << int(rng.integers(8))
    return bytes(flipped)


def _cut(data: bytes, rng: np.random.Generator, most: float = 1.0) -> bytes:
    return data[: int(rng.integers(30, int(len(data) * most)))]


def _animated(kind: str):
    return lambda image, rng: encode(
        image, kind, save_all=True, append_images=[image.rotate(90)], duration=100
    )


# kind -> (what must become of it, how it is made of a picture)
PICTURES = {
    "jpeg": ("good", lambda image, rng: encode(image)),
    "jpeg progressive": ("good", lambda image, rng: encode(image, progressive=True)),
    "jpeg grey": ("good", lambda image, rng: encode(image.convert("L"))),
    "jpeg cmyk": ("good", lambda image, rng: encode(image.convert("CMYK"))),
    "jpeg + tail": ("good", lambda image, rng: encode(image) + rng.bytes(50)),
    "png": ("good", lambda image, rng: encode(image, "PNG")),
    "png palette": ("good", lambda image, rng: encode(image.quantize(64), "PNG")),
    "png rgba": ("good", lambda image, rng: encode(image.convert("RGBA"), "PNG")),
    "png grey": ("good", lambda image, rng: encode(image.convert("L"), "PNG")),
    "png grey+alpha": ("good", lambda image, rng: encode(image.convert("LA"), "PNG")),
    "png 16-bit": ("good", lambda image, rng: _png_16_bit(image, 3, rng)),
    "png 16-bit grey": ("good", lambda image, rng: _png_16_bit(image, 1, rng)),
    "png animated": ("good", _animated("PNG")),
    "1x1": ("good", lambda image, rng: encode(image.resize((1, 1)), "PNG")),
    "20000x1": ("good", lambda image, rng: encode(image.resize((20_000, 1)))),
    "1x20000": ("good", lambda image, rng: encode(image.resize((1, 20_000)), "PNG")),
    "empty": ("bad", lambda image, rng: b""),
    "one byte": ("bad", lambda image, rng: rng.bytes(1)),
    "html": ("bad", lambda image, rng: b"<html>404 Not Found</html>" * 9),
    "noise": ("bad", lambda image, rng: b"\xff\xd8\xff" + rng.bytes(500)),
    "gif": ("bad", lambda image, rng: encode(image, "GIF")),
    "gif animated": ("bad", _animated("GIF")),
    "webp": ("bad", lambda image, rng: encode(image, "WEBP")),
    "webp animated": ("bad", _animated("WEBP")),
    "bmp": ("bad", lambda image, rng: encode(image.resize((9, 9)), "BMP")),
    "jpeg cut": ("bad", lambda image, rng: _cut(encode(image), rng)),
    "png cut": ("bad", lambda image, rng: _cut(encode(image, "PNG"), rng, 0.9)),
    "jpeg lying size": ("bad", lambda image, rng: _lying_jpeg(encode(image))),
    "png lying size": (
        "bad",
        lambda image, rng: png(100_000, 100_000, 8, 2, zlib.compress(b"\0" * 99)),
    ),
    "png bomb": ("bad", lambda image, rng: bomb()),
    "cmyk, no Adobe": (
        "bad",
        lambda image, rng: _without_adobe(encode(image.convert("CMYK"))),
    ),
    "jpeg flipped": (
        "either",
        lambda image, rng: flip(encode(image), rng, int(rng.integers(1, 5)), 2),
    ),
    "jpeg head flipped": (
        "either",
        lambda image, rng: flip(encode(image)[:620], rng, 2, 2) + encode(image)[620:],
    ),
    "png flipped": ("either", lambda image, rng: flip(encode(image, "PNG"), rng, 2, 8)),
}


def pictures(count: int, seed: int, first: int = 0):
    """Yields (number, kind, what must become of it, bytes), all kinds in turn."""
    rng = np.random.default_rng(seed)
    kinds = list(PICTURES)
    for number in range(first, first + count):
        kind = kinds[number % len(kinds)]
        expected, make = PICTURES[kind]
        yield number, kind, expected, make(picture(number), rng)
