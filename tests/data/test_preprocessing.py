"""Decoding, resizing, crops, colour noise and normalisation against NumPy and PIL."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from official.alexnet.data import preprocessing
from official.alexnet.data.statistics import Statistics


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def statistics() -> Statistics:
    """Eigenvalues as ImageNet's, with eigenvectors that are not symmetric."""
    vectors, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    return Statistics(
        mean_image=np.random.default_rng(2)
        .uniform(0, 255, (256, 256, 3))
        .astype(np.float32),
        covariance_eigenvalues=np.array([14830.4, 1376.0, 388.9]),
        covariance_eigenvectors=vectors,
        num_images=1,
    )


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGB", "JPEG", {"quality": 95, "subsampling": 2}),
        ("RGB", "JPEG", {"quality": 80, "progressive": True}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {"quality": 95}),
        ("RGB", "PNG", {}),
        ("L", "PNG", {}),
        ("P", "PNG", {}),
    ],
)
def test_decodes_what_pillow_decodes(mode, kind, options):
    image = Image.fromarray(random_pixels(19, 37, 3)).convert(mode)
    encoded = encode(image, kind, **options)
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    decoded = preprocessing.decode_image(tf.constant(encoded))
    assert decoded.dtype == tf.uint8
    np.testing.assert_array_equal(decoded, expected)


def area_weights(source: int, target: int) -> np.ndarray:
    """Row i: how much of each source pixel lies under target pixel i."""
    edges = np.arange(target + 1) * source / target
    left = np.maximum(edges[:-1, None], np.arange(source))
    right = np.minimum(edges[1:, None], np.arange(source) + 1)
    return np.maximum(right - left, 0) * target / source


def central_square(image: np.ndarray, size: int) -> np.ndarray:
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


@pytest.mark.parametrize(
    "shape", [(500, 375), (333, 500), (257, 300), (256, 400), (1000, 300), (512, 512)]
)
def test_shrinking_averages_areas(shape):
    pixels = random_pixels(*shape, 3)
    height, width = (round(side * 256 / min(shape)) for side in shape)
    expected = np.einsum(
        "ih,hwc,jw->ijc",
        area_weights(shape[0], height),
        pixels.astype(np.float64),
        area_weights(shape[1], width),
        optimize=True,
    )
    got = preprocessing.resize_to_square(tf.constant(pixels))
    assert got.dtype == tf.uint8
    # Half a grey level is the rounding to uint8.
    np.testing.assert_allclose(got, central_square(expected, 256), atol=0.51)


@pytest.mark.parametrize(
    "shape", [(100, 150), (200, 133), (255, 400), (3, 2), (64, 64)]
)
def test_enlarging_is_bicubic(shape):
    pixels = random_pixels(*shape, 3)
    height, width = (round(side * 256 / min(shape)) for side in shape)
    # Pillow's float mode, channel by channel, does not clip between its two passes.
    planes = [
        Image.fromarray(pixels[:, :, channel].astype(np.float32)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        for channel in range(3)
    ]
    expected = central_square(np.stack(planes, axis=-1), 256).clip(0, 255)
    got = preprocessing.resize_to_square(tf.constant(pixels))
    assert got.dtype == tf.uint8
    np.testing.assert_allclose(got.numpy(), expected, atol=0.51)


def test_image_of_the_right_size_is_unchanged():
    pixels = random_pixels(256, 256, 3)
    np.testing.assert_array_equal(
        preprocessing.resize_to_square(tf.constant(pixels)), pixels
    )


def test_a_strip_is_enlarged_without_making_all_of_it():
    # 40,000 x 1 would become 10,240,000 x 256 pixels.
    pixels = np.full((1, 40_000, 3), 7, np.uint8)
    got = preprocessing.resize_to_square(tf.constant(pixels))
    np.testing.assert_array_equal(got, np.full((256, 256, 3), 7))


@pytest.mark.parametrize(("side", "size"), [(256, 224), (256, 227), (9, 4)])
def test_center_crop(side, size):
    images = random_pixels(2, side, side, 3)
    got = preprocessing.center_crop(tf.constant(images), size).numpy()
    for image, crop in zip(images, got, strict=True):
        np.testing.assert_array_equal(crop, central_square(image, size))


def test_ten_crops_of_the_2012_source():
    images = random_pixels(3, 256, 256, 3)
    got = preprocessing.ten_crops(tf.constant(images), 224)
    offsets = ((0, 0), (0, 32), (16, 16), (32, 0), (32, 32))
    expected = [images[:, y : y + 224, x : x + 224] for y, x in offsets]
    expected += [np.flip(view, axis=2) for view in expected]
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_color_noise_of_the_paper(statistics):
    alphas = np.random.default_rng(4).normal(size=(6, 3)).astype(np.float32)
    # On pixels in [0, 1]: eigenvalues shrink by 255 squared, the offset by 255.
    values = statistics.covariance_eigenvalues / 255**2
    vectors = statistics.covariance_eigenvectors
    expected = [255 * (vectors @ (0.1 * alpha * values)) for alpha in alphas]
    got = preprocessing.color_noise(
        statistics, tf.constant(alphas), scale="eigenvalues"
    )
    assert got.shape == (6, 1, 1, 3)
    assert got.dtype == tf.float32
    np.testing.assert_allclose(got[:, 0, 0], expected, rtol=1e-4, atol=1e-4)


def test_color_noise_of_the_2012_source(statistics):
    alphas = np.random.default_rng(4).normal(size=(6, 3)).astype(np.float32)
    deviations = np.sqrt(statistics.covariance_eigenvalues)
    vectors = statistics.covariance_eigenvectors
    expected = [vectors @ (0.2 * alpha * deviations) for alpha in alphas]
    got = preprocessing.color_noise(
        statistics, tf.constant(alphas), sigma=0.2, scale="standard_deviations"
    )
    np.testing.assert_allclose(got[:, 0, 0], expected, rtol=1e-4, atol=1e-4)


def test_color_noise_refuses_an_unknown_scale(statistics):
    with pytest.raises(ValueError, match="variances"):
        preprocessing.color_noise(statistics, tf.zeros((1, 3)), scale="variances")


@pytest.mark.parametrize("size", [224, 227])
def test_mean_is_the_centre_of_the_mean_image(statistics, size):
    got = preprocessing.central_mean(statistics, size)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, central_square(statistics.mean_image, size))


def test_normalize():
    images = random_pixels(2, 8, 8, 3)
    generator = np.random.default_rng(5)
    mean = generator.uniform(0, 255, (8, 8, 3)).astype(np.float32)
    noise = generator.normal(size=(2, 1, 1, 3)).astype(np.float32)
    plain = preprocessing.normalize(tf.constant(images), mean)
    assert plain.dtype == tf.float32
    np.testing.assert_allclose(plain, images - mean, rtol=1e-6)
    noisy = preprocessing.normalize(
        tf.constant(images), mean, noise=tf.constant(noise), input_scale=1 / 1.1
    )
    expected = (images.astype(np.float64) + noise - mean) / 1.1
    np.testing.assert_allclose(noisy, expected, atol=1e-4)


def test_normalize_subtracts_in_float32_whatever_the_result():
    # 201 and 200.75 are one number in bfloat16; their difference is not.
    images = tf.constant(201, tf.uint8, (1, 2, 2, 3))
    mean = np.full((2, 2, 3), 200.75, np.float32)
    got = preprocessing.normalize(images, mean, dtype=tf.bfloat16)
    assert got.dtype == tf.bfloat16
    np.testing.assert_array_equal(tf.cast(got, tf.float32), np.full((1, 2, 2, 3), 0.25))


def test_input_scale(statistics):
    deviation = np.sqrt(np.mean([14830.4, 1376.0, 388.9]))
    assert preprocessing.input_scale(statistics, "none") == 1
    got = preprocessing.input_scale(statistics, "unit_variance")
    assert got == pytest.approx(1 / deviation)


def test_torchvisions_scale(statistics):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), np.uint8)
    mean = np.float32([0.485, 0.456, 0.406])
    factor = preprocessing.input_scale(statistics, "torchvision")
    got = preprocessing.normalize(tf.constant(images), 255 * mean, input_scale=factor)
    wanted = (images / 255 - mean) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_device_functions_run_in_a_compiled_step(statistics):
    mean = preprocessing.central_mean(statistics, 24)

    @tf.function(jit_compile=True)
    def step(images: tf.Tensor, gaussians: tf.Tensor) -> tf.Tensor:
        noise = preprocessing.color_noise(
            statistics, gaussians, scale="standard_deviations"
        )
        crops = preprocessing.center_crop(images, 24)
        return preprocessing.normalize(crops, mean, noise=noise)

    images = random_pixels(2, 32, 32, 3)
    compiled = step(tf.constant(images), tf.zeros((2, 3)))
    expected = images[:, 4:28, 4:28].astype(np.float32) - mean
    np.testing.assert_allclose(compiled, expected, rtol=1e-6)
