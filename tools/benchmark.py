r"""Times this project beside its peers and beside the machine's limit.

  python tools/benchmark.py --small
  python tools/benchmark.py --suites=train_step --dtype=fp32 --json=train_step.json
  python tools/benchmark.py --suites=input,end_to_end --data_dir=imagenet
  python tools/benchmark.py --suites=train_step,inference --against=../older

Suites: train_step, inference, preparation (originals to records), input (JPEG records
to batches), lrn, end_to_end (training from records against synthetic data), scaling (a
small set of records against a large one), normalization (the step with LRN, without,
with batch norm). Contenders
take turns, A B C A B C ..., after warm-up rounds, and each gets the same network,
batch, precision and threads. Peers come with pip install 'official-alexnet[bench]'; one
that is not installed is left out and named. Without --gpu all runs on the CPU. Prints a
table a suite: median and shortest time of a step or batch, the spread (slowest less
quickest, of the median), images a second, and the time as a multiple of ours: the
median of the ratios of each round, and their spread; then the bars that are to be
reached. With --against, another checkout of this repository is the only contender.
"""

import contextlib
import dataclasses
import functools
import gc
import importlib
import json
import os
import pathlib
import sys
import tempfile

from absl import flags
from benchmarking import against, report
from benchmarking import settings as settings_lib
from benchmarking.settings import DTYPES, PEERS, Settings
from benchmarking.timing import interleave

from official.alexnet import cli
from official.alexnet.errors import UserError, check_known
from official.alexnet.library import num_cores

# Imported when they are needed: they start TensorFlow.
SUITES = {
    "train_step": "train:train_step",
    "inference": "inference:inference",
    "preparation": "preparation:preparation",
    "input": "pipelines:input_pipeline",
    "lrn": "layers:lrn",
    "end_to_end": "train:end_to_end",
    "scaling": "pipelines:scaling",
    "normalization": "train:normalization",
}


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    flags.DEFINE_list("suites", list(SUITES), "Suites to run, in this order.")
    flags.DEFINE_integer(
        "batch_size", None, "Images a step. Default: 128, with --small 8.", 1
    )
    flags.DEFINE_integer("rounds", 5, "Samples of each contender.", 1)
    flags.DEFINE_integer("warmup", 2, "Rounds before, not counted.", 0)
    flags.DEFINE_list("peers", ["all"], f"Out of {', '.join(PEERS)}; all; none.")
    flags.DEFINE_string(
        "data_dir", None, "Prepared records to read from. Default: pictures are drawn."
    )
    flags.DEFINE_string(
        "originals",
        None,
        "Folder of pictures to prepare, looked through to the bottom. Default: drawn.",
    )
    flags.DEFINE_integer(
        "threads", None, "Cores to use. Default: all of this process's.", 1
    )
    flags.DEFINE_list("dtype", list(DTYPES), "fp32, bf16 or both.")
    flags.DEFINE_string(
        "against", None, "Folder of another checkout: it is timed in turn with this."
    )
    flags.DEFINE_string(
        "json", None, "File for every sample and all about the machine."
    )
    flags.DEFINE_bool("gpu", False, "Steps on a GPU, split in two of 3,072 MB.")
    flags.DEFINE_bool(
        "small", False, "A narrow net, small crops, few images: to try it out."
    )


def settings_from_flags() -> tuple[list[str], Settings]:
    """The suites, and how to time them.

    Raises:
        UserError: an unknown suite, peer or dtype, too many threads, or no checkout.
    """
    values = flags.FLAGS
    other = cli.path("against")
    known = against.SUITES if other else tuple(SUITES)
    if other and not flags.FLAGS["suites"].present:
        values.suites = list(known)
    _check_names("suites", values.suites, known)
    _check_names("dtype", values.dtype, DTYPES)
    _check_names("peers", values.peers, (*PEERS, "all", "none"))
    threads = values.threads or num_cores()
    if threads > num_cores():
        raise UserError(f"--threads={threads}: there are {num_cores()} cores here")
    if other and not pathlib.Path(other, "official/alexnet/__init__.py").is_file():
        raise UserError(f"--against={other}: there is no official.alexnet in it")
    is_alone = values.suites == ["train_step"] and values.peers == ["none"]
    if values.gpu and (other or not is_alone):
        raise UserError(
            "--gpu needs --suites=train_step --peers=none, and no --against"
        )
    if values.json and not pathlib.Path(cli.path("json")).parent.is_dir():
        raise UserError(f"--json={values.json}: there is no such directory")
    return list(dict.fromkeys(values.suites)), Settings(
        batch_size=values.batch_size or (8 if values.small else 128),
        rounds=values.rounds,
        warmup=values.warmup,
        peers=tuple(peer for peer in PEERS if {peer, "all"} & set(values.peers)),
        dtypes=tuple(dict.fromkeys(values.dtype)),
        threads=threads,
        data_dir=cli.path("data_dir"),
        originals=cli.path("originals"),
        against=other,
        small=values.small,
        gpu=values.gpu,
    )


def _check_names(flag: str, given: list[str], known: tuple[str, ...]) -> None:
    if not given and flag != "peers":
        raise UserError(f"--{flag} is empty: name some of {', '.join(known)}")
    for name in given:
        check_known(name, known, f"--{flag}: there is no")


def main() -> dict:
    suites, settings = settings_from_flags()
    settings_lib.bind_to_cores(settings.threads)
    cli.start_tensorflow()
    if not settings.gpu:
        _keep_to_cpu(split="train_step" in suites and not settings.against)
    data = settings_lib.machine() | {"settings": dataclasses.asdict(settings)}
    print(
        f"{data['cpu']}, {settings.threads} of {data['cores']} cores, oneDNN "
        f"{data['onednn_isa'] or 'unknown'}",
        ", ".join(f"{name} {v}" for name, v in data["versions"].items() if v),
        sep="\n",
    )
    data["suites"] = {}
    with tempfile.TemporaryDirectory() as folder:
        for suite in suites:
            data["suites"][suite] = run_suite(suite, settings, pathlib.Path(folder))
            if settings.small:
                print("\nThe bars are meant for the full size, not for --small.")
            if flags.FLAGS.json:
                text = json.dumps(data, indent=1)
                pathlib.Path(cli.path("json")).write_text(text + "\n", "utf-8")
    met = [bar["met"] for suite in data["suites"].values() for bar in suite["bars"]]
    return {
        "suites": suites,
        "bars_met": met.count(True),
        "bars_missed": met.count(False),
        "bars_not_measured": met.count(None),
        "json": cli.path("json"),
    }


def run_suite(suite: str, settings: Settings, work_dir: pathlib.Path) -> dict:
    """Times a suite's rows in turn, prints its table, and returns it as data."""
    if settings.against:
        start, bars = functools.partial(against.suite, suite), "against"
    else:
        module, _, function = SUITES[suite].partition(":")
        start = getattr(importlib.import_module(f"benchmarking.{module}"), function)
        bars = suite
    with start(settings, work_dir) as (rows, facts):
        interleave(
            rows,
            settings.rounds,
            settings.warmup,
            report=lambda line: print(f"{suite}: {line}", flush=True),
        )
    data = report.as_data(rows, facts, report.check(bars, rows, facts))
    print(f"\n{report.table(suite, data)}", flush=True)
    del rows, start
    if "keras" in sys.modules:  # Gives back what the suite's models held.
        sys.modules["keras"].backend.clear_session()
    gc.collect()
    return data


def _keep_to_cpu(*, split: bool) -> None:
    """Hides GPUs; for two columns the CPU is split before anything runs on it."""
    import tensorflow as tf  # noqa: PLC0415

    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # Of children, too.
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
