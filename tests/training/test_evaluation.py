"""Every example counted once, one crop and ten, against NumPy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.config import RuntimeConfig
from official.alexnet.data import dataset, preprocessing
from official.alexnet.training import building, checkpoints
from official.alexnet.training.evaluation import Result, evaluate_run, score
from official.alexnet.training.trainer import train


@pytest.fixture(scope="module")
def trained(records_dir, tmp_path_factory):
    from official.alexnet import config as c  # noqa: PLC0415

    config = c.Config(
        model=c.ModelConfig(
            num_classes=3, width=0.125, input_size=64, init="unit_variance"
        ),
        data=c.DataConfig(data_dir=str(records_dir), input_scale="unit_variance"),
        train=c.TrainConfig(
            batch_size=8, train_steps=12, schedule="constant", skip_eval=True
        ),
        runtime=RuntimeConfig(num_gpus=0),
    )
    folder = tmp_path_factory.mktemp("trained")
    train(config, str(folder))
    return config, folder


def all_images(config) -> tuple[np.ndarray, np.ndarray]:
    """The validation set, read by PIL from the records."""
    import io  # noqa: PLC0415

    from PIL import Image  # noqa: PLC0415

    images, labels = [], []
    split = dataset.find_split(config.data, "validation", 3)
    for path in split.records.files:
        for record in tf.data.TFRecordDataset(path):
            feature = tf.train.Example.FromString(record.numpy()).features.feature
            encoded = feature["image/encoded"].bytes_list.value[0]
            images.append(np.asarray(Image.open(io.BytesIO(encoded))))
            labels.append(feature["image/class/label"].int64_list.value[0] - 1)
    return np.stack(images), np.array(labels)


def numpy_result(config, folder, crops: int) -> Result:
    """Crops, softmax and averages by NumPy; only the net's logits by TensorFlow."""
    images, labels = all_images(config)
    model = building.build_model(config.model, config.runtime)
    checkpoints.set_weights(model, *checkpoints.find(folder))
    statistics = dataset.find_statistics(config.data, folder)
    mean = statistics.mean_image[96:160, 96:160]
    corners = [(96, 96)]
    if crops == 10:
        corners = [(0, 0), (0, 192), (96, 96), (192, 0), (192, 192)]
    views = [images[:, y : y + 64, x : x + 64] for y, x in corners]
    if crops == 10:
        views += [view[:, :, ::-1] for view in views]
    total = 0
    for view in views:
        inputs = (view.astype(np.float32) - mean) / statistics.pixel_std
        logits = model(inputs).numpy()
        exponents = np.exp(logits - logits.max(1, keepdims=True))
        total = total + exponents / exponents.sum(1, keepdims=True)
    probabilities = total / len(views)
    ranks = (-probabilities).argsort(1)
    return Result(
        loss=-np.log(probabilities[np.arange(13), labels]).mean(),
        accuracy=(ranks[:, 0] == labels).mean(),
        top_5_accuracy=(ranks[:, :5] == labels[:, None]).any(1).mean(),
        num_examples=13,
    )


GRIDS = [
    ("off", 1, 1, 8),
    ("off", 1, 1, 13),
    ("mirrored", 4, 2, 8),
    ("mirrored", 3, 1, 6),
]
QUICK = [(*GRIDS[1], 1)]


@pytest.mark.parametrize(
    ("strategy", "logical_cpus", "columns", "batch_size", "crops"),
    [
        case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow)
        for case in ((*grid, crops) for grid in GRIDS for crops in (1, 10))
    ],
)
def test_equals_numpy_on_any_grid(
    trained, crops, strategy, logical_cpus, columns, batch_size
):
    config, folder = trained
    expected = numpy_result(config, folder, crops)
    changed = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_columns=columns),
        train=dataclasses.replace(
            config.train, eval_crops=crops, batch_size=batch_size
        ),
        runtime=RuntimeConfig(strategy, num_gpus=0, logical_cpus=logical_cpus),
    )
    result = evaluate_run(changed, str(folder))
    assert result["num_examples"] == 13
    assert result["accuracy"] == pytest.approx(expected.accuracy)
    assert result["top_5_accuracy"] == pytest.approx(expected.top_5_accuracy)
    # The pipeline decodes as PIL does; the rest is rounding.
    assert result["loss"] == pytest.approx(expected.loss, abs=1e-4)


def test_a_net_that_says_nothing_is_right_as_often_as_chance():
    labels = tf.range(10)
    scores = tf.zeros((10, 10))
    sums = score(labels, tf.zeros(10), scores, tf.ones(10))
    np.testing.assert_array_equal(sums, [0, 1, 5, 10])


def test_top_1_and_top_5_are_numpys_ranks():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 20)).astype(np.float32)
    labels = rng.integers(0, 20, 200)
    # How many classes have a higher score than the right one.
    ranks = (scores > scores[np.arange(200), labels][:, None]).sum(1)
    sums = score(tf.constant(labels, tf.int32), tf.ones(200), scores, tf.ones(200))
    np.testing.assert_array_equal(
        sums, [200, (ranks == 0).sum(), (ranks < 5).sum(), 200]
    )
    assert (ranks == 5).any()
    assert (ranks == 4).any()


def test_noise_of_the_source_leaves_evaluation_alone(trained):
    """Its training images are divided by 1.1, those that it is tested on are not."""
    config, folder = trained
    data = dataclasses.replace(config.data, color_noise="standard_deviations")
    result = evaluate_run(dataclasses.replace(config, data=data), str(folder))
    expected = numpy_result(config, folder, 1)
    assert result["loss"] == pytest.approx(expected.loss, abs=1e-5)


def test_padding_does_not_count():
    scores = tf.eye(6)
    sums = score(tf.range(6), tf.ones(6), scores, tf.constant([1.0, 1, 1, 0, 0, 0]))
    np.testing.assert_array_equal(sums, [3, 3, 3, 3])


def test_decoding_equals_pil(records_dir, tiny_config):
    split = dataset.find_split(tiny_config.data, "validation", 3)
    images, _ = all_images(tiny_config)
    record = next(iter(tf.data.TFRecordDataset(split.records.files[0]))).numpy()
    encoded = (
        tf.train.Example.FromString(record)
        .features.feature["image/encoded"]
        .bytes_list.value[0]
    )
    np.testing.assert_array_equal(preprocessing.decode_image(encoded), images[0])
