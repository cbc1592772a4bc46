"""The folder of a preparation: whose it is, and with which settings."""

import contextlib
import json
import pathlib

from official.alexnet import disk
from official.alexnet.data.statistics import STATISTICS_FILE
from official.alexnet.errors import UserError
from official.alexnet.preparation.shards import WORK_DIR, ShardResult

MANIFEST_FILE = "manifest.json"
LABELS_FILE = "labels.txt"
_RESULTS = ("*-?????-of-?????", STATISTICS_FILE, LABELS_FILE, MANIFEST_FILE)


def reject_foreign(output_dir: pathlib.Path) -> None:
    """UserError for a file, or a folder with records that `prepare` did not write."""
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output_dir: {output_dir} is a file")
    if (output_dir / WORK_DIR).is_dir():
        return  # Begun.
    with contextlib.suppress(OSError, ValueError, TypeError):
        if "settings" in json.loads((output_dir / MANIFEST_FILE).read_text("utf-8")):
            return  # Finished.
    for pattern in _RESULTS:
        for path in output_dir.glob(pattern):
            raise UserError(
                f"{path} is there already, and not from a preparation that can be "
                "resumed; choose another --output_dir"
            )


def begin(output_dir: pathlib.Path, settings: dict) -> dict[str, ShardResult]:
    """Makes sure that earlier calls had the same settings, and writes them down.

    `output_dir` is locked; `settings` are whatever changes a byte of the set. Returns
    the shards of a finished set, by file. Raises UserError where they had others, or
    what they wrote down is damaged.
    """
    begun = output_dir / WORK_DIR / "settings.json"
    finished = {}
    for path in (begun, output_dir / MANIFEST_FILE):
        if not path.exists():
            continue
        try:
            contents = json.loads(path.read_text("utf-8"))
            earlier = dict(contents["settings"])
            all_bad = contents.get("bad_images", ())
            for split in contents.get("splits", {}).values():
                for record in split["shards"]:
                    file = record["file"]
                    bad_images = [bad for bad in all_bad if bad.get("file") == file]
                    finished[file] = ShardResult(record, bad_images)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{path} is damaged; prepare into a new --output_dir"
            ) from None
        keys = sorted(earlier.keys() | settings.keys())
        changed = [key for key in keys if earlier.get(key) != settings.get(key)]
        if changed:
            raise UserError(
                f"{output_dir} was begun with other settings ({', '.join(changed)}); "
                "choose another --output_dir"
            )
    disk.write_text(begun, json.dumps({"settings": settings}))
    return finished
