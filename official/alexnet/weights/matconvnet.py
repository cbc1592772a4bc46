"""MatConvNet's .mat files, such as imagenet-caffe-alex.mat."""

import numpy as np

from official.alexnet.data.statistics import IMAGE_SHAPE
from official.alexnet.weights import mat_file
from official.alexnet.weights.preprocessing import Preprocessing


def read(
    data: bytes,
) -> tuple[dict[str, list[np.ndarray]], Preprocessing | None, tuple[str, ...] | None]:
    """Reads a net of either form: `filters` and `biases`, or `weights`.

    Returns for each layer its kernel, (height, width, in, out), and biases; how images
    become its input, RGB; and the names of the classes. None where it says neither.

    Raises:
        Exception: of many kinds, where it is damaged.
        ValueError: it is no net, or grows more than weights do.
    """
    found = mat_file.read(data)
    layers = {}
    for layer in found.get("layers", ()):
        pair = _field(layer, "weights")
        if pair is None:
            pair = [_field(layer, "filters"), _field(layer, "biases")]
        pair = [array for array in pair if array is not None and array.size]
        if not pair:
            continue
        if len(pair) != 2 or any(array.dtype.kind != "f" for array in pair):
            raise ValueError("a layer in it does not have weights and biases")
        name = _field(layer, "name")
        if len(layers) > 99 or not isinstance(name, str):
            raise ValueError("it has too many layers, or one without a name")
        layers[name] = [np.asarray(pair[0], "=f4"), np.ravel(pair[1])]
    meta = found.get("meta")
    normalization = found.get("normalization", _field(meta, "normalization"))
    classes = found.get("classes", _field(meta, "classes"))
    labels = _field(classes, "description")
    if labels is not None:
        labels = tuple(labels)
        if not all(label.isprintable() and label.strip() for label in labels):
            raise ValueError("the names of its classes are not printable")
    return layers, _preprocessing(normalization), labels


def _field(value: list[dict] | dict | None, name: str):
    """A field of a struct, which may be one of an array; None where there is none."""
    if isinstance(value, list) and value:
        value = value[0]
    return value.get(name) if isinstance(value, dict) else None


def _preprocessing(normalization: list[dict] | None) -> Preprocessing | None:
    size, mean = (_field(normalization, n) for n in ("imageSize", "averageImage"))
    if size is None or mean is None:
        return None
    side, mean = int(np.ravel(size)[0]), np.asarray(mean, np.float32)
    image = None
    if mean.shape == (side, side, 3) and side <= IMAGE_SHAPE[0]:
        before = (IMAGE_SHAPE[0] - side) // 2
        after = IMAGE_SHAPE[0] - side - before
        image = np.pad(mean, [(before, after), (before, after), (0, 0)], mode="edge")
    elif mean.size != 3:
        raise ValueError(f"its averageImage is of {mean.shape}")
    if not np.all((mean >= 0) & (mean <= 255)):
        raise ValueError("its averageImage holds what is not in 0 to 255")
    keeps = _field(normalization, "keepAspect")
    resize = "shorter_side" if keeps is not None and keeps.any() else "warp"
    colors = tuple(float(m) for m in mean.reshape(-1, 3).mean(0, dtype=np.float64))
    return Preprocessing(side, mean=colors, mean_image=image, resize=resize)
