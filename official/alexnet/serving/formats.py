"""The formats of an export: their names and files, and checks before writing."""

import importlib.util
from collections.abc import Sequence

import numpy as np

from official.alexnet.errors import UserError, check_known

FILES = {
    "saved_model": "saved_model",
    "keras": "alexnet.keras",
    "onnx": "alexnet.onnx",
    "litert": "alexnet.tflite",
}
DEFAULT = ("saved_model", "keras")


def check_formats(
    formats: Sequence[str],
    litert_quantization: str = "none",
    features: Sequence[str] = (),
) -> None:
    """Checks that there are such formats and that they can be written here.

    Raises:
        UserError: no format at all, an unknown one, a package is missing, or a
            setting has no format to apply to.
    """
    if not formats:
        raise UserError(f"--formats is empty: name some of {', '.join(FILES)}")
    for name in formats:
        check_known(name, FILES, "--formats: no format is called")
    if litert_quantization != "none" and "litert" not in formats:
        raise UserError(
            f"--litert_quantization={litert_quantization} needs litert among --formats"
        )
    if features and "saved_model" not in formats:
        raise UserError(
            f"--features={','.join(features)} needs saved_model among --formats"
        )
    if "onnx" in formats:
        check_onnx()


def check_onnx() -> None:
    """Checks that the optional package `onnx` is there.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec("onnx") is None:
        raise UserError(
            "ONNX needs the package onnx, which is not installed: "
            "pip install 'official-alexnet[onnx]'"
        )


def ending(layer, format_name: str) -> str:
    """The function that a net ends with, `linear` or `softmax`, by its last layer.

    Raises:
        UserError: it is another.
    """
    function = getattr(layer, "activation", None)
    name = "linear" if function is None else function.__name__
    if name not in ("linear", "softmax"):
        raise UserError(
            f"{format_name}: the net ends with {name}; the writer knows the "
            "classifier_activation None and softmax"
        )
    return name


def check_mean(mean: np.ndarray | None, size: int) -> None:
    """Checks that a mean is None, (size, size, 3) or what broadcasts to it.

    Raises:
        UserError: it is not.
    """
    shape = () if mean is None else np.shape(mean)
    pairs = zip(shape[::-1], (3, size, size), strict=False)
    if len(shape) > 3 or any(side not in (1, whole) for side, whole in pairs):
        raise UserError(
            f"a mean of shape {shape} does not fit the net's input, ({size}, {size}, "
            "3): cut out its centre with preprocessing.central_mean"
        )
