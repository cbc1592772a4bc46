"""What the binaries share: one clear line for a mistake, and how they end."""

import difflib
import json
import logging as std_logging
import os
import pathlib
import re
import signal
import sys
import typing
from collections.abc import Callable

from absl import app, flags, logging

from official.alexnet import __version__, disk, library, setting_flags
from official.alexnet import paths as paths_lib
from official.alexnet.data import image_files
from official.alexnet.distribution import watch
from official.alexnet.errors import Interrupted, UserError
from official.alexnet.setting_flags import config_from_flags, define_config_flags
from official.alexnet.training.preemption import EXIT_STATUS

__all__ = ["config_from_flags", "define_config_flags", "path", "paths", "run"]

FLAGS = flags.FLAGS


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


def new_file(flag: str, *endings: str) -> str | None:
    """Value of a flag that is a file to write.

    Raises:
        UserError: it is there, its folder is not, or it has none of the endings.
    """
    value = path(flag)
    if value is None:
        return None
    file = pathlib.Path(value)
    if file.suffix.lower() not in endings:
        raise UserError(f"--{flag}={value}: name a file in {' or '.join(endings)}")
    if file.is_symlink() or file.exists():
        raise UserError(
            f"--{flag}={value} is there already: move it away, or name another"
        )
    if not file.parent.is_dir():
        raise UserError(f"--{flag}={value}: no such directory as {file.parent}")
    return value


def paths(flag: str) -> list[str]:
    """Values of a flag that is a list of paths; as `path`."""
    return [str(paths_lib.local(item, f"--{flag}")) for item in FLAGS[flag].value or []]


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
    "max_bad_records": "training stops at a bad record; tools/validate_records.py "
    "--decode lists all of them",
    "labels": "the names of a run's classes are the lines of its labels.txt",
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

    def call(argv: list[str]) -> None:
        if len(argv) > 1:
            _fail(
                name,
                f"stray argument {argv[1]!r}: settings are given as --flag=value; "
                f"see {name} --help",
            )
        watch.ends_process = True
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
            if clear := disk.explained(error):
                _fail(name, str(clear))
            raise

    head = sys.modules[main.__module__].__doc__
    app.run(call, flags_parser=lambda argv: _parse(name, head, argv))


def _parse(name: str, head: str, argv: list[str]) -> list[str]:
    """Reads the flags; a mistake in them, --help and --version end the process."""
    if _HELP.intersection(argv[1:]):
        print(setting_flags.help_of(head))
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


def _print(results: dict) -> None:
    try:
        with disk.saying_where("standard output"):
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
    for flag in setting_flags.own_flags():
        if setting_flags.is_required(flag) and not flag.value:
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


def _is_worth_reading(record: std_logging.LogRecord) -> bool:
    """Of other libraries' messages, warnings only."""
    ours = str(pathlib.Path(__file__).parent)
    return record.levelno > std_logging.INFO or record.pathname.startswith(ours)


def start_tensorflow() -> None:
    """Imports TensorFlow; where there is no GPU, without what it says of that.

    It takes seconds: a binary calls this when its flags are known to be right.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    gpu_files = [
        *pathlib.Path("/dev").glob("nvidia*"),
        *pathlib.Path("/dev").glob("dxg"),
    ]
    if gpu_files:
        library.start_tensorflow()
        return
    stderr = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        library.start_tensorflow()
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
