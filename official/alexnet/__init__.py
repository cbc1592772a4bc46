"""AlexNet (Krizhevsky et al. 2012) for TensorFlow and Keras, with its two columns.

`AlexNet` is the net, `train`, `evaluate`, `export` and `prepare` are the commands; see
their docstrings. None ends the process: they raise `UserError`, whose text is written
for a person, `WorkerLost` or `Interrupted`.
"""

import sys
import types

from official.alexnet import registration
from official.alexnet.errors import Interrupted, UserError, WorkerLost
from official.alexnet.library import evaluate, export, prepare, train

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

registration.register()


class _Package(types.ModuleType):
    """Keeps the functions' names, though commands have modules of the same names."""

    def __setattr__(self, name: str, value) -> None:
        if name not in ("export", "train"):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str):
    # Lazily, so that the binaries answer --help without starting TensorFlow.
    if name == "AlexNet":
        from official.alexnet.training.run_weights import AlexNet  # noqa: PLC0415

        return AlexNet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
