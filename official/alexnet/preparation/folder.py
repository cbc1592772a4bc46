"""The folder of a preparation: whose it is, who works in it, with which settings."""

import collections
import contextlib
import json
import pathlib

from official.alexnet import disk
from official.alexnet.data.statistics import STATISTICS_FILE
from official.alexnet.errors import UserError
from official.alexnet.preparation.shards import WORK_DIR, ShardResult

MANIFEST_FILE = "manifest.json"
LABELS_FILE = "labels.txt"
_RESULT_FILES = (STATISTICS_FILE, LABELS_FILE, MANIFEST_FILE)
_SETTINGS_FILE = "settings.json"


def reject_foreign(output_dir: pathlib.Path) -> None:
    """Refuses a folder with records that `prepare` did not write.

    Args:
        output_dir: where they would be written.

    Raises:
        UserError: it holds records, or is a file.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output_dir: {output_dir} is a file")
    if not output_dir.exists() or _is_own(output_dir):
        return
    for pattern in ("*-?????-of-?????", *_RESULT_FILES):
        for path in output_dir.glob(pattern):
            raise UserError(
                f"{path} is there already, and not from a preparation that can be "
                "resumed; choose another --output_dir"
            )


def _is_own(output_dir: pathlib.Path) -> bool:
    """Whether `prepare` has begun a set in a folder, or finished it."""
    if (output_dir / WORK_DIR).is_dir():
        return True
    with contextlib.suppress(OSError, ValueError, TypeError):
        manifest = (output_dir / MANIFEST_FILE).read_text("utf-8")
        return "settings" in json.loads(manifest)
    return False


def begin(output_dir: pathlib.Path, settings: dict) -> dict[str, ShardResult]:
    """Makes sure that earlier calls had the same settings, or writes them down.

    Args:
        output_dir: the folder, which is locked.
        settings: whatever changes a byte of the set.

    Returns:
        The shards of a finished set, by file.

    Raises:
        UserError: they had others, or what they wrote down is damaged.
    """
    begun = output_dir / WORK_DIR / _SETTINGS_FILE
    finished = {}
    for path in (begun, output_dir / MANIFEST_FILE):
        if not path.exists():
            continue
        try:
            contents = json.loads(path.read_text("utf-8"))
            earlier = dict(contents["settings"])
            bad_images = collections.defaultdict(list)
            for bad in contents.get("bad_images", ()):
                bad_images[bad.get("file")].append(bad)
            for split in contents.get("splits", {}).values():
                for record in split["shards"]:
                    file = record["file"]
                    finished[file] = ShardResult(record, bad_images[file])
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
