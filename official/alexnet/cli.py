"""What the binaries share: flags from the settings, one clear line for a mistake."""

import dataclasses
import json
import logging as std_logging
import os
import pathlib
import sys
import types
import typing
from collections.abc import Callable, Iterable

from absl import app, flags, logging

from official.alexnet import config as config_lib
from official.alexnet.config import Config
from official.alexnet.errors import UserError

FLAGS = flags.FLAGS


def define_config_flags(only: Iterable[str] | None = None) -> None:
    """Defines `--config_file`, `--params_override` and a flag for each setting.

    Args:
        only: names of the settings to define; all by default.
    """
    flags.DEFINE_string(
        "config_file",
        None,
        "YAML file of settings: a path, or the name of one that comes with the "
        "package, such as paper.",
    )
    flags.DEFINE_string(
        "params_override",
        None,
        "Settings by section and name, such as train.seed=1,model.width=0.5; they "
        "win over --config_file, and flags win over them.",
    )
    for section in dataclasses.fields(Config):
        for field in dataclasses.fields(section.default):
            if only is None or field.name in only:
                _define(field, typing.get_type_hints(section.type)[field.name])


def _define(field: dataclasses.Field, hint) -> None:
    help = f"{field.metadata['help']} Default: {_show(field.default)}."
    kind = typing.get_args(hint)[0] if isinstance(hint, types.UnionType) else hint
    if field.metadata["choices"]:
        flags.DEFINE_enum(field.name, None, list(field.metadata["choices"]), help)
    elif typing.get_origin(kind) is tuple:
        flags.DEFINE_list(field.name, None, help)
    else:
        define = {
            bool: flags.DEFINE_bool,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
            str: flags.DEFINE_string,
        }[kind]
        define(field.name, None, help)


def _show(default) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "none"
    return "none" if default is None else str(default)


def config_from_flags(base: Config | None = None) -> Config:
    """The settings of this call.

    Args:
        base: what to start from: the defaults, or those of an earlier run.

    Raises:
        UserError: a mistake in a file or flag.
    """
    config = base or Config()
    if FLAGS.config_file:
        settings = config_lib.load(FLAGS.config_file)
        config = config_lib.override(config, settings, FLAGS.config_file)
    if FLAGS.params_override:
        settings = config_lib.parse_override(FLAGS.params_override)
        config = config_lib.override(config, settings, "--params_override")
    given: dict[str, dict] = {}
    for section in dataclasses.fields(Config):
        for field in dataclasses.fields(section.default):
            if field.name in FLAGS and FLAGS[field.name].present:
                value = FLAGS[field.name].value
                if isinstance(value, list):
                    value = [_number(item, field.name) for item in value]
                given.setdefault(section.name, {})[field.name] = value
    return config_lib.override(config, given, "flags")


def _number(text: str, flag: str) -> float | int:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise UserError(f"--{flag}: {text!r} is not a number") from None


def run(name: str, main: Callable[[], dict]) -> None:
    """Runs a binary: flags in, `main`, one line of JSON out.

    A mistake of the user's ends it with status 2 and one line on stderr; nothing
    else is caught.

    Args:
        name: of the command, for messages.
        main: returns the results.
    """
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.setFormatter(std_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(_is_worth_reading)

    def parse(argv: list[str]) -> list[str]:
        try:
            return FLAGS(argv)
        except flags.Error as error:
            _fail(name, f"{error}; see {name} --help")

    def call(argv: list[str]) -> None:
        if len(argv) > 1:
            _fail(
                name,
                f"stray argument {argv[1]!r}: settings are given as --flag=value; "
                f"see {name} --help",
            )
        try:
            _start_tensorflow()
            results = main()
        except UserError as error:
            _fail(name, str(error))
        print(json.dumps(results), flush=True)

    app.run(call, flags_parser=parse)


def _is_worth_reading(record: std_logging.LogRecord) -> bool:
    """Of other libraries' messages, warnings only."""
    return record.levelno > std_logging.INFO or "alexnet" in record.pathname


def _start_tensorflow() -> None:
    """Imports TensorFlow; where there is no GPU, without what it says of that."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    gpu_files = [
        *pathlib.Path("/dev").glob("nvidia*"),
        *pathlib.Path("/dev").glob("dxg"),
    ]
    if gpu_files:
        import tensorflow as tf  # noqa: PLC0415

        return
    stderr = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        import tensorflow as tf  # noqa: PLC0415

        tf.config.list_physical_devices()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(silence)


def _fail(name: str, message: str) -> typing.NoReturn:
    print(f"{name}: {message}", file=sys.stderr)
    sys.exit(2)
