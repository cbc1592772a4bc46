"""What a row of the table says: initial weights, dropout, both forms, files."""

import contextlib
import itertools
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from slow_cases import slow_but

from official.alexnet import AlexNet, UserError
from official.alexnet.modeling import options
from official.alexnet.modeling.columns import portable
from official.alexnet.modeling.dropout import Dropout
from official.alexnet.modeling.variants import LRN, PAPER, VARIANTS, Dense
from official.alexnet.modeling.weights import copy_weights, get_weights

TWO_COLUMNS = [name for name, net in VARIANTS.items() if net.num_columns == 2]
ONES = {"conv2": 1, "conv4": 1, "conv5": 1, "conv6": 1, "fc6": 1, "fc7": 1}
SOURCE = {f"conv{i}": 0.03 for i in (3, 4, 5, 6)}
CAFFE = {"fc6": 0.005, "fc7": 0.005}
FC6 = Dense("fc6", 4096, dropout=-4)


def tiny(variant: str, num_columns: int = 1, **kwargs) -> keras.Model:
    return AlexNet(
        variant, 7, num_columns=num_columns, width=0.125, input_size=80, **kwargs
    )


def images(count: int = 4) -> tf.Tensor:
    rng = np.random.default_rng(0)
    return tf.constant(rng.normal(0, 60, (count, 80, 80, 3)), tf.float32)


def names(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers]


NORMS = ("paper", "original", "cuda_convnet2", "caffe", "owt", "batch_norm")


@pytest.mark.parametrize(
    "training", [False, pytest.param(True, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("case", slow_but(NORMS, (*VARIANTS, "batch_norm")))
def test_no_image_gives_an_empty_answer(case, training):
    net = {"normalization": case} if case == "batch_norm" else {"variant": case}
    columns = (1, 2) if case in (*TWO_COLUMNS, "batch_norm") else (1,)
    for number, dtype in itertools.product(columns, ("float32", "mixed_bfloat16")):
        model = tiny(**{"variant": "paper"} | net, num_columns=number, dtype=dtype)
        for context in (contextlib.nullcontext, portable):
            # Compiled in training, which takes longer.
            call = tf.function(model) if training else model
            with context():
                assert call(images(0), training=training).shape == (0, 7)


@pytest.mark.parametrize(
    ("variant", "deviations", "biases"),
    [
        ("paper", {}, ONES),
        ("one_gpu", {}, ONES),
        ("conv6", {"conv6": 0.03}, ONES),
        ("original", SOURCE, ONES),
        pytest.param("original_conv6", SOURCE, ONES, marks=pytest.mark.slow),
        pytest.param("cuda_convnet2", SOURCE, ONES, marks=pytest.mark.slow),
        ("caffe", CAFFE, dict.fromkeys(ONES, 0.1)),
        ("caffenet", CAFFE, ONES),
    ],
)
def test_initial_weights(variant, deviations, biases):
    for name, array in get_weights(AlexNet(variant, 100)).items():
        layer, kind = name.split("/")
        if kind == "bias":
            np.testing.assert_array_equal(array, np.float32(biases.get(layer, 0)))
        else:
            expected = deviations.get(layer, 0.01)
            assert array.std() == pytest.approx(expected, rel=0.02), name
            assert abs(array.mean()) < 0.02 * expected, name
            # A Gaussian: 0.27 % are further out than three standard deviations.
            far = (np.abs(array) > 3 * expected).mean()
            assert far == pytest.approx(0.0027, abs=0.001), name


def test_initial_weights_of_torchvision_are_pytorchs_default():
    torch = pytest.importorskip("torch")
    inputs = {"conv1": (3, 11), "conv2": (64, 5), "conv3": (192, 3), "conv5": (256, 3)}
    weights = get_weights(AlexNet("owt", 100))
    for name, (channels, size) in inputs.items():
        filters = weights[f"{name}/bias"].size
        theirs = torch.nn.Conv2d(channels, filters, size)
        assert_same_uniform(weights, name, theirs.weight, theirs.bias)
    theirs = torch.nn.Linear(9216, 512)
    assert_same_uniform(weights, "fc6", theirs.weight, theirs.bias)
    theirs = torch.nn.Linear(4096, 100)
    assert_same_uniform(weights, "fc8", theirs.weight, theirs.bias)


def assert_same_uniform(weights, name, *theirs) -> None:
    for kind, tensor in zip(("kernel", "bias"), theirs, strict=True):
        ours, limit = weights[f"{name}/{kind}"], float(tensor.detach().abs().max())
        few = 0.1 if ours.size < 1000 else 0.01
        assert np.abs(ours).max() == pytest.approx(limit, rel=few), (name, kind)
        assert ours.std() == pytest.approx(limit / np.sqrt(3), rel=3 * few)
        assert abs(ours.mean()) < 3 * few * limit


def test_source_init_changes_the_convolutions_after_conv2_only():
    weights = get_weights(AlexNet("caffe", 100, init="source"))
    assert weights["conv2/kernel"].std() == pytest.approx(0.01, rel=0.02)
    assert weights["conv3/kernel"].std() == pytest.approx(0.03, rel=0.02)
    assert weights["fc6/kernel"].std() == pytest.approx(0.005, rel=0.02)


@pytest.mark.parametrize("variant", TWO_COLUMNS)
def test_both_forms_start_alike_and_compute_the_same(variant):
    grouped, columns = tiny(variant, 1), tiny(variant, 2)
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


@pytest.mark.parametrize(
    "variant", slow_but(("paper", "original_conv6", "caffe"), TWO_COLUMNS)
)
def test_weights_go_from_either_form_to_the_other(variant):
    for forms in ((1, 2), (2, 1)):
        options = {"normalization": "batch_norm"} if variant == "paper" else {}
        source, target = (
            tiny(variant, num_columns, seed=seed, **options)
            for seed, num_columns in enumerate(forms)
        )
        source(images(), training=True)  # Moves batch norm's statistics.
        assert np.abs(source(images()) - target(images())).max() > 1e-6
        copy_weights(source, target)
        np.testing.assert_allclose(source(images()), target(images()), atol=1e-6)


OPTIONS = {
    **{variant: {"variant": variant} for variant in VARIANTS},
    "tanh": {"variant": "paper", "activation": "tanh"},
    "batch norm": {"variant": "caffe", "normalization": "batch_norm"},
    "without conv2 and conv3": {"variant": "caffe", "remove": ["conv2", "conv3"]},
}


@pytest.mark.parametrize(
    "case", slow_but(("paper", "batch norm", "original_conv6", "owt"), OPTIONS)
)
def test_saves_and_loads(tmp_path, case):
    options = OPTIONS[case]
    for num_columns in {1, VARIANTS[options["variant"]].num_columns}:
        model = tiny(num_columns=num_columns, **options)
        model(images(), training=True)
        model.save(tmp_path / "alexnet.keras")
        loaded = keras.models.load_model(tmp_path / "alexnet.keras")
        np.testing.assert_array_equal(model(images()), loaded(images()))
        for ours, theirs in zip(model.layers, loaded.layers, strict=True):
            assert ours.get_config() == theirs.get_config()


def test_where_dropout_is():
    drops = {
        variant: [name for name in names(tiny(variant)) if name.startswith("drop")]
        for variant in ("paper", "caffe", "owt")
    }
    assert drops == {
        "paper": ["drop6", "drop7"],
        "caffe": ["drop6", "drop7"],
        "owt": ["drop5", "drop6"],
    }
    assert tiny("paper", dropout=0.2).get_layer("drop6").rate == 0.2


def test_inverted_dropout():
    layer = tiny("caffe", dropout=0.75).get_layer("drop6")
    x = tf.ones((400, layer.input.shape[1]))
    np.testing.assert_array_equal(layer(x, training=False), x)
    kept = layer(x, training=True).numpy()
    assert set(np.unique(kept)) == {0.0, 4.0}
    assert kept.mean() == pytest.approx(1, abs=0.03)


def test_dropout_of_maps_drops_single_pixels_and_draws_by_column():
    side_by_side = Dropout(0.5, seed=3, num_columns=2, inverted=True)
    apart = [Dropout(0.5, seed=3, column=c, inverted=True) for c in range(2)]
    x = tf.ones((64, 6, 6, 20))
    together = side_by_side(x, training=True).numpy()
    halves = [layer(x[..., :10], training=True) for layer in apart]
    np.testing.assert_array_equal(together, np.concatenate(halves, axis=-1))
    # Neither images nor pixels nor maps nor columns are dropped as one.
    first = together[:1, :1, :1, :10]
    for others in (together[1:, :1, :1, :10], together[:1, 1:, :, :10]):
        assert (others != first).mean() == pytest.approx(0.5, abs=0.1)
    assert 0 < first.mean() < 2
    seam = together[..., :10] != together[..., 10:]
    assert seam.mean() == pytest.approx(0.5, abs=0.05)


def test_columns_of_caffe_hand_over_the_nearest_maps_only():
    model = tiny("caffe", 2)
    shapes = [
        [tensor.shape[-1] for tensor in model.get_layer(f"norm1{column}").input]
        for column in "ab"
    ]
    own = model.get_layer("conv1a").output.shape[-1]
    assert shapes == [[own, 2], [2, own]]
    assert not [name for name in names(tiny("paper", 2)) if "edges" in name]


@pytest.mark.parametrize(
    ("variant", "first", "second"),
    [
        ("paper", "relu1 norm1 pool1", "relu2 norm2 pool2"),
        ("original", "norm1 pool1 relu1", "relu2 norm2 spatial_norm2 pool2"),
        ("no_lrn", "relu1 pool1", "relu2 pool2"),
        ("caffe", "relu1 norm1 pool1", "relu2 norm2 pool2"),
        ("caffenet", "relu1 pool1 norm1", "relu2 pool2 norm2"),
        ("cuda_convnet2", "norm1 pool1 relu1", "relu2 norm2 pool2"),
        ("owt", "relu1 pool1", "relu2 pool2"),
    ],
)
def test_order_of_the_first_layers(variant, first, second):
    expected = f"images conv1 {first} conv2 {second} conv3".split()
    assert names(tiny(variant))[: len(expected)] == expected


@pytest.mark.parametrize(
    ("variant", "order"),
    [
        ("paper", "relu5 pool5"),
        ("original", "pool5 relu5"),
        ("caffe", "relu5 pool5"),
        ("caffenet", "relu5 pool5"),
    ],
)
def test_order_of_layer_5(variant, order):
    found = names(tiny(variant))
    place = found.index("conv5") + 1
    assert found[place : place + 2] == order.split()


def test_batch_norm_stands_before_the_nonlinearity_and_takes_all_others_place():
    layers = names(tiny("original", normalization="batch_norm"))
    assert [name for name in layers if "norm" in name] == [
        f"norm{i}" for i in range(1, 6)
    ]
    for i in range(1, 6):
        assert layers[layers.index(f"conv{i}") + 1] == f"norm{i}"


def test_a_removed_layer_takes_its_weights_and_leaves_its_pooling():
    model = tiny("paper", remove=["conv2", "conv5"])
    layers = names(model)
    assert not {"conv2", "relu2", "norm2", "conv5", "relu5"} & set(layers)
    assert layers[layers.index("pool1") + 1] == "pool2"
    pooled = model.get_layer("pool5").output.shape
    assert pooled[1:3] == tiny("paper").get_layer("pool5").output.shape[1:3]
    assert pooled[3] == model.get_layer("conv4").output.shape[3]


def test_who_reads_what_a_removed_layer_read():
    """conv4 both columns' maps instead of conv3; conv3 the image instead of conv1."""
    columns = tiny("paper", 2, remove=["conv3"])
    assert isinstance(columns.get_layer("conv4a").input, list)
    first = tiny("paper", 2, remove=["conv1", "conv2"]).get_layer("conv3b")
    assert first.input.shape == (None, 80, 80, 3)
    assert first.stride == 4 * 2 * 2


def test_numpy_numbers_are_numbers():
    numbers = {"num_classes": np.int64(3), "input_size": np.int64(64)}
    model = AlexNet(width=np.float32(0.125), seed=np.int64(1), **numbers)
    assert model.output_shape == (None, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"remove": ["conv6"]}, "--remove=conv6: the variant paper has conv1, conv2"),
        ({"remove": "fc6"}, "--remove=fc6"),
        ({"remove": [f"conv{i}" for i in range(1, 6)]}, "no convolutional layer"),
        ({"activation": "gelu"}, "--activation: there is no 'gelu'; did you mean relu"),
        (
            {"normalization": "layer"},
            "--normalization: there is no 'layer'; known: lrn",
        ),
        ({"pool_size": 0}, "--pool_size should be a whole number of 1 or more"),
        ({"pool_stride": 1.5}, "--pool_stride should be a whole .* not 1.5"),
        ({"pool_stride": 4}, "--pool_stride=4 should be 1 to --pool_size=3"),
        ({"dropout": 1.0}, "--dropout should be in"),
        ({"dropout": -0.1}, "--dropout should be in"),
        ({"dropout": "0.5"}, "--dropout should be in"),
        ({"variant": replace(PAPER, dense=(FC6,))}, r"--dropout should .* not -4"),
        ({"variant": replace(PAPER, lrn=LRN(n=4))}, "n=4 of a norm has no middle"),
        ({"variant": replace(PAPER, lrn=LRN(n=2.5))}, "n=2.5 of a norm has no middle"),
        (
            {"variant": replace(PAPER, spatial_norm=LRN(n=2))},
            "--variant=paper: n=2 of a norm has no middle",
        ),
        ({"num_classes": 0}, "--num_classes should be a whole .* not 0"),
        ({"num_classes": -1}, "--num_classes should be a whole .* not -1"),
        ({"num_classes": True}, "--num_classes should be a whole .* not True"),
        ({"num_classes": 10.0}, "--num_classes should be a whole .* not 10.0"),
        ({"num_columns": True}, "--num_columns should be a whole"),
        ({"width": 0}, "--width should be a number above 0, not 0"),
        ({"width": float("nan")}, "--width should be a number above 0, not nan"),
        ({"width": True}, "--width should be a number above 0"),
        ({"seed": -1}, "--seed should be a whole number of 0 or more"),
        ({"seed": 1.5}, "--seed should be a whole number of 0 or more"),
        ({"input_size": 0}, "--input_size should be a whole .* not 0"),
        ({"input_size": 224.0}, "--input_size should be a whole .* not 224.0"),
        ({"init": "he"}, "--init: there is no 'he'; known: published, source"),
        ({"variant": "owt", "init": "source"}, "--init=source"),
        ({"input_size": 63}, "--input_size=63 is too small .* after conv5"),
        ({"variant": "owt", "num_columns": 2}, "--num_columns=2 does not fit"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message) as error:
        AlexNet(**arguments)
    assert "\n" not in str(error.value)


def test_the_2012_sources_init_of_a_net_of_one_convolution():
    one = replace(PAPER, convolutions=PAPER.convolutions[:1])
    assert options.change(one, init="source") == one


@pytest.mark.parametrize("variant", ["original", "caffe"])
def test_half_precision_between_the_columns_is_within_its_rounding(variant):
    whole = tiny(variant, 2, classifier_activation=None)
    half = tiny(variant, 2, classifier_activation=None, exchange_dtype="float16")
    copy_weights(whole, half)
    expected, got = whole(images()).numpy(), half(images()).numpy()
    error = np.abs(got - expected).max() / np.abs(expected).max()
    assert 0 < error < 2e-3
