"""The 4096 features of fc7 of many images, kept in a file (section 6.1)."""

import hashlib
import json
import pathlib
import shutil
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.data import atomic, preprocessing
from official.alexnet.errors import UserError
from visualizing.photographs import Images, Photograph, square
from visualizing.trained import Trained


class Extractor:
    """From images to features: fc7 after its ReLU (or tanh), without dropout.

    The features are those of the centre crop, float32.

    Args:
        net: the net.
        batch_size: images at once.
    """

    def __init__(self, net: Trained, batch_size: int):
        model = net.model()
        layers = {layer.name: layer for layer in model.layers}
        last = layers.get("relu7") or layers["tanh7"]
        self._model = keras.Model(model.input, last.output)
        self._normalize = net.normalize()
        self._batch_size = batch_size
        self._net = net
        self.size = last.output.shape[1]

    @tf.function(reduce_retracing=True)
    def _of_squares(self, squares: tf.Tensor) -> tf.Tensor:
        crops = preprocessing.center_crop(squares, self._model.input_shape[1])
        return tf.cast(self._model(self._normalize(crops)), tf.float32)

    def of_photographs(self, photographs: Sequence[Photograph]) -> np.ndarray:
        """Features of a few photographs: (count, size) float32."""
        pixels = np.stack([photograph.pixels for photograph in photographs])
        batches = [
            self._of_squares(tf.constant(pixels[start : start + self._batch_size]))
            for start in range(0, len(pixels), self._batch_size)
        ]
        return np.concatenate(batches)

    def of_images(self, images: Images, cache_dir: pathlib.Path) -> np.ndarray:
        """Features of all images, from the cache where it has them.

        Args:
            images: what to look at.
            cache_dir: a file fc7-KEY.npy is kept here; KEY is of the weights, the
                input and the images' files.

        Returns:
            A table on the disk, a row an image in the order of `images.dataset`:
            `features` float32 (size,), `place` int64 and `label` int32.

        Raises:
            UserError: an image cannot be read, or there is no room for the table.
        """
        path = cache_dir / f"fc7-{self._key(images)}.npy"
        if path.is_file():
            try:
                table = np.load(path, mmap_mode="r", allow_pickle=False)
                print(f"features of {len(table):,} images: {path}", flush=True)
                return table
            except (ValueError, EOFError):
                print(f"{path} is damaged: computing it again", flush=True)
        cache_dir.mkdir(parents=True, exist_ok=True)
        row = [("features", "<f4", (self.size,)), ("place", "<i8"), ("label", "<i4")]
        _check_room(cache_dir, len(images) * np.dtype(row).itemsize)
        with atomic.atomic_write(path) as temporary:
            table = np.lib.format.open_memmap(
                temporary, "w+", np.dtype(row), (len(images),)
            )
            self._fill(table, images)
            table.flush()
            del table
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def _fill(self, table: np.ndarray, images: Images) -> None:
        batches = (
            images.dataset()
            .map(lambda *one: (one[0], square(one[1]), one[2]), tf.data.AUTOTUNE)
            .batch(self._batch_size)
            .prefetch(2)
        )
        done = 0
        try:
            for places, squares, labels in batches:
                rows = table[done : done + len(places)]
                rows["features"] = self._of_squares(squares)
                rows["place"], rows["label"] = places, labels
                before, done = done, done + len(places)
                if done // 1024 > before // 1024 or done == len(table):
                    print(f"features: {done:,} of {len(table):,} images", flush=True)
        except tf.errors.OpError as error:
            raise images.explained(error) from error

    def _key(self, images: Images) -> str:
        """Changes with anything that the features depend on."""
        config = self._net.config
        digest = hashlib.sha256()
        for name, array in sorted(self._net.weights.items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        # What `normalize` makes of black and white crops tells mean and scale.
        side = self._model.input_shape[1]
        for level in (0, 255):
            crop = tf.fill((1, side, side, 3), tf.constant(level, tf.uint8))
            digest.update(self._normalize(crop).numpy().tobytes())
        net = json.dumps([vars(config.model), config.runtime.dtype], default=list)
        digest.update(net.encode())
        digest.update(json.dumps(images.identity()).encode())
        return digest.hexdigest()[:16]


def _check_room(folder: pathlib.Path, size: int) -> None:
    """A disk that fills up under a mapped file ends the process without a word."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(
            f"{folder}: the features take {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB "
            "are free; name another --cache_dir"
        )
