"""Mean image and colour PCA against NumPy, and files that are not what they seem."""

import numpy as np
import pytest

from official.alexnet.data.statistics import Statistics, StatisticsAccumulator
from official.alexnet.errors import UserError


def _images(count, seed=0):
    """Images with correlated channels and a pattern of their own at each position."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(110, 50, (count, 256, 256, 1))
    own = rng.normal(0, [25, 10, 4], (count, 256, 256, 3))
    slope = np.linspace(-30, 30, 256)[:, None, None] * [1.0, 0.2, -0.5]
    return np.clip(shared + own + slope, 0, 255).astype(np.uint8)


def _accumulated(images):
    accumulator = StatisticsAccumulator()
    for image in images:
        accumulator.add(image)
    return accumulator


def test_mean_image_is_the_mean_at_each_position():
    images = _images(5)
    mean = _accumulated(images).result().mean_image
    assert mean.dtype == np.float32
    np.testing.assert_array_equal(mean, np.mean(images, axis=0).astype(np.float32))


def test_pca_agrees_with_numpy_on_all_pixels():
    images = _images(4)
    statistics = _accumulated(images).result()
    covariance = np.cov(images.reshape(-1, 3).T.astype(np.float64), bias=True)
    values = statistics.covariance_eigenvalues
    vectors = statistics.covariance_eigenvectors

    np.testing.assert_allclose(
        values, np.sort(np.linalg.eigvalsh(covariance))[::-1], rtol=1e-9
    )
    np.testing.assert_allclose(covariance @ vectors, vectors * values, atol=1e-7)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-12)
    assert statistics.num_images == 4
    np.testing.assert_allclose(
        statistics.pixel_std, np.sqrt(np.trace(covariance) / 3), rtol=1e-9
    )


def test_sign_of_each_eigenvector_is_fixed():
    vectors = _accumulated(_images(2)).result().covariance_eigenvectors
    for column in vectors.T:
        assert column[np.argmax(np.abs(column))] > 0


def test_sums_keep_every_digit_at_the_size_of_imagenet():
    """A covariance from rounded sums would be lost here: mean 250, variance 1/4."""
    image = np.full((256, 256, 3), 250, np.uint8)
    image[::2] = 251
    accumulator = _accumulated([image])
    count = 1_281_167
    accumulator.num_images *= count
    accumulator.pixel_sums *= count
    accumulator.products *= count
    statistics = accumulator.result()
    np.testing.assert_allclose(
        statistics.covariance_eigenvalues, [0.75, 0, 0], atol=1e-12
    )
    np.testing.assert_allclose(
        statistics.covariance_eigenvectors[:, 0], np.full(3, 3**-0.5)
    )


def test_order_of_images_changes_no_bit():
    images = _images(6)
    assert _accumulated(images).result().equals(_accumulated(images[::-1]).result())


@pytest.mark.parametrize(
    "image",
    [np.zeros((256, 256, 3), np.float32), np.zeros((224, 224, 3), np.uint8)],
    ids=["float", "224"],
)
def test_other_images_are_refused(image):
    with pytest.raises(ValueError, match="expected uint8"):
        StatisticsAccumulator().add(image)


def test_no_images_have_no_statistics():
    with pytest.raises(ValueError, match="no image"):
        StatisticsAccumulator().result()


def test_save_and_load_keep_every_bit(tmp_path):
    path = tmp_path / "statistics.npz"
    saved = _accumulated(_images(2)).result()
    saved.save(path)
    loaded = Statistics.load(path)
    for name in ("mean_image", "covariance_eigenvalues", "covariance_eigenvectors"):
        array = getattr(loaded, name)
        assert array.dtype == getattr(saved, name).dtype
        np.testing.assert_array_equal(array, getattr(saved, name))
    assert loaded.num_images == 2
    assert type(loaded.num_images) is int
    assert [p.name for p in tmp_path.iterdir()] == ["statistics.npz"]


def test_same_statistics_give_the_same_file(tmp_path):
    for name in ("a", "b"):
        _accumulated(_images(1)).result().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "statistics.npz"
    statistics = _accumulated(_images(1)).result()
    statistics.save(path)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(UserError, match="No space left on device"):
        statistics.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def _write_other(path, **changes):
    arrays = {
        "mean_image": np.zeros((256, 256, 3), np.float32),
        "covariance_eigenvalues": np.ones(3),
        "covariance_eigenvectors": np.eye(3),
        "num_images": np.int64(1),
    } | changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean_image": np.zeros((224, 224, 3), np.float32)}, "mean_image is float32"),
        ({"mean_image": np.zeros((256, 256, 3))}, "mean_image is float64"),
        ({"covariance_eigenvalues": None}, "no array covariance_eigenvalues"),
        ({"covariance_eigenvalues": np.full(3, np.nan)}, "holds NaN"),
        ({"num_images": np.array([{}], object)}, "is damaged"),
    ],
)
def test_load_refuses_other_contents(tmp_path, changes, message):
    path = tmp_path / "statistics.npz"
    _write_other(path, **changes)
    with pytest.raises(UserError, match=message) as caught:
        Statistics.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_load_refuses_missing_and_damaged_files(tmp_path):
    path = tmp_path / "statistics.npz"
    with pytest.raises(UserError, match="no statistics file"):
        Statistics.load(path)
    _write_other(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[1000] ^= 1
    deflated = bytearray(whole)  # So the list of contents says of the first.
    deflated[whole.index(b"PK\x01\x02") + 10] = 8
    deflated[whole.index(b"\x93NUMPY")] = 0xFF
    cut = whole[:-100], whole[: len(whole) // 2]
    for damaged in (b"", b"hello", *cut, flipped, deflated):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged"):
            Statistics.load(path)
