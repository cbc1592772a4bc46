"""The nets in PyTorch, which must be there: from the paper and from what was published.

They are written from the paper, the 2012 configuration, Caffe's prototxts, torchvision
and TF-Slim, not from the table of variants.
"""

import dataclasses

import pytest

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
