"""The net: published counts and shapes, both forms, saving, compile and fit."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from official.alexnet import AlexNet, UserError
from official.alexnet.modeling.variants import PAPER
from official.alexnet.modeling.weights import copy_weights, get_weights, set_weights

# Weights and biases of each layer, computed from Figure 2 by hand.
PARAMETERS = {
    "conv1": 34_944,
    "conv2": 307_456,
    "conv3": 885_120,
    "conv4": 663_936,
    "conv5": 442_624,
    "fc6": 37_752_832,
    "fc7": 16_781_312,
    "fc8": 4_097_000,
}
SHAPES = {
    "conv1": (55, 55, 96),
    "pool1": (27, 27, 96),
    "conv2": (27, 27, 256),
    "pool2": (13, 13, 256),
    "conv3": (13, 13, 384),
    "conv4": (13, 13, 384),
    "conv5": (13, 13, 256),
    "pool5": (6, 6, 256),
    "fc6": (4096,),
    "fc7": (4096,),
    "fc8": (1000,),
}


def tiny(num_columns: int, **kwargs) -> keras.Model:
    return AlexNet(
        num_classes=7, num_columns=num_columns, width=0.125, input_size=64, **kwargs
    )


def images(count: int = 4) -> tf.Tensor:
    rng = np.random.default_rng(0)
    return tf.constant(rng.normal(0, 60, (count, 64, 64, 3)), tf.float32)


def test_published_counts_and_shapes():
    model = AlexNet()
    assert model.count_params() == 60_965_224
    for name, count in PARAMETERS.items():
        assert model.get_layer(name).count_params() == count
    for name, shape in SHAPES.items():
        assert model.get_layer(name).output.shape[1:] == shape
    # Table of section 3.5: the neurons, with conv1's true 290,400.
    neurons = sum(int(np.prod(SHAPES[name])) for name in PARAMETERS)
    assert neurons == 659_272


@pytest.mark.parametrize("variant", ["paper", "original"])
def test_conv1_hangs_over_by_3_zeros_at_the_bottom_and_right(variant):
    """One pixel in an image of zeros; the kernel's own number comes out."""
    conv1 = AlexNet(variant, width=0.1).get_layer("conv1")
    kernel = np.array(conv1.kernel)
    for pixel, window, place in (
        ((0, 0), (0, 0), (0, 0)),
        ((223, 223), (54, 54), (7, 7)),
        ((223, 0), (54, 0), (7, 0)),
    ):
        image = np.zeros((1, 224, 224, 3), np.float32)
        image[(0, *pixel, 1)] = 100
        maps = conv1(image).numpy() - np.array(conv1.bias)
        assert maps.shape[1:3] == (55, 55)
        np.testing.assert_allclose(
            maps[(0, *window)], 100 * kernel[(*place, 1)], rtol=1e-4, atol=1e-5
        )


def test_order_of_operations():
    names = [layer.name for layer in AlexNet(width=0.1).layers]
    assert names == [
        *("images", "conv1", "relu1", "norm1", "pool1"),
        *("conv2", "relu2", "norm2", "pool2"),
        *("conv3", "relu3", "conv4", "relu4", "conv5", "relu5", "pool5"),
        *("fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8", "probabilities"),
    ]


def test_initial_weights_are_the_papers():
    weights = get_weights(AlexNet(num_classes=10))
    for name, array in weights.items():
        layer, kind = name.split("/")
        if kind == "kernel":
            assert array.std() == pytest.approx(0.01, rel=0.02)
            assert abs(array.mean()) < 3e-4
        else:
            ones = layer in ("conv2", "conv4", "conv5", "fc6", "fc7")
            np.testing.assert_array_equal(array, 1.0 if ones else 0.0)


def test_source_init_differs_after_conv2():
    weights = get_weights(AlexNet(num_classes=10, init="source"))
    for layer, deviation in {"conv2": 0.01, "conv3": 0.03, "conv5": 0.03}.items():
        std = weights[f"{layer}/kernel"].std()
        assert std == pytest.approx(deviation, rel=0.02)


def test_both_forms_start_alike_and_compute_the_same():
    grouped, columns = tiny(1), tiny(2)
    ours, theirs = get_weights(grouped), get_weights(columns)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
    for training in (False, True):
        np.testing.assert_allclose(
            grouped(images(), training=training),
            columns(images(), training=training),
            atol=1e-5,
        )


def test_both_forms_have_the_same_gradients():
    labels = tf.constant([0, 1, 2, 3])
    gradients = []
    # Large weights, so that every layer's gradient is far from zero.
    wide = dataclasses.replace(
        PAPER,
        convolutions=tuple(
            dataclasses.replace(conv, stddev=0.05) for conv in PAPER.convolutions
        ),
    )
    for num_columns in (1, 2):
        model = tiny(num_columns, variant=wide, classifier_activation=None, dropout=0.0)
        with tf.GradientTape() as tape:
            logits = model(images(), training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            )
        found = tape.gradient(loss, [v.value for v in model.trainable_variables])
        for variable, gradient in zip(model.trainable_variables, found, strict=True):
            variable.assign(gradient)
        gradients.append(get_weights(model))
    for name, expected in gradients[0].items():
        scale = np.abs(expected).max()
        assert scale > 1e-7, name
        np.testing.assert_allclose(gradients[1][name], expected, atol=1e-5 * scale)


def test_columns_meet_only_where_the_paper_says():
    meetings = set()
    for layer in tiny(2).layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        sources = {tensor._keras_history.operation.name[-1] for tensor in inputs}
        if sources == {"a", "b"}:
            meetings.add(layer.name)
        elif layer.name not in ("conv1a", "conv1b", "probabilities"):
            assert sources == {layer.name[-1]}, layer.name
    assert meetings == {*("conv3a", "conv3b", "fc6a", "fc6b", "fc7a", "fc7b"), "fc8"}


def test_weights_go_from_one_form_to_the_other():
    source, target = tiny(2, seed=1), tiny(1, seed=2)
    assert np.abs(source(images()) - target(images())).max() > 1e-6
    copy_weights(source, target)
    np.testing.assert_allclose(source(images()), target(images()), atol=1e-6)


def test_weights_of_another_net_are_refused_before_anything_changes():
    model = tiny(1)
    before = get_weights(model)
    other = get_weights(tiny(1, seed=5)) | {"fc8/kernel": np.zeros((64, 9))}
    with pytest.raises(UserError, match="fc8/kernel"):
        set_weights(model, other)
    for name, array in get_weights(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_dropout_as_published():
    layer = tiny(1).get_layer("drop6")
    x = tf.ones((200, layer.input.shape[1]))
    np.testing.assert_array_equal(layer(x, training=False), x / 2)
    kept = layer(x, training=True).numpy()
    assert set(np.unique(kept)) == {0.0, 1.0}
    assert kept.mean() == pytest.approx(0.5, abs=0.02)
    assert (layer(x, training=True).numpy() != kept).mean() == pytest.approx(
        0.5, abs=0.02
    )


@pytest.mark.parametrize("num_columns", [1, 2])
def test_saves_and_loads(tmp_path, num_columns):
    model = tiny(num_columns)
    model.save(tmp_path / "alexnet.keras")
    loaded = keras.models.load_model(tmp_path / "alexnet.keras")
    np.testing.assert_array_equal(model(images()), loaded(images()))


@pytest.mark.parametrize("num_columns", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_learns_under_compile_and_fit(num_columns):
    model = tiny(num_columns, dropout=0.0, init="source")
    x, y = images(8) / 60, np.arange(8) % 2
    model.compile(
        keras.optimizers.Adam(1e-3),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    history = model.fit(x, y, epochs=15, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]


def test_mixed_bfloat16_keeps_weights_and_output_in_float32():
    low, full = tiny(2, dtype="mixed_bfloat16"), tiny(2)
    assert low.get_layer("conv2a").compute_dtype == "bfloat16"
    assert all(v.dtype == "float32" for v in low.trainable_variables)
    y = low(images(), training=False)
    assert y.dtype == tf.float32
    np.testing.assert_allclose(y, full(images()), atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"variant": "papper"}, "papper"), ({"variant": "one_gpu"}, "num_columns")],
)
def test_mistakes_are_named(arguments, word):
    with pytest.raises(UserError, match=word):
        AlexNet(num_columns=2, **arguments)
