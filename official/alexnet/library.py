"""The commands as functions: they raise what goes wrong, and never end the process."""

import contextlib
import dataclasses
import os
import pathlib
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping

from absl import logging

from official.alexnet import config as config_lib
from official.alexnet import disk, paths, run_files
from official.alexnet.config import Config
from official.alexnet.data import image_files
from official.alexnet.distribution import launcher
from official.alexnet.errors import NoRoom, UserError
from official.alexnet.setting_flags import config_of
from official.alexnet.training.preemption import Preemption

FOLLOW_SECONDS = 3600.0
# Of an evaluator task, which its cluster ends with the job.
EVALUATOR_SECONDS = 7 * 24 * 3600.0

_Path = str | os.PathLike


def start_tensorflow() -> None:
    """Imports TensorFlow, with the kernels that the commands have."""
    # TensorFlow leaves it off on CPUs without AVX-512; grouped kernels need it there.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import tensorflow as tf  # noqa: F401, PLC0415


def train(
    settings: Config | Mapping[str, object],
    model_dir: _Path,
    *,
    clean: bool = False,
    signals: bool = False,
) -> dict:
    """Trains a net, or resumes it from the latest checkpoint: `alexnet-train`.

    It may be called in any thread, and again in the same process; of several workers
    only once, and before TensorFlow has started. TF_CONFIG and --launcher are read as
    the command reads them.

    Args:
        settings: by the names of their flags, such as `{"config_file": "paper",
            "data_dir": "imagenet"}`; or all of them.
        model_dir: where checkpoints and logs go.
        clean: delete an earlier run in `model_dir` first.
        signals: take SIGTERM, SIGINT and SIGUSR1, in the main thread: the step under
            way is saved, and `Interrupted` raised. A second SIGTERM or SIGINT ends the
            process, as does one before the first step that waits for 4 s, as while
            the step is traced. Otherwise Ctrl-C is KeyboardInterrupt, and what was not
            saved is lost.

    Returns:
        The results of the last step and the last evaluation.

    Raises:
        UserError: a mistake in the settings, the data or an earlier checkpoint.
        WorkerLost: another worker did not come up, or is lost. This process goes on,
            but another training of many workers needs new processes.
        Interrupted: by a signal; what was done is saved.
    """
    config = settings if isinstance(settings, Config) else config_of(settings)
    folder = str(paths.of_checkpoints(model_dir, "--model_dir"))
    with Preemption() if signals else contextlib.nullcontext() as preemption:
        done = other_task(config, folder, start_tensorflow, clean)
        if done is not None:
            return done
        start_tensorflow()
        from official.alexnet.training import trainer  # noqa: PLC0415

        with saying_how_to_resume(clean):
            return trainer.train(config, folder, clean=clean, preemption=preemption)


def other_task(
    config: Config, folder: str, start: Callable[[], None], clean: bool
) -> dict | None:
    """Does what a process of a job is there for that does not train.

    Args:
        config: all settings.
        folder: of the run.
        start: imports TensorFlow.
        clean: the workers delete an earlier run first.

    Returns:
        Its results; None where the process trains, which is left to the caller.

    Raises:
        UserError: a mistake in the settings, in TF_CONFIG or the scheduler's variables.
    """
    config_lib.check(config)
    if pathlib.Path(folder).is_file():
        raise UserError(f"--model_dir={folder} is a file: name a directory")
    role = launcher.find(config.runtime)
    if role.task == "ps":
        logging.info("%s: nothing to do, as the workers hold the weights", role)
        return {"task": "ps"}
    if role.task == "evaluator":
        if clean:
            raise UserError(
                "an evaluator does not know a run that --clean deletes from the next: "
                "leave --clean out, and give all tasks a new --model_dir"
            )
        logging.info("%s: evaluates each checkpoint of %s", role, folder)
        start()
        from official.alexnet.training.following import follow  # noqa: PLC0415

        return follow(_beside(config), folder, EVALUATOR_SECONDS, is_told=True)
    return None


@contextlib.contextmanager
def saying_how_to_resume(clean: bool) -> Iterator[None]:
    """Turns what a full disk raises in a training into one line.

    Raises:
        NoRoom: the same command resumes, but without --clean, which would delete what
            is kept.
    """
    try:
        with disk.saying_where(None):
            yield
    except NoRoom as error:
        if clean:
            raise NoRoom(f"{error}, but without --clean") from error
        raise


def _beside(config: Config) -> Config:
    """For one process with what it has; the settings are the workers'."""
    runtime = dataclasses.replace(
        config.runtime,
        distribution_strategy="off",
        launcher="none",
        worker_hosts=None,
        task_index=0,
        num_gpus=0 if config.runtime.num_gpus == 0 else None,
        logical_cpus=None,
        logical_gpus=None,
        gpu_memory_mb=None,
        exchange_dtype=None,
    )
    model = dataclasses.replace(config.model, num_columns=1)
    return dataclasses.replace(config, model=model, runtime=runtime)


def evaluate(
    model_dir: _Path,
    settings: Mapping[str, object] | None = None,
    *,
    checkpoint_path: _Path | None = None,
) -> dict:
    """Scores a run on its validation images: `alexnet-eval`.

    Args:
        model_dir: directory of the run.
        settings: that replace the run's, by the names of their flags, such as
            `{"eval_crops": 10}`.
        checkpoint_path: such as `model_dir/ckpt-300`; the latest by default.

    Returns:
        Accuracy, top-5 accuracy, loss, and what they were measured on.

    Raises:
        UserError: no checkpoint, or a mistake in the settings or the data.
        WorkerLost: as `train` does.
    """
    folder = str(paths.of_checkpoints(model_dir, "--model_dir"))
    config = config_of(settings or {}, run_files.load_config(folder))
    start_tensorflow()
    from official.alexnet.training import evaluation  # noqa: PLC0415

    path = None if checkpoint_path is None else str(checkpoint_path)
    return evaluation.evaluate_run(config, folder, path)


def export(
    model_dir: _Path,
    export_dir: _Path,
    *,
    checkpoint_path: _Path | None = None,
    **options,
) -> dict:
    """Writes a trained net for others: `alexnet-export`, whose --help names the files.

    Args:
        model_dir: directory of the run.
        export_dir: where to write; must not exist yet, or be empty.
        checkpoint_path: such as `model_dir/ckpt-300`; the latest by default.
        **options: `formats`, `features`, `litert_quantization` and `portable`; see
            `official.alexnet.serving.export.export`.

    Returns:
        What was written, from which step.

    Raises:
        UserError: no checkpoint, `export_dir` is taken, a format that cannot be
            written, or a disk that is full or read-only.
    """
    config = run_files.load_config(str(paths.of_checkpoints(model_dir, "--model_dir")))
    start_tensorflow()
    from official.alexnet.serving import export as export_lib  # noqa: PLC0415

    path = None if checkpoint_path is None else str(checkpoint_path)
    for name in {"formats", "features"} & options.keys():
        if isinstance(options[name], str):  # As the flags take them.
            options[name] = options[name].split(",")
    with disk.saying_where(None):
        return export_lib.export(
            config, str(model_dir), str(export_dir), path, **options
        )


def prepare(
    input_dir: _Path | None,
    output_dir: _Path,
    *,
    train_shards: int = 1024,
    validation_shards: int = 128,
    test_shards: int = 128,
    seed: int = 0,
    max_bad_images: int = 0,
    num_workers: int | None = None,
    remake: Collection[str] = (),
    task: str | None = None,
    engine: Callable | None = None,
    **parts: _Path,
) -> dict:
    """Turns ImageNet as downloaded, or a folder of pictures, into records.

    It is tools/prepare_imagenet.py, whose --help says more of the arguments; called
    again it resumes.

    Args:
        input_dir: with the archives, or with train/<class>/ and val/<class>/; None
            where `parts` name all.
        output_dir: for the records.
        train_shards: number of files of the training set.
        validation_shards: the same of the validation set.
        test_shards: the same of a test set, if there is one.
        seed: of the one shuffle of the training list.
        max_bad_images: how many unreadable images may be left out.
        num_workers: processes; one for each core by default.
        remake: names of shards to write once more.
        task: `i/n`: write every n-th shard from shard i on, and nothing else.
        engine: has the list of shards written elsewhere, see `preparation.prepare`.
        **parts: paths of single archives, by the names of their flags.

    Returns:
        Numbers of images and classes, and the seconds it took.

    Raises:
        UserError: a mistake in the images, archives or arguments, or a disk that is
            full or read-only.
    """
    from official.alexnet.preparation import (  # noqa: PLC0415
        folder,
        locations,
        sources,
        webdataset,
    )
    from official.alexnet.preparation import prepare as prepare_lib  # noqa: PLC0415

    start = time.monotonic()
    given = {name: paths.local(path, f"--{name}") for name, path in parts.items()}
    source = None if input_dir is None else paths.local(input_dir, "--input_dir")
    target = paths.local(output_dir, "--output_dir")
    number = None if task is None else _task(str(task))
    shards = {"train": train_shards, "validation": validation_shards}
    shards["test"] = test_shards
    counts = {f"{split}_shards": count for split, count in shards.items()}
    counts["num_workers"] = 1 if num_workers is None else num_workers
    _check_numbers(counts, 1)
    _check_numbers({"seed": seed, "max_bad_images": max_bad_images}, 0)
    try:
        source = locations.locate(source, given)
        folder.reject_foreign(target)
        is_tree = isinstance(source, locations.Tree)
        if is_tree and webdataset.holds_tars(source):
            listing = webdataset.list_tars(source, target / prepare_lib.WORK_DIR)
        elif is_tree:
            listing = sources.list_tree(source)
        else:
            print(f"Looking through {source.train_archive} ...", flush=True)
            listing = sources.list_archives(source, target / prepare_lib.WORK_DIR)
        counts = ", ".join(f"{len(e)} {split}" for split, e in listing.splits.items())
        print(f"Found {counts} images of {len(listing.synsets)} classes.", flush=True)
        for split, left_out in listing.left_out.items():
            if line := image_files.said(left_out):
                print(f"warning: {split}: {line}", file=sys.stderr)
        manifest = prepare_lib.prepare(
            listing,
            target,
            num_shards={split: shards[split] for split in listing.splits},
            seed=seed,
            max_bad_images=max_bad_images,
            num_workers=num_cores() if num_workers is None else num_workers,
            remake=remake,
            task=number,
            engine=engine,
        )
    except OSError as error:
        raise UserError(
            f"{error.filename or target}: {error.strerror}; once that is mended, the "
            "same command resumes here"
        ) from error
    always = {"seconds": round(time.monotonic() - start, 1), "output_dir": str(target)}
    if manifest is None:
        return {"task": task, **always}
    results = {
        f"num_{split}": contents["num_examples"]
        for split, contents in manifest["splits"].items()
    }
    return results | {
        "num_classes": manifest["num_classes"],
        "num_bad_images": len(manifest["bad_images"]),
        "left_out": {
            split: image_files.summed(left_out)
            for split, left_out in listing.left_out.items()
            if left_out
        },
        **always,
    }


def _check_numbers(numbers: Mapping[str, int], least: int) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or not least <= value < 2**32:
            raise UserError(
                f"--{name} should be a whole number from {least} to {2**32 - 1}, not "
                f"{value!r}"
            )


def _task(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if number.isdecimal() and count.isdecimal() and int(number) < int(count):
        return int(number), int(count)
    raise UserError(f"--task={text}: expected i/n with i from 0 to n - 1, such as 0/8")


def num_cores() -> int:
    """Those this process may use, in a container fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
