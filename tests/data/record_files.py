"""Small TFRecord directories for the tests of this room."""

import io
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from official.alexnet.data import schemas
from official.alexnet.data.records import find_records
from official.alexnet.errors import UserError


def encode(pixels: np.ndarray, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    if kind == "JPEG":
        options = {"quality": 95, "subsampling": 0} | options
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def pil_pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def write_records(
    folder: pathlib.Path, split: str, shards: list[list[tuple[bytes, int]]]
) -> None:
    for index, shard in enumerate(shards):
        path = folder / f"{split}-{index:05d}-of-{len(shards):05d}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for encoded, label in shard:
                writer.write(
                    schemas.classic_example(
                        encoded,
                        height=1,
                        width=1,
                        label=label,
                        synset="n00000001",
                        text="thing",
                        filename="thing.JPEG",
                    )
                )


def photographs(count: int, size: int) -> list[bytes]:
    generator = np.random.default_rng(0)
    return [
        encode(generator.integers(0, 256, (size, size, 3), np.uint8))
        for _ in range(count)
    ]


def refusal(
    data_dir: pathlib.Path, split: str = "train", num_classes: int = 3, **options
) -> str:
    """The one line that is said of records that cannot be used."""
    with pytest.raises(UserError) as caught:
        find_records(str(data_dir), split, num_classes, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text
