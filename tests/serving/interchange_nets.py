"""Nets whose answers tell images apart, and images that are not all alike."""

import keras
import numpy as np

from official.alexnet import AlexNet
from official.alexnet.modeling.variants import VARIANTS

# Every published net, and the options that bring other layers.
NETS = {
    **{name: {"variant": name} for name in VARIANTS},
    "batch_norm": {"variant": "paper", "normalization": "batch_norm"},
    "tanh": {"variant": "original", "activation": "tanh"},
    "no_dropout": {"variant": "paper", "dropout": 0.0},
    "removed": {"variant": "caffenet", "remove": ("conv2", "conv4")},
}
# Of these, the ones that have all kinds of layers.
LAYERS_OF_ALL_KINDS = (
    *("paper", "original", "pool2x2", "caffenet", "owt"),
    *("batch_norm", "tanh", "removed"),
)


def make_images(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Noise, ramps and stripes of random colours, (count, size, size, 3) uint8."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, size)
    images = []
    for i in range(count):
        colors = rng.uniform(0, 255, (2, 3))
        if i % 3 == 0:
            share = rng.uniform(0, 1, (size, size))
        elif i % 3 == 1:
            share = np.add.outer(ramp, ramp) / 2
        else:
            share = np.broadcast_to(np.arange(size) // 5 % 2, (size, size))
        images.append(colors[0] + share[..., None] * (colors[1] - colors[0]))
    return np.stack(images).astype(np.uint8)


def make_net(
    name: str,
    pixels: np.ndarray | None = None,
    *,
    width: float = 0.125,
    num_classes: int = 20,
    **arguments,
) -> keras.Model:
    """A net with random weights of which every one matters to the answer.

    Args:
        name: out of `NETS`.
        pixels: what the net will see: its logits will have deviation 2 there, so that
            probabilities differ and none is 1.
        width: as for `AlexNet`.
        num_classes: as for `AlexNet`.
        **arguments: others of `AlexNet`.
    """
    model = AlexNet(**NETS[name], num_classes=num_classes, width=width, **arguments)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name == "kernel":
                fan_in = np.prod(weight.shape[:-1])
                values = rng.normal(0, np.sqrt(2 / fan_in), weight.shape)
            elif weight.name in ("gamma", "moving_variance"):
                values = rng.uniform(0.5, 2, weight.shape)
            elif weight.name in ("bias", "beta", "moving_mean"):
                values = rng.normal(0, 0.3, weight.shape)
            else:
                continue  # A dropout's seed.
            weight.assign(values)
    if pixels is not None:
        fc8 = model.get_layer("fc8")
        logits = keras.Model(model.input, fc8.output)(pixels)
        fc8.kernel.assign(fc8.kernel * (2 / np.std(np.float32(logits))))
    return model


def check_close(found: dict, logits: np.ndarray) -> None:
    """Compares `logits` and `probabilities` with the logits they should come from."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    assert set(found) == {"logits", "probabilities"}
    assert found["logits"].shape == logits.shape
    assert np.abs(found["logits"] - logits).max() <= 1e-4 * np.abs(logits).max()
    assert np.abs(found["probabilities"] - probabilities).max() <= 1e-5
