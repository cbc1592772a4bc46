"""Shapes, units, parameters and multiplications against the published numbers."""

import dataclasses

import pytest

from official.alexnet import AlexNet
from official.alexnet.modeling.counts import count
from official.alexnet.modeling.variants import PAPER

# Layer by layer, worked out by hand from Figure 2 and from torchvision's definition.
TWO_COLUMNS = {
    "conv1": ((55, 55, 96), 34_944, 105_415_200),
    "conv2": ((27, 27, 256), 307_456, 223_948_800),
    "conv3": ((13, 13, 384), 885_120, 149_520_384),
    "conv4": ((13, 13, 384), 663_936, 112_140_288),
    "conv5": ((13, 13, 256), 442_624, 74_760_192),
    "fc6": ((4096,), 37_752_832, 37_748_736),
    "fc7": ((4096,), 16_781_312, 16_777_216),
    "fc8": ((1000,), 4_097_000, 4_096_000),
}
UNGROUPED = TWO_COLUMNS | {
    "conv2": ((27, 27, 256), 614_656, 447_897_600),
    "conv4": ((13, 13, 384), 1_327_488, 224_280_576),
    "conv5": ((13, 13, 256), 884_992, 149_520_384),
}
ONE_TOWER = TWO_COLUMNS | {
    "conv1": ((55, 55, 64), 23_296, 70_276_800),
    "conv2": ((27, 27, 192), 307_392, 223_948_800),
    "conv3": ((13, 13, 384), 663_936, 112_140_288),
    "conv4": ((13, 13, 256), 884_992, 149_520_384),
    "conv5": ((13, 13, 256), 590_080, 99_680_256),
}
SLIM = ONE_TOWER | {
    "conv1": ((54, 54, 64), 23_296, 67_744_512),
    "conv2": ((26, 26, 192), 307_392, 207_667_200),
    "conv3": ((12, 12, 384), 663_936, 95_551_488),
    "conv4": ((12, 12, 384), 1_327_488, 191_102_976),
    "conv5": ((12, 12, 256), 884_992, 127_401_984),
    "fc6": ((4096,), 26_218_496, 26_214_400),
}
TABLES = {
    "paper": (TWO_COLUMNS, 60_965_224, 724_406_816),
    "original": (TWO_COLUMNS, 60_965_224, 724_406_816),
    "caffe": (TWO_COLUMNS, 60_965_224, 724_406_816),
    "caffenet": (TWO_COLUMNS, 60_965_224, 724_406_816),
    "owt": (ONE_TOWER, 61_100_840, 714_188_480),
    "slim": (SLIM, 50_303_912, 736_555_776),
}
TOTALS = {
    "one_gpu": (59_798_312, 391.5),
    "original_one_gpu": (59_798_312, 391.5),
    "conv6": (61_555_304, 745.6),
    "original_conv6": (61_555_304, 745.6),
    "no_lrn": (60_965_224, 724.4),
    "original_no_lrn": (60_965_224, 724.4),
    "pool2x2": (60_965_224, 686.9),
    "original_pool2x2": (60_965_224, 686.9),
    "cuda_convnet2": (61_100_840, 714.2),
    "original_no_exchange": (60_714_408, 724.3),
}


def assert_table(model, table: dict, parameters: int, macs: int) -> None:
    *rows, total = count(model)
    found = {row.name: (row.shape, row.parameters, row.macs) for row in rows}
    assert found == table
    assert (total.parameters, total.macs) == (parameters, macs)
    assert model.count_params() == parameters


@pytest.mark.parametrize("variant", TABLES)
def test_every_layer_has_its_published_counts(variant):
    assert_table(AlexNet(variant), *TABLES[variant])


def test_both_forms_count_the_same():
    assert_table(AlexNet(num_columns=2), *TABLES["paper"])


def test_without_groups():
    ungrouped = dataclasses.replace(PAPER, num_columns=1)
    assert_table(AlexNet(ungrouped), UNGROUPED, 62_378_344, 1_135_256_096)


@pytest.mark.parametrize("variant", TOTALS)
def test_totals(variant):
    parameters, mega_macs = TOTALS[variant]
    total = count(AlexNet(variant))[-1]
    assert total.parameters == parameters
    assert total.macs / 1e6 == pytest.approx(mega_macs, abs=0.05)


@pytest.mark.parametrize(
    ("variant", "num_classes", "parameters"),
    [
        ("original_conv6", 10_184, 99_182_152),
        ("original_conv6_bottleneck", 21_843, 110_605_267),
    ],
)
def test_totals_of_the_nets_for_more_classes(variant, num_classes, parameters):
    assert count(AlexNet(variant, num_classes))[-1].parameters == parameters


@pytest.mark.parametrize("num_columns", [1, 2])
def test_units(num_columns):
    """Figure 2's numbers, but conv1: 253,440 there, and 55 x 55 x 96 in truth."""
    *rows, total = count(AlexNet(num_columns=num_columns))
    assert [row.units for row in rows] == [
        *(290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000)
    ]
    assert total.units == 659_272


def test_smaller_pooling_windows_end_in_the_same_maps():
    """Section 3.4's comparison: 55, 28, 26, 13, 11 and 6 pixels."""
    model = AlexNet("pool2x2", width=0.1)
    layers = ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5")
    sides = [model.get_layer(name).output.shape[1] for name in layers]
    assert sides == [55, 28, 26, 13, 11, 6]


def test_batch_norm_adds_two_parameters_a_map_and_no_units():
    plain = count(AlexNet(width=0.1))
    normalized = count(AlexNet(width=0.1, normalization="batch_norm"))
    assert normalized[-1].units == plain[-1].units
    assert normalized[-1].macs == plain[-1].macs
    maps = sum(row.shape[-1] for row in plain if row.name.startswith("conv"))
    assert normalized[-1].parameters == plain[-1].parameters + 2 * maps
