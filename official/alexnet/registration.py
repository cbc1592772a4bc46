"""Tells Keras of the classes that saved nets name, without importing what they need."""

import importlib
import sys

_CLASSES = {
    "modeling.columns": ("Edges", "Exchange"),
    "modeling.dropout": ("Dropout",),
    "modeling.initializers": ("SlicedNormal", "SlicedUniform"),
    "modeling.layers": (
        *("Convolution", "Dense", "LocalResponseNormalization"),
        *("MaxPool", "ReLU", "Tanh"),
    ),
    "modeling.normalization": ("BatchNormalization", "SpatialResponseNormalization"),
    "training.optimizer": ("PaperSGD",),
}


class _Later:
    """Stands for a class in Keras's registry until a file asks for it."""

    def __init__(self, module: str, name: str):
        self._module, self._name = f"official.alexnet.{module}", name

    def from_config(self, config: dict):
        # The module registers the class itself, in this one's place.
        module = importlib.import_module(self._module)
        return getattr(module, self._name).from_config(config)


class _AfterKeras:
    """Finds Keras where Python does, and registers the classes once it is imported."""

    @classmethod
    def find_spec(cls, name: str, path=None, target=None):
        if name != "keras":
            return None
        finders = [finder for finder in sys.meta_path if finder is not cls]
        found = (finder.find_spec(name, path, target) for finder in finders)
        spec = next(filter(None, found), None)
        if spec is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module) -> None:
                execute(module)
                _register()

            spec.loader.exec_module = execute_and_register
        return spec


def register() -> None:
    """Registers all classes with Keras, now or as soon as it is imported."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _AfterKeras)


def _register() -> None:
    known = importlib.import_module("keras.saving").get_custom_objects()
    for module, names in _CLASSES.items():
        for name in names:
            known.setdefault(f"official.alexnet>{name}", _Later(module, name))
