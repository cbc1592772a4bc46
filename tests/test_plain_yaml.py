"""YAML's values, and what in it is refused."""

import pytest
import yaml

from official.alexnet import config_files, plain_yaml
from official.alexnet.config import Config
from official.alexnet.errors import UserError


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1:30", "int, not '1:30'"),
        ("0b11", "int, not '0b11'"),
        ("1e2", "int, not 100.0"),
        (".inf", "int, not inf"),
        ("yes", "int, not 'yes'"),
        ("true", "int, not True"),
        ("", "int, not None"),
        ("\t- x", r"line 2, column 16"),
        ("&a 1, seed: *a", r"\*a is an alias"),
    ],
)
def test_what_yaml_may_take_for_a_number(value, message):
    text = f"train:\n  {{batch_size: {value}}}"
    with pytest.raises(UserError, match=message) as error:
        config_files.override(Config(), config_files.parse_yaml(text, "f"), "f")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train:\n  seed: 1\n  momentum: 0\n  seed: 2", "line 4: seed .* line 2"),
        ("train: {seed: 1}\nmodel: {width: 1}\ntrain: {}", "line 3: train .* line 1"),
        ("train: {seed: 1, 'seed': 1}", "line 1: seed .* line 1"),
    ],
)
def test_a_key_that_stands_twice_is_refused(text, message):
    with pytest.raises(UserError, match=rf"^mine\.yaml .*{message}"):
        config_files.parse_yaml(text, "mine.yaml")


@pytest.mark.parametrize(
    "text", ["off", "1e3", "0o10", "010", "1:30", "2024-01-31", "~x", "null", "", "1_0"]
)
def test_text_is_read_as_it_was_written(text):
    """By this package, and by readers of YAML 1.1."""
    written = plain_yaml.write({"a": text})
    assert plain_yaml.read(written, "") == yaml.safe_load(written) == {"a": text}


@pytest.mark.parametrize("text", ["train: [", "- 1", "train: 3", "words"])
def test_yaml_of_another_form(text):
    with pytest.raises(UserError, match=r"^file\.yaml ") as error:
        config_files.parse_yaml(text, "file.yaml")
    assert len(str(error.value).splitlines()) == 1
