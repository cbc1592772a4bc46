"""AlexNet (Krizhevsky et al. 2012) for TensorFlow and Keras, with its two columns.

`AlexNet` is the net, `train`, `evaluate`, `export` and `prepare` are the commands; see
their docstrings. None ends the process: they raise `UserError`, whose text is written
for a person, `WorkerLost` or `Interrupted`.
"""

import importlib
import sys
import types

from official.alexnet import registration

__version__ = "0.1.0"
__all__ = [
    "AlexNet",
    "Interrupted",
    "UserError",
    "WorkerLost",
    "evaluate",
    "export",
    "prepare",
    "train",
]

# Where each is: none is imported before it is asked for, TensorFlow least of all.
_HOMES = {"AlexNet": "training.run_weights"} | dict.fromkeys(
    ("Interrupted", "UserError", "WorkerLost"), "errors"
)

registration.register()


class _Package(types.ModuleType):
    """Keeps the functions' names, though commands have modules of the same names."""

    def __setattr__(self, name: str, value) -> None:
        if name not in ("export", "train"):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES.get(name, "library")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
