"""Every variant against the same net written again in PyTorch.

The nets below are written from the paper, the 2012 configuration, Caffe's prototxts
and torchvision, not from the table of variants. The same weights and the same dropout
masks must give the same logits and the same gradients of a training step.
"""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from official.alexnet import AlexNet
from official.alexnet.modeling.variants import VARIANTS
from official.alexnet.modeling.weights import get_weights, set_weights

torch = pytest.importorskip("torch")
F = pytest.importorskip("torch.nn.functional")


@dataclasses.dataclass
class Weights:
    """Weights and dropout masks of a net, in PyTorch's order of axes."""

    arrays: dict[str, "torch.Tensor"]
    masks: dict[str, "torch.Tensor"]
    training: bool = True

    def conv(self, name, x, groups=1, pad=1, stride=1):
        kernel = self.arrays[f"{name}/kernel"].permute(3, 2, 0, 1)
        bias = self.arrays[f"{name}/bias"]
        return F.conv2d(x, kernel, bias, stride, pad, groups=groups)

    def dense(self, name, x, columns=1):
        if columns > 1:
            kernels = self.arrays[f"{name}/kernel"].chunk(columns, dim=1)
            parts = zip(x.chunk(columns, dim=1), kernels, strict=True)
            pairs = ((y.movedim(1, -1).flatten(1), kernel) for y, kernel in parts)
            return torch.cat([y @ k for y, k in pairs], 1) + self.arrays[f"{name}/bias"]
        if x.dim() == 4:
            x = x.permute(0, 2, 3, 1).flatten(1)
        return x @ self.arrays[f"{name}/kernel"] + self.arrays[f"{name}/bias"]

    def classic_dropout(self, name, x):
        """As in 2012: the masked units in training, half of all in testing."""
        return x * self.masks[name] if self.training else x * 0.5

    def inverted_dropout(self, name, x):
        """As in Caffe and PyTorch."""
        return x * self.masks[name] * 2 if self.training else x

    def batch_norm(self, name, x):
        parameters = [self.arrays[f"{name}/{p}"] for p in ("gamma", "beta")]
        moving = [
            self.arrays[f"{name}/moving_{p}"].detach() for p in ("mean", "variance")
        ]
        return F.batch_norm(x, *moving, *parameters, training=self.training)


def lrn(x, k, alpha_over_n, columns=1):
    """PyTorch divides alpha by n = 5 itself; a column sees only its own maps."""
    parts = x.chunk(columns, dim=1)
    return torch.cat(
        [F.local_response_norm(part, 5, 5 * alpha_over_n, 0.75, k) for part in parts], 1
    )


def spatial_norm(x):
    """`rnorm` of the 2012 source: 5 x 5 pixels of the same map, alpha = 0.001 / 25."""
    ones = torch.ones(x.shape[1], 1, 5, 5)
    sums = F.conv2d(x**2, ones, padding=2, groups=x.shape[1])
    return x / (1 + 0.001 / 25 * sums) ** 0.75


def pool(x):
    return F.max_pool2d(x, 3, 2)


def ceil_pool(x):
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


def pool_2x2(x):
    return F.max_pool2d(x, 2, 2, ceil_mode=True)


def pad_227(x):
    return F.pad(x, (0, 3, 0, 3))


def tail(w, x, dropout, activation=F.relu, columns=1):
    """fc6 to fc8 with dropout after fc6 and fc7."""
    x = dropout("drop6", activation(w.dense("fc6", x, columns)))
    x = dropout("drop7", activation(w.dense("fc7", x, columns)))
    return w.dense("fc8", x)


def bottleneck(w, x, dropout):
    """Linear units before fc8, for 21,843 classes."""
    x = dropout("drop6", F.relu(w.dense("fc6", x)))
    x = dropout("drop7", F.relu(w.dense("fc7", x)))
    return w.dense("fc8", w.dense("fc7_1", x))


def text(w, x, columns=2, norm=True, pool=pool, pads=(2, 1), conv6=False):
    """Section 3.5 of the paper."""
    lrn_12 = (lambda x: lrn(x, 2, 1e-4, columns)) if norm else (lambda x: x)
    x = pool(lrn_12(F.relu(w.conv("conv1", pad_227(x), pad=0, stride=4))))
    x = pool(lrn_12(F.relu(w.conv("conv2", x, columns, pad=pads[0]))))
    x = F.relu(w.conv("conv3", x))
    x = F.relu(w.conv("conv4", x, columns))
    x = pool(F.relu(w.conv("conv5", x, columns, pad=pads[1])))
    if conv6:
        x = F.relu(w.conv("conv6", x))
    return tail(w, x, w.classic_dropout)


def source(
    w,
    x,
    columns=2,
    norms=2,
    pool=ceil_pool,
    pads=(2, 1),
    conv6=False,
    head=tail,
    meet=1,
):
    """layers-145.cfg: LRN and pooling below the first ReLU, two norms in layer 2."""
    x = w.conv("conv1", pad_227(x), pad=0, stride=4)
    if norms:
        x = lrn(x, 2, 1e-4 / 5, columns)
    x = F.relu(pool(x))
    x = F.relu(w.conv("conv2", x, columns, pad=pads[0]))
    if norms:
        x = lrn(x, 2, 1e-4 / 5, columns)
    if norms == 2:
        x = spatial_norm(x)
    x = pool(x)
    x = F.relu(w.conv("conv3", x, meet))
    x = F.relu(w.conv("conv4", x, columns))
    x = F.relu(pool(w.conv("conv5", x, columns, pad=pads[1])))
    if conv6:
        x = F.relu(w.conv("conv6", x))
    return head(w, x, w.classic_dropout)


def caffe(w, x, pool_first=False):
    """bvlc_alexnet, or CaffeNet, which pools first."""

    def norm_and_pool(x):
        if pool_first:
            return lrn(ceil_pool(x), 1, 1e-4 / 5)
        return ceil_pool(lrn(x, 1, 1e-4 / 5))

    x = norm_and_pool(F.relu(w.conv("conv1", x, pad=0, stride=4)))
    x = norm_and_pool(F.relu(w.conv("conv2", x, 2, pad=2)))
    x = F.relu(w.conv("conv3", x))
    x = F.relu(w.conv("conv4", x, 2))
    x = ceil_pool(F.relu(w.conv("conv5", x, 2)))
    return tail(w, x, w.inverted_dropout)


def torchvision(w, x):
    """torchvision.models.alexnet: dropout on what fc6 and fc7 read."""
    x = pool(F.relu(w.conv("conv1", x, pad=2, stride=4)))
    x = pool(F.relu(w.conv("conv2", x, pad=2)))
    x = F.relu(w.conv("conv3", x))
    x = F.relu(w.conv("conv4", x))
    x = pool(F.relu(w.conv("conv5", x)))
    x = w.inverted_dropout("drop5", x)
    x = w.inverted_dropout("drop6", F.relu(w.dense("fc6", x)))
    return w.dense("fc8", F.relu(w.dense("fc7", x)))


def slim(w, x):
    """alexnet_v2 of TF-Slim: no padding in conv1, so 5 x 5 maps at fc6."""
    x = pool(F.relu(w.conv("conv1", x, pad=0, stride=4)))
    x = pool(F.relu(w.conv("conv2", x, pad=2)))
    x = F.relu(w.conv("conv4", F.relu(w.conv("conv3", x))))
    return tail(w, pool(F.relu(w.conv("conv5", x))), w.inverted_dropout)


SMALL = {"pool": pool_2x2, "pads": (1, 0)}
NETS = {
    "paper": text,
    "original": source,
    "one_gpu": lambda w, x: text(w, x, columns=1),
    "conv6": lambda w, x: text(w, x, conv6=True),
    "no_lrn": lambda w, x: text(w, x, norm=False),
    "pool2x2": lambda w, x: text(w, x, **SMALL),
    "caffe": caffe,
    "caffenet": lambda w, x: caffe(w, x, pool_first=True),
    "owt": torchvision,
    "slim": slim,
    "original_one_gpu": lambda w, x: source(w, x, columns=1),
    "original_conv6": lambda w, x: source(w, x, conv6=True),
    "original_no_lrn": lambda w, x: source(w, x, norms=0),
    "original_pool2x2": lambda w, x: source(w, x, **SMALL),
    "original_conv6_bottleneck": lambda w, x: source(w, x, conv6=True, head=bottleneck),
    "cuda_convnet2": lambda w, x: source(w, x, columns=1, norms=1),
    "original_no_exchange": lambda w, x: source(
        w, x, meet=2, head=lambda *a: tail(*a, columns=2)
    ),
}


def tanh(w, x):
    x = pool(lrn(torch.tanh(w.conv("conv1", pad_227(x), pad=0, stride=4)), 2, 1e-4, 2))
    x = pool(lrn(torch.tanh(w.conv("conv2", x, 2, pad=2)), 2, 1e-4, 2))
    x = torch.tanh(w.conv("conv3", x))
    x = torch.tanh(w.conv("conv4", x, 2))
    x = pool(torch.tanh(w.conv("conv5", x, 2)))
    return tail(w, x, w.classic_dropout, torch.tanh)


def batch_norm(w, x):
    """Between each convolution and its ReLU, and no LRN."""
    x = w.batch_norm("norm1", w.conv("conv1", pad_227(x), pad=0, stride=4))
    x = w.batch_norm("norm2", w.conv("conv2", pool(F.relu(x)), 2, pad=2))
    x = w.batch_norm("norm3", w.conv("conv3", pool(F.relu(x))))
    x = w.batch_norm("norm4", w.conv("conv4", F.relu(x), 2))
    x = w.batch_norm("norm5", w.conv("conv5", F.relu(x), 2))
    return tail(w, pool(F.relu(x)), w.classic_dropout)


def without_1(w, x):
    """conv2 reads the image, in strides of conv1's 4 times pool1's 2."""
    x = pool(lrn(F.relu(w.conv("conv2", x, pad=2, stride=8)), 2, 1e-4, 2))
    x = F.relu(w.conv("conv3", x))
    x = F.relu(w.conv("conv4", x, 2))
    x = pool(F.relu(w.conv("conv5", x, 2)))
    return tail(w, x, w.classic_dropout)


def without_2_and_4(w, x):
    """pool2 stays."""
    x = F.relu(w.conv("conv1", pad_227(x), pad=0, stride=4))
    x = pool(pool(lrn(x, 2, 1e-4, 2)))
    x = F.relu(w.conv("conv3", x))
    x = pool(F.relu(w.conv("conv5", x, 2)))
    return tail(w, x, w.classic_dropout)


def without_3_and_5(w, x):
    """conv4 reads both columns, as conv3 did; pool5 stays."""
    x = pool(lrn(F.relu(w.conv("conv1", pad_227(x), pad=0, stride=4)), 2, 1e-4, 2))
    x = pool(lrn(F.relu(w.conv("conv2", x, 2, pad=2)), 2, 1e-4, 2))
    x = pool(F.relu(w.conv("conv4", x)))
    return tail(w, x, w.classic_dropout)


def torchvision_with_lrn(w, x):
    x = pool(lrn(F.relu(w.conv("conv1", x, pad=2, stride=4)), 2, 1e-4))
    x = pool(lrn(F.relu(w.conv("conv2", x, pad=2)), 2, 1e-4))
    x = F.relu(w.conv("conv3", x))
    x = F.relu(w.conv("conv4", x))
    x = w.inverted_dropout("drop5", pool(F.relu(w.conv("conv5", x))))
    x = w.inverted_dropout("drop6", F.relu(w.dense("fc6", x)))
    return w.dense("fc8", F.relu(w.dense("fc7", x)))


OPTIONS = {
    "tanh": ({"activation": "tanh"}, tanh),
    "batch norm": ({"normalization": "batch_norm"}, batch_norm),
    "no norm": ({"normalization": "none"}, NETS["no_lrn"]),
    "LRN": ({"variant": "owt", "normalization": "lrn"}, torchvision_with_lrn),
    "pooling 2/2": (
        {"pool_size": 2},
        lambda w, x: text(w, x, pool=lambda x: F.max_pool2d(x, 2, 2)),
    ),
    "without 1": ({"remove": ["conv1"]}, without_1),
    "without 2, 4": ({"remove": ["conv2", "conv4"]}, without_2_and_4),
    "without 3, 5": ({"remove": ["conv3", "conv5"]}, without_3_and_5),
}


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
    F.cross_entropy(logits, torch.tensor(labels)).backward()
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
            if name.replace("conv", "norm").replace("bias", "beta") in weights:
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
