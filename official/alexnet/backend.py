"""Keras, as the whole package imports it: the net computes with TensorFlow alone."""

import json
import os
import pathlib
import sys

from official.alexnet.errors import UserError


def find_backend() -> tuple[str, str]:
    """The backend that Keras has or, by Keras's own rules, will have once imported.

    Returns:
        Its name, and where it is said.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"].backend.backend(), "it is imported already"
    if backend := os.environ.get("KERAS_BACKEND"):
        return backend, "by KERAS_BACKEND"
    home = os.path.expanduser("~")  # noqa: PTH111 (pathlib's fails without a home)
    folder = pathlib.Path(home if os.access(home, os.W_OK) else "/tmp", ".keras")
    try:
        file = pathlib.Path(os.environ.get("KERAS_HOME", folder), "keras.json")
        return json.loads(file.expanduser().read_text())["backend"], f"by {file}"
    except (OSError, ValueError, LookupError, TypeError, RuntimeError):
        return "tensorflow", "by default"


def _check() -> None:
    backend, source = find_backend()
    if backend != "tensorflow":
        raise UserError(
            f"Keras computes with {backend} ({source}), and this package needs it on "
            "TensorFlow: set KERAS_BACKEND=tensorflow in the environment"
        )


_check()

import keras  # noqa: E402

__all__ = ["keras"]
