"""What the binaries share: flags from the settings, one clear line for a mistake."""

import dataclasses
import difflib
import json
import logging as std_logging
import os
import pathlib
import re
import signal
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable

from absl import app, flags, logging

from official.alexnet import __version__, config_files, fields, run_files
from official.alexnet import config as config_lib
from official.alexnet import paths as paths_lib
from official.alexnet.config import Config
from official.alexnet.data import atomic, image_files
from official.alexnet.errors import Interrupted, UserError
from official.alexnet.training.preemption import EXIT_STATUS

FLAGS = flags.FLAGS


def define_config_flags(of_run: Iterable[str] | None = None) -> None:
    """Defines `--config_file` and a flag for each setting.

    Args:
        of_run: names of the settings to define for a command that starts from the
            settings of an earlier run; None for all settings and their own defaults.
    """
    flags.DEFINE_string(
        "config_file",
        None,
        "YAML file of settings: a path, or the name of one that comes with the "
        "package, such as paper. Flags win over it. Default: none.",
    )
    for section, field in _settings():
        if of_run is None or field.name in of_run:
            # Where to compute is not the run's, as what to compute is.
            is_own = of_run is None or field.name == "num_columns"
            is_own |= section.name == "runtime"
            default = fields.show(field.default) if is_own else "the run's"
            help = f"{field.metadata['help']} Default: {default}."
            _define(section.type, field, help)


def _settings() -> list[tuple[dataclasses.Field, dataclasses.Field]]:
    """All settings, each with its section."""
    return [
        (section, field)
        for section in dataclasses.fields(Config)
        for field in dataclasses.fields(section.default)
    ]


def _define(section: type, field: dataclasses.Field, help: str) -> None:
    kind, _ = fields.kind_of(section, field.name)
    if field.metadata["choices"]:
        flags.DEFINE_enum(field.name, None, list(field.metadata["choices"]), help)
        return
    define = {
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }.get(kind, flags.DEFINE_list)
    define(field.name, None, help)


def path(flag: str, *, of_checkpoints: bool = False) -> str | None:
    """Value of a flag that is a path.

    Args:
        flag: its name.
        of_checkpoints: whether TensorFlow is to find checkpoints or SavedModels there.

    Raises:
        UserError: see `paths`.
    """
    value = FLAGS[flag].value
    if value is None:
        return None
    check = paths_lib.of_checkpoints if of_checkpoints else paths_lib.local
    return str(check(value, f"--{flag}"))


def paths(flag: str) -> list[str]:
    """Values of a flag that is a list of paths; as `path`."""
    return [str(paths_lib.local(item, f"--{flag}")) for item in FLAGS[flag].value or []]


def config_from_flags(base: Config | None = None, *, reads_data: bool = True) -> Config:
    """The settings of this call, checked.

    Args:
        base: what to start from: the defaults, or those of an earlier run.
        reads_data: whether the command reads images, and must be told which.

    Raises:
        UserError: a mistake in a file or flag, or another net than the run's.
    """
    config = base or Config()
    if FLAGS.config_file:
        settings = config_files.load(FLAGS.config_file)
        config = config_files.override(config, settings, FLAGS.config_file)
    given: dict[str, dict] = {}
    for section, field in _settings():
        if field.name in FLAGS and FLAGS[field.name].present:
            given.setdefault(section.name, {})[field.name] = FLAGS[field.name].value
    config = config_files.override(config, given, "flags")
    sources = {"data_dir", "tfds_name"}
    if base and sources & given.get("data", {}).keys():
        # That of the run is of the run's own data.
        label_base = given["data"].get("label_base", "auto")
        data = dataclasses.replace(config.data, label_base=label_base)
        config = dataclasses.replace(config, data=data)
    config_lib.check(config, reads_data=reads_data)
    if base is not None and (others := run_files.other_net(base, config)):
        raise UserError(
            f"the run was trained with other settings ({', '.join(others)}): leave "
            "these out"
        )
    return config


# Flags of earlier versions, and what says the same.
_GONE = {
    "params_override": "give the flag of each setting, or a --config_file",
    "learning_rate_steps": "give --rates='30 all 0.001,60 all 0.0001'",
    "learning_rates": "give --rates='30 all 0.001,60 all 0.0001'",
    "bias_learning_rate": "give --rates='0 biases x2'",
    "bias_schedule": "give --rates='0 biases 0.02'",
    "bias_learning_rate_steps": "give --rates='0 biases 0.02,23 biases 0.002'",
    "bias_dexp": "give --rates='0 biases 0.02,50% biases 0.002'",
    "layer_learning_rates": "give --rates='0 fc8 x10,72 conv1 0'",
    "freeze_layers": "give --rates='0 conv1 0,0 conv2 0'",
    "run_eagerly": "call tf.config.run_functions_eagerly(True) to debug",
    "schedule=steps": "give --schedule=constant --rates='30 all 0.001'",
}


def run(name: str, main: Callable[[], dict]) -> None:
    """Runs a binary: flags in, `main`, one line of JSON out.

    A mistake of the user's ends it with status 2 and one line on stderr, a signal
    after which all is saved with status 75; what is neither keeps its traceback.

    Args:
        name: of the command, for messages.
        main: returns the results; its module's docstring is the head of --help.
    """
    # A file's name may hold what the terminal's encoding does not.
    sys.stdout.reconfigure(errors="backslashreplace")
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.setFormatter(std_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(_is_worth_reading)

    def parse(argv: list[str]) -> list[str]:
        if _HELP.intersection(argv[1:]):
            print(_help(sys.modules[main.__module__].__doc__))
            sys.exit(0)
        if "--version" in argv[1:]:
            print(name, __version__)
            sys.exit(0)
        try:
            return FLAGS(argv)
        except flags.UnrecognizedFlagError as error:
            if advice := _GONE.get(error.flagname.removeprefix("no")):
                _fail(name, f"--{error.flagname} is gone: {advice}")
            close = difflib.get_close_matches(error.flagname, list(FLAGS), n=1)
            advice = f"did you mean --{close[0]}? See" if close else "see"
            _fail(name, f"unknown flag --{error.flagname}; {advice} {name} --help")
        except flags.Error as error:
            if "--schedule=steps" in argv:
                _fail(name, f"--schedule=steps is gone: {_GONE['schedule=steps']}")
            text = str(error)
            for pattern, words in _PLAINER.items():
                text = re.sub(pattern, words, text)
            _fail(name, f"{text}; see {name} --help")

    def call(argv: list[str]) -> None:
        if len(argv) > 1:
            _fail(
                name,
                f"stray argument {argv[1]!r}: settings are given as --flag=value; "
                f"see {name} --help",
            )
        try:
            _check_flags(name)
            _print(main())
        except UserError as error:
            _fail(name, str(error), error.status)
        except _OUT_OF_REACH as error:
            _fail(name, f"{error.filename}: {error.strerror}; name another place")
        except Interrupted as stopped:
            _say(f"{name}: {stopped}")
            # All is saved, and TensorFlow's threads may take long to end.
            os._exit(EXIT_STATUS)
        except KeyboardInterrupt:
            _fail(name, "interrupted", 128 + signal.SIGINT)
        except BrokenPipeError:
            # `| head` has seen enough: as other commands, without a word.
            _write_nowhere(sys.stdout)
            _write_nowhere(sys.stderr)
            sys.exit(128 + signal.SIGPIPE)
        except Exception as error:
            if clear := atomic.explained(error):
                _fail(name, str(clear))
            raise

    app.run(call, flags_parser=parse)


def _print(results: dict) -> None:
    try:
        with atomic.saying_where("standard output"):
            print(json.dumps(results), flush=True)
    except UserError:
        _write_nowhere(sys.stdout)
        raise


def _write_nowhere(stream: typing.TextIO) -> None:
    """What is left in the stream: Python tries to write it once more at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_OUT_OF_REACH = (
    PermissionError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
)
# Flags whose files Python opens, under any name.
_ANY_BYTES = {"images", "search_images"}
_HELP = {"--help", "-help", "-h", "-?", "--helpshort"}
_PLAINER = {
    r"flag --(\w+)=None: Flag --\w+ must have a value other than None\.": (
        r"--\1 is required"
    ),
    r"^flag ": "",
    r"invalid literal for int\(\) with base 10": "not a whole number",
    r"could not convert string to float": "not a number",
    r"\('Non-boolean argument to boolean flag', (.*)\)": r"neither true nor false: \1",
}


def _own_flags() -> list[flags.Flag]:
    """The command's flags without those that absl adds to every program."""
    modules = FLAGS.flags_by_module_dict().items()
    return [flag for name, own in modules if "absl." not in name for flag in own]


def _is_utf8(value) -> bool:
    """Whether the bytes that the shell gave are those that TensorFlow will see."""
    texts = value if isinstance(value, list) else [value]
    try:
        return all(os.fsencode(t) == t.encode() for t in texts if isinstance(t, str))
    except UnicodeError:
        return False


def _check_flags(name: str) -> None:
    """Before anything is done.

    Raises:
        UserError: a value is missing, TensorFlow would not see the bytes of a name as
            they are, or an address would become a folder called `gs:`.
    """
    for flag in _own_flags():
        if _is_required(flag) and not flag.value:
            raise UserError(f"--{flag.name} is empty; see {name} --help")
        if flag.name not in _ANY_BYTES and not _is_utf8(flag.value):
            raise UserError(
                f"--{flag.name}={image_files.text(str(flag.value))}: TensorFlow takes "
                "names in UTF-8 only; rename it, or set LC_ALL=C.UTF-8 where it is "
                "UTF-8"
            )
        for text in flag.value if isinstance(flag.value, list) else [flag.value]:
            if isinstance(text, str) and flag.name != "worker_hosts":
                paths_lib.local(text, f"--{flag.name}")


def _is_required(flag: flags.Flag) -> bool:
    """absl keeps it as a validator, as it keeps bounds."""
    return any("other than None" in check.message for check in flag.validators)


def _help(head: str) -> str:
    """The command's own flags: absl shows only those that its main file defines."""
    is_setting = "config_file" in FLAGS
    sections = {f.name: section.name for section, f in _settings() if is_setting}
    titles = {"": "Flags:"} | {
        section.name: f"Settings of the section `{section.name}`:"
        for section in dataclasses.fields(Config)
    }
    blocks = {title: [] for title in titles.values()}
    for flag in _own_flags():
        blocks[titles[sections.get(flag.name, "")]].append(_help_of(flag))
    shown = [f"{title}\n" + "\n".join(b) for title, b in blocks.items() if b]
    end = "--version shows the version, --helpfull absl's flags too."
    return "\n\n".join([head.strip(), *shown, end])


def _help_of(flag: flags.Flag) -> str:
    values = {"int": "=N", "float": "=X", "comma separated list of strings": "=A,B,..."}
    form, text = f"--{flag.name}{values.get(flag.flag_type(), '=TEXT')}", flag.help
    if flag.flag_type() == "bool":
        form = f"--[no]{flag.name}"
    elif isinstance(flag, flags.EnumFlag):
        choices = "|".join(flag.parser.enum_values)
        form = f"--{flag.name}={choices}"
        text = text.removeprefix(f"<{choices}>: ")
        if len(form) > 80:
            form = f"--{flag.name}=NAME"
            text += f" One of {', '.join(flag.parser.enum_values)}."
    if _is_required(flag):
        text += " Required."
    elif flag.default is not None and "Default: " not in text:
        text += f" Default: {fields.show(flag.default)}."
    indent = " " * 6
    wrapped = textwrap.fill(text, 80, initial_indent=indent, subsequent_indent=indent)
    return f"  {form}\n{wrapped}"


def _is_worth_reading(record: std_logging.LogRecord) -> bool:
    """Of other libraries' messages, warnings only."""
    ours = str(pathlib.Path(__file__).parent)
    return record.levelno > std_logging.INFO or record.pathname.startswith(ours)


def start_tensorflow() -> None:
    """Imports TensorFlow; where there is no GPU, without what it says of that.

    It takes seconds: a binary calls this when its flags are known to be right.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow leaves it off on CPUs without AVX-512; grouped kernels need it there.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
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


def _fail(name: str, message: str, status: int = UserError.status) -> typing.NoReturn:
    _say(f"{name}: {' '.join(message.splitlines())}")
    sys.exit(status)


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # Nobody reads it any more.
        _write_nowhere(sys.stderr)
