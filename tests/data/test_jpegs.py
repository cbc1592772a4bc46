"""Prepared JPEGs outside of TensorFlow: the same pixels, and what is left to it."""

import io
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from record_files import encode, photographs, pil_pixels, write_records

from official.alexnet.data import jpegs, preprocessing

SIZE, CROP = 64, 41
ROOT = pathlib.Path(__file__).parents[2]


def crops(encoded, offsets=None, mirrored=None, size=SIZE):
    """Centre crops, unmirrored, if nothing else is said."""
    count = len(encoded)
    offsets = [((SIZE - size) // 2,) * 2] * count if offsets is None else offsets
    mirrored = np.zeros(count, bool) if mirrored is None else mirrored
    return jpegs.decode_crops(
        *(np.array(encoded, object), np.array(offsets), np.array(mirrored)),
        size=size,
        image_size=SIZE,
    )


def pixels(size=(SIZE, SIZE), seed=0):
    # Smooth, so that chroma at half resolution means something.
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


def grey():
    buffer = io.BytesIO()
    Image.fromarray(pixels()).convert("L").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "encoded",
    [
        *(encode(pixels(), subsampling=s, quality=95) for s in (0, 1, 2)),
        encode(pixels(), progressive=True),
        encode(pixels(), optimize=True, comment=b"\xff\xc0 in a comment"),
        grey(),
    ],
    ids=["4:4:4", "4:2:2", "4:2:0", "progressive", "comment", "grey"],
)
def test_pixels_are_pillows_and_tensorflows(encoded):
    images, decoded = crops([encoded])
    assert decoded.all()
    np.testing.assert_array_equal(images[0], pil_pixels(encoded))
    whole = preprocessing.decode_image(tf.constant(encoded)).numpy()
    np.testing.assert_array_equal(images[0], whole)


def test_crops_and_mirrors_are_windows_of_the_whole():
    encoded = [encode(pixels(seed=i), subsampling=2) for i in range(4)]
    offsets, mirrored = [(0, 0), (23, 0), (5, 23), (23, 17)], [False, True, True, False]
    images, decoded = crops(encoded, offsets, mirrored, CROP)
    assert decoded.all()
    for i, (top, left) in enumerate(offsets):
        window = pil_pixels(encoded[i])[top : top + CROP, left : left + CROP]
        expected = window[:, ::-1] if mirrored[i] else window
        np.testing.assert_array_equal(images[i], expected)


def left_to_tensorflow():
    good = encode(pixels())
    cmyk = io.BytesIO()
    Image.fromarray(pixels()).convert("CMYK").save(cmyk, "JPEG")
    height = good.index(b"\xff\xc0") + 5
    # A marker may begin with more than one 0xff: this one hides where the header is.
    small, wrong = encode(pixels((SIZE // 2,) * 2)), good[height - 5 : height + 6]
    hiding = b"\xff\xff\xe1\xea\x62" + (bytes(0xE1EA - 3) + wrong).ljust(60000)
    return {
        "smaller than it seems": small[:2] + hiding + small[2:],
        "PNG": encode(pixels(), "PNG"),
        "other size": encode(pixels((SIZE, 96))),
        "as many pixels": encode(pixels((SIZE // 2, 2 * SIZE))),
        "CMYK": cmyk.getvalue(),
        "bomb": good[:height] + b"\xff" * 4 + good[height + 4 :],
        "12 bits": good[: height - 1] + b"\x0c" + good[height:],
        "cut short": good[:-200],
        "cut in the header": good[:30],
        "noise inside": good[:-300] + b"\xff\x11" * 50 + good[-200:],
        "empty": b"",
        "no picture": b"no picture",
    }


@pytest.mark.parametrize(
    "encoded",
    left_to_tensorflow().values(),
    ids=[name.replace(" ", "_") for name in left_to_tensorflow()],
)
def test_what_is_no_whole_square_is_left_and_the_rest_decoded(encoded):
    good = encode(pixels())
    images, decoded = crops([good, encoded, good])
    assert decoded.tolist() == [True, False, True]
    np.testing.assert_array_equal(images[2], pil_pixels(good))


def test_tensorflow_takes_the_memory_over():
    for size in (SIZE, CROP):
        images, _ = crops([encode(pixels())] * 3, size=size)
        assert images.ctypes.data % 64 == 0


@pytest.mark.slow
@pytest.mark.parametrize("at_the_end", ["", "raise SystemExit(3)", "loop = [batches]"])
def test_python_ends_while_batches_are_prefetched(tmp_path, at_the_end):
    examples = [(encoded, 0) for encoded in photographs(64, SIZE)]
    write_records(tmp_path, "train", [examples])
    code = f"""
from official.alexnet.data import lanes, pipeline, records
batches = iter(pipeline.training_dataset(
    records.find_records({str(tmp_path)!r}, "train", 1), lanes.Share.of(64), seed=0,
    image_size={SIZE}, crop_size={CROP}))
for _ in range(20):
    next(batches)
{at_the_end}
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert done.returncode == (3 if "3" in at_the_end else 0), done.stderr[-2000:]
    assert "terminate" not in done.stderr
