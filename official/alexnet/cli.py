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

from official.alexnet import __version__, config_files, disk, library, setting_flags
from official.alexnet import paths as paths_lib
from official.alexnet.data import image_files
from official.alexnet.distribution import watch
from official.alexnet.errors import Interrupted, UserError
from official.alexnet.setting_flags import config_from_flags, define_config_flags
from official.alexnet.training.preemption import EXIT_STATUS

__all__ = ["config_from_flags", "define_config_flags", "path", "paths", "run"]

FLAGS = flags.FLAGS
# Flags of earlier versions, and what says the same.
_GONE = {
    "params_override": "give the flag of each setting, or a --config_file",
    **dict.fromkeys(
        config_files.OLD_RATES, "give --rates='0 conv1 0,0 biases x2,30 all 0.001'"
    ),
    "run_eagerly": "call tf.config.run_functions_eagerly(True) to debug",
    "max_bad_records": "training stops at a bad record; tools/validate_records.py "
    "--decode lists all of them",
    "list": "the plan is a YAML file: its rows are there",
    "labels": "the names of a run's classes are the lines of its labels.txt",
    "schedule=steps": "give --schedule=constant --rates='30 all 0.001'",
}
_OUT_OF_REACH = (
    *(PermissionError, FileExistsError, FileNotFoundError),
    *(NotADirectoryError, IsADirectoryError),
)
# Flags whose files Python opens, under any name.
_ANY_BYTES = {"images", "search_images"}
_HELP = {"--help", "-help", "-h", "-?", "--helpshort"}
_PLAINER = {
    r"flag (--\w+)=None: Flag --\w+ must have a value other than None\.": (
        r"\1 is required"
    ),
    "^flag ": "",
    r"invalid literal for int\(\) with base 10": "not a whole number",
    "could not convert string to float": "not a number",
    r"\('Non-boolean argument to boolean flag', (.*)\)": r"neither true nor false: \1",
}
_STDOUT, _STDERR = 1, 2


def path(flag: str, *, of_checkpoints: bool = False) -> str | None:
    """Value of a flag that is a path.

    `of_checkpoints`: TensorFlow is to find checkpoints or SavedModels there.

    Raises:
        UserError: as the functions of `paths`.
    """
    value = FLAGS[flag].value
    check = paths_lib.of_checkpoints if of_checkpoints else paths_lib.local
    return None if value is None else str(check(value, f"--{flag}"))


def paths(flag: str) -> list[str]:
    """Values of a flag that is a list of paths; as `path`."""
    return [str(paths_lib.local(item, f"--{flag}")) for item in FLAGS[flag].value or []]


def new_file(flag: str, *endings: str) -> str | None:
    """Value of a flag that is a file to write.

    Raises:
        UserError: it is there, its folder is not, or it has none of the endings.
    """
    value = path(flag)
    if value is None:
        return None
    file, wrong = pathlib.Path(value), None
    if file.suffix.lower() not in endings:
        wrong = f": name a file in {' or '.join(endings)}"
    elif file.is_symlink() or file.exists():
        wrong = " is there already: move it away, or name another"
    elif not file.parent.is_dir():
        wrong = f": no such directory as {file.parent}"
    if wrong:
        raise UserError(f"--{flag}={value}{wrong}")
    return value


def run(name: str, main: Callable[[], dict]) -> None:
    """Runs the binary of this name: flags in, `main`, one line of JSON out.

    A mistake of the user's ends it with status 2 and one line on stderr, a signal
    after which all is saved with status 75; what is neither keeps its traceback.
    The docstring of `main`'s module is the head of --help.
    """
    # A file's name may hold what the terminal's encoding does not.
    sys.stdout.reconfigure(errors="backslashreplace")
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.setFormatter(std_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(_is_worth_reading)

    def call(argv: list[str]) -> None:
        watch.ends_process = True
        try:
            _check_flags(name, argv)
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
            _write_nowhere(_STDOUT, _STDERR)
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


def _check_flags(name: str, argv: list[str]) -> None:
    """Before anything is done: addresses would become folders called `gs:`."""
    if stray := argv[1:]:
        raise UserError(
            f"stray argument {stray[0]!r}: settings are given as --flag=value; see "
            f"{name} --help"
        )
    for flag in setting_flags.own_flags():
        if setting_flags.is_required(flag) and not flag.value:
            raise UserError(f"--{flag.name} is empty; see {name} --help")
        values = flag.value if isinstance(flag.value, list) else [flag.value]
        texts = [value for value in values if isinstance(value, str)]
        if flag.name not in _ANY_BYTES and not all(map(_is_utf8, texts)):
            raise UserError(
                f"--{flag.name}={image_files.text(str(flag.value))}: TensorFlow takes "
                "names in UTF-8 only; rename it, or set LC_ALL=C.UTF-8 where it is "
                "UTF-8"
            )
        for text in texts if flag.name != "worker_hosts" else ():
            paths_lib.local(text, f"--{flag.name}")


def _is_utf8(text: str) -> bool:
    """Whether the bytes that the shell gave are those that TensorFlow will see."""
    try:
        return os.fsencode(text) == text.encode()
    except UnicodeError:
        return False


def _is_worth_reading(record: std_logging.LogRecord) -> bool:
    """Of other libraries' messages, warnings only."""
    ours = str(pathlib.Path(__file__).parent)
    return record.levelno > std_logging.INFO or record.pathname.startswith(ours)


def start_tensorflow() -> None:
    """Imports TensorFlow; where there is no GPU, without what it says of that.

    It takes seconds: a binary calls this when its flags are known to be right.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    devices = pathlib.Path("/dev")
    if any(devices.glob("nvidia*")) or (devices / "dxg").exists():
        library.start_tensorflow()
        return
    stderr = os.dup(_STDERR)
    _write_nowhere(_STDERR)
    try:
        library.start_tensorflow()
        import tensorflow as tf  # noqa: PLC0415

        tf.config.list_physical_devices()
    finally:
        os.dup2(stderr, _STDERR)
        os.close(stderr)


def _print(results: dict) -> None:
    try:
        with disk.saying_where("standard output"):
            print(json.dumps(results), flush=True)
    except UserError:
        _write_nowhere(_STDOUT)
        raise


def _fail(name: str, message: str, status: int = UserError.status) -> typing.NoReturn:
    _say(f"{name}: {' '.join(message.splitlines())}")
    sys.exit(status)


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # Nobody reads it any more.
        _write_nowhere(_STDERR)


def _write_nowhere(*streams: int) -> None:
    """What is left in a stream: Python tries to write it once more at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)
