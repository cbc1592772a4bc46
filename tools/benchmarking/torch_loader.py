"""PyTorch's input pipeline: a DataLoader of JPEGs, as its users write it."""

import io
import pathlib
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from benchmarking.settings import NUM_CLASSES, Settings


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
        return pixels.float().div(255), index % NUM_CLASSES


def one_pass(settings: Settings, folder: pathlib.Path) -> Callable[[str], float]:
    """Task of a child: seconds of one pass of a loader with a worker a core.

    Args:
        settings: of the benchmark.
        folder: of JPEG files, which are read into memory.
    """
    jpegs = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    length = settings.batches * settings.batch_size
    loader = torch.utils.data.DataLoader(
        Jpegs(jpegs, length, settings.input_size),
        settings.batch_size,
        shuffle=True,
        num_workers=settings.threads,
        persistent_workers=True,
    )

    def answer(_: str) -> float:
        started = time.perf_counter()
        for _ in loader:
            pass
        return time.perf_counter() - started

    return answer
