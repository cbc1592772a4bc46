"""Every variant against the same net written again in PyTorch, see `torch_nets`.

The same weights and the same dropout masks must give the same logits and the same
gradients of a training step.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from torch_nets import NETS, OPTIONS, Weights, torch  # Skips without PyTorch.

from official.alexnet import AlexNet
from official.alexnet.modeling.variants import VARIANTS
from official.alexnet.modeling.weights import get_weights, set_weights


def draw(model: keras.Model, rng: np.random.Generator) -> None:
    """Weights with which no layer's output is small, nor all alike."""
    drawn = {}
    for name, array in get_weights(model).items():
        fan_in = max(1, np.prod(array.shape[:-1]))
        drawn[name] = rng.normal(0, np.sqrt(2 / fan_in), array.shape)
        if name.endswith(("gamma", "variance")):
            drawn[name] = rng.uniform(0.5, 2, array.shape)
    set_weights(model, drawn)


def step(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> dict:
    """Logits when not training; then logits, masks and gradients of one step."""
    drops = [layer for layer in model.layers if layer.name.startswith("drop")]
    inside = [tensor for layer in drops for tensor in (layer.input, layer.output)]
    tested = model(images).numpy()
    with tf.GradientTape() as tape:
        logits, *pairs = keras.Model(model.input, [model.output, *inside])(
            images, training=True
        )
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        loss = tf.reduce_mean(losses)
    variables = model.trainable_variables
    found = tape.gradient(loss, [variable.value for variable in variables])
    masks: dict[str, list] = {}
    for layer, before, after in zip(drops, pairs[::2], pairs[1::2], strict=True):
        mask = (after.numpy() != 0) | (before.numpy() == 0)
        masks.setdefault(layer.name.rstrip("ab"), []).append(mask)
    moved = {n: array for n, array in get_weights(model).items() if "moving" in n}
    for variable, gradient in zip(variables, found, strict=True):
        variable.assign(gradient)
    gradients = get_weights(model)
    return {
        "tested": tested,
        "logits": logits.numpy(),
        "masks": {name: np.concatenate(parts, -1) for name, parts in masks.items()},
        "gradients": {n: gradients[n] for n in gradients if n not in moved},
        "moved": moved,
    }


def torch_step(net, weights: dict, masks: dict, images, labels) -> dict:
    """The same with PyTorch's autograd."""
    arrays = {name: torch.tensor(array) for name, array in weights.items()}
    for name, array in arrays.items():
        array.requires_grad_("moving" not in name)
    w = Weights(
        arrays,
        {
            name: torch.tensor(mask.transpose(0, 3, 1, 2) if mask.ndim == 4 else mask)
            for name, mask in masks.items()
        },
    )
    x = torch.tensor(images.transpose(0, 3, 1, 2))
    w.training = False
    tested = net(w, x).detach().numpy()
    w.training = True
    logits = net(w, x)
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
    return {
        "tested": tested,
        "logits": logits.detach().numpy(),
        "gradients": {
            name: array.grad.numpy()
            for name, array in arrays.items()
            if array.grad is not None
        },
        "moved": {n: array.numpy() for n, array in arrays.items() if "moving" in n},
    }


def assert_close(got: np.ndarray, expected: np.ndarray, what: str, limit=1e-4) -> None:
    scale = np.abs(expected).max()
    assert scale > 1e-6, f"{what} says nothing: it is 0"
    error = np.abs(got - expected).max() / scale
    assert error <= limit, f"{what} differs by {error:.1e} of its largest value"


def compare(net, arguments: dict, size: int, scale=60, count=4, seed=4):
    """Both forms against PyTorch and against each other."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0, scale, (count, size, size, 3)).astype(np.float32)
    labels = np.arange(count) % 7
    variant = VARIANTS[arguments.get("variant", "paper")]
    steps = []
    for num_columns in sorted({1, variant.num_columns}):
        model = AlexNet(
            num_classes=7,
            num_columns=num_columns,
            classifier_activation=None,
            input_size=size,
            **arguments,
        )
        if num_columns == 1:
            draw(model, rng)
            weights = get_weights(model)
        set_weights(model, weights)
        steps.append(step(model, images, labels))
    expected = torch_step(net, weights, steps[0]["masks"], images, labels)
    for got in steps:
        for what in ("tested", "logits"):
            assert_close(got[what], expected[what], what)
        assert got["gradients"].keys() == expected["gradients"].keys()
        for name, gradient in expected["gradients"].items():
            beta = name.replace("conv", "norm").replace("bias", "beta")
            if name.startswith("conv") and beta in weights:
                continue  # Batch norm takes the mean away, and the bias with it.
            assert_close(got["gradients"][name], gradient, name)
        for name, moved in got["moved"].items():
            assert_close(moved, expected["moved"][name], name)
    first, last = steps[0], steps[-1]
    for what in ("tested", "logits"):
        assert_close(last[what], first[what], f"{what} of columns", 1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_equals_pytorch(variant):
    # Sizes at which pooling leaves a rest, so that dropping it shows.
    size = 96 if variant in ("caffe", "caffenet") else 100
    compare(NETS[variant], {"variant": variant, "width": 0.125}, size)


@pytest.mark.parametrize("option", OPTIONS)
def test_option_equals_pytorch(option):
    arguments, net = OPTIONS[option]
    # With raw grey levels tanh would be flat everywhere.
    scale = 0.5 if option == "tanh" else 60
    compare(net, {"width": 0.125, **arguments}, 100, scale)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_equals_pytorch_at_full_size(variant):
    """Of two draws of images one may fail.

    Where two maxima or a ReLU's 0 are nearer than rounding, the gradient goes another
    way, and conv1's differs by about 1e-2. PyTorch in float32 is as far from PyTorch
    in float64 then, in about one draw of four.
    """
    size = 227 if variant in ("caffe", "caffenet") else 224
    arguments = {"variant": variant}
    try:
        compare(NETS[variant], arguments, size, count=2)
    except AssertionError:
        compare(NETS[variant], arguments, size, count=2, seed=5)
