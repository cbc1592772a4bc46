r"""Checks a set of TFRecords: files, checksums, records, labels, and pictures.

  python tools/validate_records.py --data_dir=imagenet --decode

A set that tools/prepare_imagenet.py made is checked against its manifest.json: every
shard there, its size, sha256, number of records; the checksum of every length and
record; schema; labels in range and, by the record's WordNet id, those of labels.txt;
statistics.npz; with --decode every picture too. A command is printed that remakes just
the damaged shards. Of other sets, classic or TFDS, it checks what can be
checked without a manifest.

Exit status 0: no damage; 1: damage, listed in the last line on stdout, which is one
JSON object; 2: it could not be checked.
"""

import collections
import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import shlex
import sys
import time

from absl import flags

from official.alexnet import cli
from official.alexnet.errors import UserError
from official.alexnet.library import num_cores


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    flags.DEFINE_string("data_dir", None, "Folder of the records.", required=True)
    flags.DEFINE_bool("decode", False, "Decode every picture too; takes longer.")
    flags.DEFINE_integer(
        "num_workers", None, "Processes. Default: one for each core.", 1
    )


def main() -> dict:
    """Checks what the flags say; returns the results, or exits with 1."""
    start = time.monotonic()
    folder = pathlib.Path(cli.path("data_dir"))
    if not folder.is_dir():
        raise UserError(f"--data_dir={folder}: no such directory")
    # A process a core would open each GPU, and a lack of memory looks like damage.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    cli.start_tensorflow()
    from official.alexnet.data import schemas, validation  # noqa: PLC0415

    problems = validation.Problems()
    manifest = validation.read_manifest(folder, problems)
    if not manifest:
        lost = "sizes, sha256 and numbers of records cannot be checked"
        print(f"{folder} has no whole manifest.json: {lost}", flush=True)
    jobs = validation.find_shards(folder, manifest, flags.FLAGS.decode, problems)
    todo = [(split, job) for split in jobs for job in jobs[split]]
    if not jobs and not problems:
        raise UserError(f"{folder}: no records, neither classic nor TFDS")
    if others := validation.others(folder, jobs, problems):
        print(f"{len(others)} file(s) not checked, such as {others[0]}", flush=True)
    loaded = time.monotonic()
    labels = {split: collections.Counter() for split in jobs}
    num_examples = num_bytes = 0
    blamed = None
    reports = _map(validation.check_shard, [job for _, job in todo])
    for (split, _), report in zip(todo, reports, strict=True):
        labels[split] += report.labels
        num_examples += report.num_examples
        num_bytes += report.num_bytes
        for problem in report.problems:
            problems.add(report.file, problem, report.is_damaged or not manifest)
        if report.labels_fault and not blamed:
            blamed = report.file
            text = f"{blamed} has the manifest's sha256, but {report.labels_fault}: "
            text += "labels.txt is wrong, or the manifest is of other records"
            problems.add("labels.txt", text)
    is_tfds = any(job.schema == schemas.TFDS for _, job in todo)
    empty = validation.check_labels(folder, labels, manifest, is_tfds, problems)
    if manifest:
        validation.check_statistics(folder, manifest, problems)
    damaged = list(dict.fromkeys(p["file"] for p in problems if p["remake"]))
    if damaged and manifest:
        print(
            "To remake what is damaged, with --synsets and the other parts as before:\n"
            f"  {_command(folder, manifest, damaged)}"
        )
    seconds = time.monotonic() - loaded
    print(
        f"{num_examples:,} records in {len(todo)} files: {len(problems)} problem(s); "
        f"{num_bytes / 1e6 / seconds:.1f} MB and {num_examples / seconds:.0f} records "
        "a second"
    )
    results = {
        "num_examples": num_examples,
        "problems": problems,
        "damaged_shards": damaged,
        "classes_without_images": empty,
        "num_files_not_checked": len(others),
        "has_manifest": manifest is not None,
        "decoded": flags.FLAGS.decode,
        "seconds": round(time.monotonic() - start, 1),
    }
    if problems:
        print(json.dumps(results), flush=True)
        sys.exit(1)
    return results


def _map(function, jobs: list):
    """Yields the results for all jobs in order, made in as many processes as told."""
    num_workers = min(flags.FLAGS.num_workers or num_cores(), len(jobs))
    if num_workers <= 1:
        yield from map(function, jobs)
        return
    with concurrent.futures.ProcessPoolExecutor(
        num_workers,
        # A fork of a process with TensorFlow's threads in it may hang.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=cli.start_tensorflow,
    ) as pool:
        yield from pool.map(function, jobs)


def _command(folder: pathlib.Path, manifest: dict, damaged: list[str]) -> str:
    settings = manifest["settings"]
    shards = [f"--{split}_shards={n}" for split, n in settings["shards"].items()]
    return (
        "python tools/prepare_imagenet.py --input_dir=WHERE_THE_ARCHIVES_ARE "
        f"--output_dir={shlex.quote(str(folder))} {' '.join(shards)} "
        f"--seed={settings['seed']} "
        f"--max_bad_images={len(manifest.get('bad_images', []))} "
        f"--remake={','.join(damaged)}"
    )


if __name__ == "__main__":
    define_flags()
    cli.run("validate_records", main)
