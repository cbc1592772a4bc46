r"""Times this project beside its peers and beside the machine's limit.

  python tools/benchmark.py --small
  python tools/benchmark.py --suites=train_step --dtype=fp32 --json=train_step.json
  python tools/benchmark.py --suites=input,end_to_end --data_dir=imagenet

Suites: train_step, inference, input (JPEG records to batches), lrn, end_to_end
(training from records against synthetic data), scaling (a small set of records against
a large one), normalization (the step with LRN, without, with batch norm). Contenders
take turns, A B C A B C ..., after warm-up rounds, and each gets the same network,
batch, precision and threads. Peers come with pip install 'official-alexnet[bench]'; one
that is not installed is left out and named. It all runs on the CPU. Prints a table a
suite: median and shortest time of a step or batch, the spread (slowest less quickest,
of the median), images a second, and the time as a multiple of ours; then the bars that
are to be reached.
"""

import contextlib
import dataclasses
import gc
import importlib
import json
import os
import pathlib
import sys
import tempfile

from absl import flags
from benchmarking import bars, machine, peers, table
from benchmarking.settings import DTYPES, SUITES, Settings

from official.alexnet import cli
from official.alexnet.errors import UserError

_MODULES = {"input": "input_pipeline"}


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    flags.DEFINE_list("suites", list(SUITES), "Suites to run, in this order.")
    flags.DEFINE_integer(
        "batch_size", None, "Images a step. Default: 128, with --small 8.", 1
    )
    flags.DEFINE_integer("rounds", 5, "Samples of each contender.", 1)
    flags.DEFINE_integer("warmup", 2, "Rounds before, not counted.", 0)
    flags.DEFINE_list("peers", ["all"], f"Out of {', '.join(peers.PEERS)}; all; none.")
    flags.DEFINE_string(
        "data_dir",
        None,
        "Prepared records to read from. Default: pictures are drawn.",
    )
    flags.DEFINE_integer(
        "threads", None, "Cores to use. Default: all of this process's.", 1
    )
    flags.DEFINE_list("dtype", list(DTYPES), "fp32, bf16 or both.")
    flags.DEFINE_string("json", None, "File for every sample and all about the run.")
    flags.DEFINE_bool(
        "small", False, "A narrow net, small crops, few images: to try it out."
    )


def settings_from_flags() -> tuple[tuple[str, ...], Settings]:
    """The suites, and how to run them.

    Raises:
        UserError: an unknown suite, peer or dtype, or too many threads.
    """
    values = flags.FLAGS
    _check_names("suites", values.suites, SUITES)
    _check_names("dtype", values.dtype, DTYPES)
    threads = values.threads or machine.cores()
    if threads > machine.cores():
        raise UserError(f"--threads={threads}: there are {machine.cores()} cores here")
    if values.json and not pathlib.Path(cli.path("json")).parent.is_dir():
        raise UserError(f"--json={values.json}: there is no such directory")
    return tuple(values.suites), Settings(
        batch_size=values.batch_size or (8 if values.small else 128),
        rounds=values.rounds,
        warmup=values.warmup,
        peers=peers.choose(values.peers),
        dtypes=tuple(values.dtype),
        threads=threads,
        data_dir=cli.path("data_dir"),
        small=values.small,
    )


def _check_names(flag: str, given: list[str], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise UserError(f"--{flag}: {name!r} is none of {', '.join(known)}")


def main() -> dict:
    suites, settings = settings_from_flags()
    machine.bind_to_cores(settings.threads)
    cli.start_tensorflow()
    _keep_to_cpu(split="train_step" in suites)
    report = machine.describe() | {"settings": dataclasses.asdict(settings)}
    print(
        f"{report['cpu']}, {settings.threads} of {report['cores']} cores, oneDNN "
        f"{report['onednn_isa'] or 'unknown'}",
        ", ".join(f"{name} {v}" for name, v in report["versions"].items() if v),
        sep="\n",
    )
    report["suites"] = {}
    with tempfile.TemporaryDirectory() as folder:
        for suite in suites:
            report["suites"][suite] = run_suite(suite, settings, pathlib.Path(folder))
            if flags.FLAGS.json:
                text = json.dumps(report, indent=1)
                pathlib.Path(cli.path("json")).write_text(text + "\n", "utf-8")
    met = [bar["met"] for suite in report["suites"].values() for bar in suite["bars"]]
    return {
        "suites": list(suites),
        "bars_met": met.count(True),
        "bars_missed": met.count(False),
        "bars_not_measured": met.count(None),
        "json": cli.path("json"),
    }


def run_suite(suite: str, settings: Settings, work_dir: pathlib.Path) -> dict:
    """Runs a suite, prints its table, and returns it as data."""
    module = importlib.import_module(f"benchmarking.{_MODULES.get(suite, suite)}")
    rows, facts = module.measure(settings, work_dir)
    checks = bars.check(suite, rows, facts)
    print(f"\n{table.show(suite, rows, facts, checks)}\n", flush=True)
    if settings.small:
        print("The bars are meant for the full size, not for --small.\n", flush=True)
    data = table.as_data(rows, facts, checks)
    del rows, module
    _forget()
    return data


def _forget() -> None:
    """Gives back what a suite's models held."""
    if "keras" in sys.modules:  # Some suites do without it.
        sys.modules["keras"].backend.clear_session()
    gc.collect()


def _keep_to_cpu(*, split: bool) -> None:
    """Hides GPUs; for two columns the CPU is split before anything runs on it."""
    import tensorflow as tf  # noqa: PLC0415

    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    # Where TensorFlow has started already this is another's to decide.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
        if split:
            (cpu,) = tf.config.list_physical_devices("CPU")
            tf.config.set_logical_device_configuration(
                cpu, [tf.config.LogicalDeviceConfiguration()] * 2
            )


if __name__ == "__main__":
    define_flags()
    cli.run("benchmark.py", main)
