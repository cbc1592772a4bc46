"""PyTorch's input pipeline: a DataLoader of JPEGs, as its users write it."""

import io
import pathlib

import numpy as np
import torch
from PIL import Image

from benchmarking.settings import Settings


class Jpegs(torch.utils.data.Dataset):
    """Random crops and mirrors as float tensors.

    Args:
        jpegs: encoded squares.
        length: how many an epoch; the list is gone through again and again.
        size: side of a crop.
    """

    def __init__(self, jpegs: list[bytes], length: int, size: int):
        self._jpegs = jpegs
        self._length = length
        self._size = size

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        encoded = self._jpegs[index % len(self._jpegs)]
        image = Image.open(io.BytesIO(encoded)).convert("RGB")
        border = image.width - self._size
        left, top = torch.randint(0, border + 1, (2,)).tolist()
        image = image.crop((left, top, left + self._size, top + self._size))
        if torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return pixels.float().div(255), index % 1000


def make_loader(
    settings: Settings, folder: pathlib.Path
) -> torch.utils.data.DataLoader:
    """A loader with a worker a core; one pass over it is a sample.

    Args:
        settings: of the benchmark.
        folder: of JPEG files, which are read into memory.
    """
    jpegs = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    length = settings.batches * settings.batch_size
    return torch.utils.data.DataLoader(
        Jpegs(jpegs, length, settings.input_size),
        settings.batch_size,
        shuffle=True,
        num_workers=settings.threads,
        persistent_workers=True,
    )
