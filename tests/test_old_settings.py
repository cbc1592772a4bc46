"""Settings as earlier versions wrote them."""

import pytest

from official.alexnet import config_files, fields
from official.alexnet.config import Config
from official.alexnet.errors import UserError

# As params.yaml of earlier versions has them, beside the rows of now.
OLD_RATES = [
    (
        {
            "learning_rate": 0.01,
            "bias_learning_rate": 2.0,
            "bias_schedule": "constant",
            "schedule": "steps",
            "learning_rate_steps": [25.0, 51.0],
            "learning_rates": [],
            "bias_learning_rate_steps": [],
            "bias_dexp": [10.0, 2.0],
            "layer_learning_rates": ["fc8=10", "conv1/kernel=0.1@67", "conv1=0@72"],
            "freeze_layers": ["conv2"],
        },
        "25 all 0.001,51 all 0.0001,0 biases 0.02,0 conv2 x0,0 fc8 x10,"
        "67 conv1/kernel x0.1,72 conv1 x0",
        "constant",
    ),
    (
        {
            "schedule": "steps",
            "learning_rate_steps": [3],
            "learning_rates": [0.5],
            "bias_learning_rate": 2,
        },
        "3 all 0.5,0 biases x2",
        "constant",
    ),
    (
        {"learning_rate": 0.1, "bias_schedule": "steps"}
        | {"bias_learning_rate_steps": [23], "schedule": "caffe"},
        "0 biases 0.1,23 biases 0.01",
        "caffe",
    ),
    (
        {"schedule": "dexp", "bias_schedule": "dexp", "bias_learning_rate": 2},
        "0 biases 0.02,50% biases 0.002",
        "dexp",
    ),
    ({"schedule": "plateau", "learning_rate_steps": [1.0]}, "none", "plateau"),
    (
        {"schedule": "steps", "learning_rate_steps": 4, "freeze_layers": "conv1"},
        "4 all 0.001,0 conv1 x0",
        "constant",
    ),
]


@pytest.mark.parametrize(("old", "rows", "schedule"), OLD_RATES, ids=str)
def test_rates_of_earlier_versions_are_read(old, rows, schedule):
    gone = {"data": {"max_bad_records": 3}, "runtime": {"run_eagerly": False}}
    settings = {"train": old} | gone
    train = config_files.override(Config(), settings, "params.yaml").train
    assert fields.show(train.rates) == rows
    assert train.schedule == schedule


def test_rates_of_earlier_versions_that_do_not_fit():
    for old in (
        {"learning_rate_steps": [1, 2], "learning_rates": [1], "schedule": "steps"},
        {"layer_learning_rates": ["conv1"]},
        {"freeze_layers": ["conv1"], "rates": ["0 all 1"]},
    ):
        with pytest.raises(UserError, match=r"^old\.yaml: .*rates"):
            config_files.override(Config(), {"train": old}, "old.yaml")
