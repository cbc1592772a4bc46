"""Weights from a file into a model."""

import typing

from official.alexnet.modeling.variants import Variant
from official.alexnet.weights import files

if typing.TYPE_CHECKING:
    from official.alexnet.backend import keras


def load_into(
    model: "keras.Model", path: str, net: Variant, *, sha256: str | None = None
) -> None:
    """Gives a model of either form the weights in a file.

    Args:
        model: as `AlexNet` builds it from `net`.
        path: a .caffemodel, .pth (.pt, .bin), .safetensors or .keras file, a
            checkpoint such as `runs/paper/ckpt-300`, or the directory of a run.
        net: the net, with its options.
        sha256: of the file, or its first 8 digits or more.

    Raises:
        UserError: the file cannot be read, or its weights are not those of the net;
            the model was not changed.
    """
    from official.alexnet.modeling import weights  # noqa: PLC0415

    found = files.read(path, net, sha256=sha256)
    variables = weights.variables_by_name(model)
    files.check(found, net, weights.whole_shapes(variables))
    weights.set_weights(model, found.weights)
