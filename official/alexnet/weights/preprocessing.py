"""How a photograph becomes the input that weights were trained on."""

import dataclasses
import json
import math

import numpy as np

from official.alexnet.data.statistics import TORCHVISION_MEAN, TORCHVISION_STD
from official.alexnet.errors import UserError

# Of the mean image that Caffe ships for ILSVRC-2012 (ilsvrc_2012_mean.npy).
CAFFE_MEAN = (104.00698793, 116.66876762, 122.67891434)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The input of a net: (pixels * scale - mean) / std, channel by channel.

    Pixels are 0..255, and the input is square, of `input_size` pixels a side. A net of
    this package reads `rgb`; weights that come from or go to a .caffemodel are turned
    round in their first layer, and nothing else is changed: mean, scale and std stay as
    published. The channel order is that of mean, mean_image and std too. Scale is 1 for
    grey levels 0..255, 1/255 for 0..1; mean and std are those after scaling.

    A mean image, (256, 256, 3) float32, is subtracted instead of `mean`, its centre
    from the centre of the image. `resize` says how an image becomes 256 x 256:
    `shorter_side` (scaled until that is 256, the centre cut out), or `warp` (Caffe:
    both sides). `labels` says the order of the classes.
    """

    input_size: int
    channel_order: str = "rgb"  # Or `bgr`.
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    mean_image: np.ndarray | None = dataclasses.field(default=None, compare=False)
    resize: str = "shorter_side"
    labels: str = "sorted WordNet ids"

    def in_order(self, channel_order: str) -> "Preprocessing":
        """The same with the channels in another order."""
        if channel_order == self.channel_order:
            return self
        image = self.mean_image
        return dataclasses.replace(
            self,
            channel_order=channel_order,
            mean=self.mean[::-1],
            std=self.std[::-1],
            mean_image=None if image is None else image[..., ::-1],
        )

    def input_scale(self) -> str | None:
        """The setting of a run that divides alike; None where there is none.

        That is `unit_variance` for any divisor that is the same for all channels.
        """
        factors = np.array([self.scale / std for std in self.std])
        torchvision = 1 / (255 * np.array(TORCHVISION_STD))
        if np.allclose(factors, 1, rtol=1e-6, atol=0):
            return "none"
        if np.allclose(factors, torchvision, rtol=1e-6, atol=0):
            return "torchvision"
        same = np.allclose(factors, factors[0], rtol=1e-6, atol=0)
        return "unit_variance" if same and self.scale == 1 else None

    def as_dict(self) -> dict:
        """For JSON; of a mean image only the mean of each channel."""
        fields = dataclasses.asdict(dataclasses.replace(self, mean_image=None))
        del fields["mean_image"]
        return fields | {"has_mean_image": self.mean_image is not None}

    def formula(self) -> str:
        """One line for people."""
        mean = "the mean image" if self.mean_image is not None else _show(self.mean)
        pixels = "pixels" if self.scale == 1 else f"pixels * {self.scale:.9g}"
        text = f"{pixels} - {mean}"
        if self.std != (1, 1, 1):
            text = f"({text}) / {_show(self.std)}"
        return f"{self.channel_order.upper()}, {text}"


def _show(values: tuple) -> str:
    return "(" + ", ".join(f"{value:.9g}" for value in values) + ")"


def from_dict(values: object, source: str) -> Preprocessing:
    """What `as_dict` gave.

    Raises:
        UserError: it is something else.
    """
    try:
        fields = dict(values)  # type: ignore[call-overload]
        fields.pop("has_mean_image", None)
        for name in ("mean", "std"):
            if name in fields:
                fields[name] = tuple(float(value) for value in fields[name])
        made = Preprocessing(**fields)
        numbers = (made.scale, *made.mean, *made.std)
        right = (
            type(made.input_size) is int
            and 1 <= made.input_size <= 4096
            and made.channel_order in ("rgb", "bgr")
            and made.mean_image is None
            and made.resize in ("shorter_side", "warp")
            and isinstance(made.labels, str)
            and len(made.mean) == len(made.std) == 3
            and all(math.isfinite(number) for number in numbers)
            and made.scale > 0
            and min(made.std) > 0
        )
    except (TypeError, ValueError):
        right = False
    if not right:
        raise UserError(
            f"{source} does not describe an input: it should hold input_size, "
            "channel_order, scale, mean, std, resize and labels"
        )
    return made


def from_json(text: bytes | str, source: str) -> Preprocessing:
    """As `from_dict`, of a JSON text."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    return from_dict(values, source)


def published(variant: str, input_size: int) -> Preprocessing | None:
    """What a variant's published weights were trained on; None where none were.

    The mean of `caffe` and `caffenet` is that of each channel, which costs nothing to
    carry; they were trained with the mean image.
    """
    if variant in ("caffe", "caffenet"):
        caffe = Preprocessing(
            input_size, channel_order="bgr", mean=CAFFE_MEAN, resize="warp"
        )
        return caffe.in_order("rgb")
    if variant == "owt":
        return Preprocessing(
            input_size, scale=1 / 255, mean=TORCHVISION_MEAN, std=TORCHVISION_STD
        )
    return None
