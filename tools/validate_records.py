r"""Checks a set of TFRecords: files, checksums, records, labels, and pictures.

  python tools/validate_records.py --data_dir=imagenet --decode

A set that tools/prepare_imagenet.py made is checked against its manifest.json: every
shard there, its size, sha256, number of records; the checksum of every length and
record; schema; labels in range and, by the record's WordNet id, those of labels.txt;
statistics.npz; with --decode every picture too. For each damaged shard the command that
remakes just that one is printed. Of other sets, classic or TFDS, it checks what can be
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
import re
import sys
import time

from absl import flags

from official.alexnet import cli
from official.alexnet.data import image_files
from official.alexnet.errors import UserError

_SPLITS = ("train", "validation", "test")
_SHARD = re.compile(r"(\w+)-(\d{5})-of-(\d{5})")


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
    cli.start_tensorflow()
    manifest, problems = _read_manifest(folder)
    if manifest:
        jobs = _jobs_of_manifest(folder, manifest, problems)
    else:
        print(
            f"{folder} has no manifest.json: sizes, sha256 and numbers of records "
            "cannot be checked",
            flush=True,
        )
        jobs = _jobs_by_looking(folder, problems)
    if not jobs and not problems:
        raise UserError(f"{folder}: no records, neither classic nor TFDS")
    others = _others(folder, jobs, problems)
    if others:
        print(f"{len(others)} file(s) not checked, such as {others[0]}", flush=True)
    labels = {split: collections.Counter() for split in jobs}
    num_examples = num_bytes = 0
    is_blamed = False
    loaded = time.monotonic()
    for split, report in _check(jobs):
        labels[split] += report.labels
        num_examples += report.num_examples
        num_bytes += report.num_bytes
        for problem in report.problems:
            _add(problems, report.file, problem, report.is_damaged or not manifest)
        if report.labels_fault and not is_blamed:
            is_blamed = True
            _add(problems, "labels.txt", _blame(report), False)
    is_tfds = any(job.schema.first_label == 0 for some in jobs.values() for job in some)
    empty = _check_labels(folder, labels, manifest, is_tfds, problems)
    if manifest:
        _check_statistics(folder, manifest, problems)
    damaged = list(dict.fromkeys(p["file"] for p in problems if p["remake"]))
    if damaged and manifest:
        print(f"To remake what is damaged:\n  {_command(folder, manifest, damaged)}")
    seconds = time.monotonic() - loaded
    print(
        f"{num_examples:,} records in {sum(map(len, jobs.values()))} files: "
        f"{len(problems)} problem(s); {num_bytes / 1e6 / seconds:.1f} MB and "
        f"{num_examples / seconds:.0f} records a second"
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


def _add(problems: list[dict], file: str, problem: str, remake: bool) -> None:
    print(f"{file}: {problem}", flush=True)
    problems.append({"file": file, "problem": problem, "remake": remake})


def _blame(report) -> str:
    return (
        f"{report.file} has the manifest's sha256, but {report.labels_fault}: "
        "labels.txt is wrong, or the manifest is of other records"
    )


def _read_manifest(folder: pathlib.Path) -> tuple[dict | None, list[dict]]:
    path, problems = folder / "manifest.json", []
    if not path.exists():
        return None, problems
    try:
        manifest = json.loads(path.read_text("utf-8"))
        for split in manifest["splits"].values():
            for shard in split["shards"]:
                _ = shard["file"], shard["bytes"], shard["sha256"]
                _ = shard["num_examples"] + 0
        _ = manifest["num_classes"] + 0, manifest["settings"]["shards"].items()
        _ = manifest["splits"]["train"]["num_examples"] + 0
        _ = manifest["settings"]["seed"] + 0, len(manifest.get("bad_images", []))
        return manifest, problems
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        _add(problems, path.name, "damaged, or not of prepare_imagenet", False)
        return None, problems


def _jobs_of_manifest(folder: pathlib.Path, manifest: dict, problems: list) -> dict:
    from official.alexnet.data import schemas, validation  # noqa: PLC0415

    synsets = _synsets(folder)
    jobs, listed = {}, set()
    for split, contents in manifest["splits"].items():
        jobs[split] = []
        for shard in contents["shards"]:
            listed.add(shard["file"])
            path = folder / shard["file"]
            if path.is_file():
                jobs[split].append(
                    validation.Job(
                        path, schemas.CLASSIC, shard, synsets, True, flags.FLAGS.decode
                    )
                )
            else:
                _add(problems, shard["file"], "missing", True)
    for path in sorted(folder.glob("*-?????-of-?????")):
        if path.name not in listed:
            _add(problems, path.name, "not in the manifest; remove it", False)
    return jobs


def _jobs_by_looking(folder: pathlib.Path, problems: list) -> dict:
    from official.alexnet.data import schemas, tfds_files, validation  # noqa: PLC0415

    jobs = {}
    for split in _SPLITS:
        for place in (folder, folder / split):
            paths = sorted(place.glob(f"{split}-?????-of-?????"))
            found = [match for p in paths if (match := _SHARD.fullmatch(p.name))]
            if not found:
                continue
            total = max(int(match[3]) for match in found)
            names = {f"{split}-{i:05d}-of-{total:05d}" for i in range(total)}
            for name in sorted(names - {path.name for path in paths}):
                _add(problems, name, "missing", True)
            for name in sorted({path.name for path in paths} - names):
                _add(problems, name, "of another set", False)
            # Labels may count from 0 here: their range is not known yet.
            jobs[split] = [
                validation.Job(
                    path, schemas.CLASSIC, None, None, False, flags.FLAGS.decode
                )
                for path in paths
            ]
            break
    if jobs:
        return jobs
    for split in ("train", "validation"):
        try:
            version_dir = tfds_files.find(folder)
            shards = tfds_files.shards(version_dir, split) if version_dir else {}
        except UserError as error:
            if f"no {split} records" not in str(error):
                _add(problems, split, str(error), False)
            continue
        if shards:
            jobs[split] = [
                validation.Job(
                    path, schemas.TFDS, None, None, False, flags.FLAGS.decode, count
                )
                for path, count in shards.items()
            ]
    return jobs


def _others(folder: pathlib.Path, jobs: dict, problems: list[dict]) -> list[str]:
    """The files beside the records that nothing here looks at, but hidden ones."""
    paths = {job.path for todo in jobs.values() for job in todo}
    known = {path.name for path in paths} | {problem["file"] for problem in problems}
    return sorted(
        image_files.text(path.relative_to(folder))
        for place in {folder, *(path.parent for path in paths)}
        for path in place.iterdir()
        if path.is_file()
        and path.name not in known
        and not path.name.startswith(".")
        # What describes a set: labels, statistics, a manifest, TFDS's own files.
        and path.suffix not in (".txt", ".npz", ".json")
    )


def _check(jobs: dict):
    """Yields (split, report) of each shard as it is checked."""
    from official.alexnet.data import validation  # noqa: PLC0415

    todo = [(split, job) for split in jobs for job in jobs[split]]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    num_workers = min(flags.FLAGS.num_workers or cores, len(todo))
    if num_workers <= 1:
        for split, job in todo:
            yield split, validation.check_shard(job)
        return
    with concurrent.futures.ProcessPoolExecutor(
        num_workers,
        # A fork of a process with TensorFlow's threads in it may hang.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=cli.start_tensorflow,
    ) as pool:
        reports = pool.map(validation.check_shard, (job for _, job in todo))
        for (split, _), report in zip(todo, reports, strict=True):
            yield split, report


def _synsets(folder: pathlib.Path) -> tuple[str, ...] | None:
    path = folder / "labels.txt"
    if not path.is_file():
        return None
    lines = path.read_text("utf-8", "replace").splitlines()
    return tuple(line.partition(" ")[0] for line in lines)


def _check_labels(
    folder: pathlib.Path,
    labels: dict,
    manifest: dict | None,
    is_tfds: bool,
    problems: list,
) -> dict[str, int]:
    """Checks labels.txt, and counts the classes of each split that have no image."""
    from official.alexnet.data import classes, records  # noqa: PLC0415

    synsets = _synsets(folder)
    stored = sum(labels.values(), collections.Counter())
    first = 0 if is_tfds or (not manifest and 0 in stored) else 1
    if not (manifest or is_tfds):
        names = classes.read_names(folder / "labels.txt")
        synsets, said = records.foreign_names(folder, names, stored)
        first = said[0] if said else first
    if synsets is None:
        if manifest:
            _add(problems, "labels.txt", "missing; it is remade with a shard", False)
        count = max(max(stored, default=0) - first + 1, 0)
    else:
        count = len(synsets)
        if manifest and count != manifest["num_classes"]:
            _add(
                problems,
                "labels.txt",
                f"{count} lines, the manifest has {manifest['num_classes']} classes",
                False,
            )
        if len(set(synsets)) != count:
            _add(problems, "labels.txt", "names a class twice", False)
    empty = {}
    for split, counts in labels.items():
        wrong = [x for x in sorted(counts) if not first <= x < first + count]
        if wrong and not manifest:
            text = f"label {wrong[0]} is outside {first}..{first + count - 1}"
            _add(problems, split, text, False)
        # Not as a list: a label, and so the range, may be huge.
        empty[split] = count - (len(counts) - len(wrong))
        if empty[split]:
            missing = next(x for x in range(first, first + count) if x not in counts)
            text = f"{empty[split]} class(es) without an image, such as {missing}"
            # A small validation set may have none of a class.
            if split == "train":
                _add(problems, split, text, False)
            else:
                print(f"{split}: {text}")
    return empty


def _check_statistics(folder: pathlib.Path, manifest: dict, problems: list) -> None:
    from official.alexnet.data.statistics import Statistics  # noqa: PLC0415

    try:
        count = Statistics.load(folder / "statistics.npz").num_images
    except UserError as error:
        _add(problems, "statistics.npz", str(error), False)
        return
    expected = manifest["splits"]["train"]["num_examples"]
    if count != expected:
        _add(problems, "statistics.npz", f"of {count} images, not {expected}", False)


def _command(folder: pathlib.Path, manifest: dict, damaged: list[str]) -> str:
    settings = manifest["settings"]
    shards = [f"--{split}_shards={n}" for split, n in settings["shards"].items()]
    return " ".join(
        [
            "python tools/prepare_imagenet.py --input_dir=WHERE_THE_ARCHIVES_ARE",
            f"--output_dir={folder}",
            *shards,
            f"--seed={settings['seed']}",
            f"--max_bad_images={len(manifest.get('bad_images', []))}",
            f"--remake={','.join(damaged)}",
        ]
    )


if __name__ == "__main__":
    define_flags()
    cli.run("validate_records", main)
