"""What is subtracted from the images: the mean image and the colour PCA.

Both are taken from the stored 256x256 training images (Krizhevsky et al. 2012,
section 2 for the mean, section 4.1 for the PCA). Sums are kept as integers, so
neither the order of the images nor the order of merging changes a single bit.
"""

import dataclasses
import itertools
import pathlib
import zipfile
import zlib

import numpy as np

from official.alexnet import disk, paths
from official.alexnet.errors import UserError

STATISTICS_FILE = "statistics.npz"
IMAGE_SHAPE = (256, 256, 3)
# What is written takes 0.8 MB.
_MOST_BYTES = 2**24
# Of the colours of pixels in 0..1, RGB, as torchvision's models take them.
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)

# A damaged zip shows itself as any of these, by where it is damaged.
OF_DAMAGED_ZIPS = (
    *(OSError, ValueError, EOFError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
_DTYPES_AND_SHAPES = {
    "mean_image": (np.float32, IMAGE_SHAPE),
    "covariance_eigenvalues": (np.float64, (3,)),
    "covariance_eigenvectors": (np.float64, (3, 3)),
    "num_images": (np.int64, ()),
}


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Mean image and colour PCA of a training set.

    Attributes:
        mean_image: float32 (256, 256, 3), RGB, 0..255; the mean at each position.
        covariance_eigenvalues: float64 (3,), descending, in grey levels squared, of
            the 3x3 covariance of all RGB pixels about the mean colour (divided by
            the number of pixels).
        covariance_eigenvectors: float64 (3, 3); column i belongs to eigenvalue i;
            the entry of largest magnitude in each column is positive.
        num_images: how many images they were taken from.
    """

    mean_image: np.ndarray
    covariance_eigenvalues: np.ndarray
    covariance_eigenvectors: np.ndarray
    num_images: int

    @property
    def pixel_std(self) -> float:
        """One standard deviation for all channels, in grey levels."""
        return float(np.sqrt(np.mean(self.covariance_eigenvalues)))

    def equals(self, other: "Statistics") -> bool:
        """Whether every number is the same."""
        return all(np.array_equal(a, vars(other)[n]) for n, a in vars(self).items())

    def save(self, path: str | pathlib.Path) -> None:
        """Writes an .npz in a folder that exists; the file appears only when whole."""
        arrays = {
            name: np.asarray(getattr(self, name), dtype)
            for name, (dtype, _) in _DTYPES_AND_SHAPES.items()
        }
        with (
            disk.atomic_write(pathlib.Path(path)) as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "Statistics":
        """Reads what `save` wrote; UserError where it is missing, damaged or other."""
        path = paths.local(path)
        remedy = "make it with tools/prepare_imagenet.py"
        if not path.is_file():
            raise UserError(f"no statistics file {path}; {remedy}")
        try:
            # A small file of a huge array is refused before it fills the memory.
            with zipfile.ZipFile(path) as archive:
                if sum(info.file_size for info in archive.infolist()) > _MOST_BYTES:
                    raise ValueError("larger than any statistics")
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in _DTYPES_AND_SHAPES}
        except KeyError as error:
            name = str(error.args[0]).split()[0]
            raise UserError(f"{path} has no array {name}; {remedy}") from None
        except OF_DAMAGED_ZIPS:
            raise UserError(f"{path} is damaged or not an .npz; {remedy}") from None
        for name, (dtype, shape) in _DTYPES_AND_SHAPES.items():
            array = arrays[name]
            if array.shape != shape or array.dtype != dtype:
                raise UserError(
                    f"{path}: {name} is {array.dtype} {array.shape}, "
                    f"expected {np.dtype(dtype)} {shape}; {remedy}"
                )
            if not np.all(np.isfinite(array)):
                raise UserError(f"{path}: {name} holds NaN or infinity; {remedy}")
        return cls(**{**arrays, "num_images": int(arrays["num_images"])})


class StatisticsAccumulator:
    """Exact running sums over images: at each position, and of all rgb x rgb."""

    def __init__(self) -> None:
        self.num_images = 0
        self.pixel_sums = np.zeros(IMAGE_SHAPE, np.int64)
        self.products = np.zeros((3, 3), np.int64)

    def add(self, image: np.ndarray) -> None:
        """Adds one image, uint8 (256, 256, 3), RGB; ValueError for another."""
        if image.dtype != np.uint8 or image.shape != IMAGE_SHAPE:
            raise ValueError(
                f"expected uint8 {IMAGE_SHAPE}, not {image.dtype} {image.shape}"
            )
        self.num_images += 1
        self.pixel_sums += image
        # A row's sum, 256 products below 2^16, is exact in float32.
        planes = image.transpose(2, 0, 1).astype(np.float32, order="C")
        for i, j in itertools.combinations_with_replacement(range(3), 2):
            rows = np.einsum("ij,ij->i", planes[i], planes[j])
            self.products[i, j] += int(rows.sum(dtype=np.float64))
            self.products[j, i] = self.products[i, j]

    def result(self) -> Statistics:
        """The statistics of all images so far; ValueError where there is none."""
        if self.num_images == 0:
            raise ValueError("no image was added")
        num_pixels = self.num_images * IMAGE_SHAPE[0] * IMAGE_SHAPE[1]
        # Python integers: the difference of two huge numbers loses no digit.
        sums = self.pixel_sums.sum(axis=(0, 1)).astype(object)
        products = self.products.astype(object)
        covariance = (num_pixels * products - np.outer(sums, sums)) / num_pixels**2
        eigenvalues, eigenvectors = np.linalg.eigh(covariance.astype(np.float64))
        eigenvalues, eigenvectors = eigenvalues[::-1], eigenvectors[:, ::-1]
        largest = np.argmax(np.abs(eigenvectors), axis=0)
        signs = np.sign(eigenvectors[largest, range(3)])
        return Statistics(
            mean_image=(self.pixel_sums / self.num_images).astype(np.float32),
            covariance_eigenvalues=np.maximum(eigenvalues, 0.0),
            covariance_eigenvectors=eigenvectors * signs,
            num_images=self.num_images,
        )
