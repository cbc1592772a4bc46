"""The folder of a preparation: whose it is, who works in it, with which settings."""

import collections
import contextlib
import fcntl
import json
import pathlib
from collections.abc import Iterator

from official.alexnet.data import atomic
from official.alexnet.data.statistics import STATISTICS_FILE
from official.alexnet.errors import UserError
from official.alexnet.preparation.shards import WORK_DIR, ShardResult

MANIFEST_FILE = "manifest.json"
LABELS_FILE = "labels.txt"
_RESULT_FILES = (STATISTICS_FILE, LABELS_FILE, MANIFEST_FILE)
_SETTINGS_FILE = "settings.json"
_LOCK_FILE = "lock"


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


@contextlib.contextmanager
def locked(output_dir: pathlib.Path, *, is_task: bool = False) -> Iterator[None]:
    """Keeps other preparations out of a folder while this one works in it.

    Args:
        output_dir: the folder; made if it is not there.
        is_task: lets other tasks in; what killed ones left is not removed then.

    Raises:
        UserError: the folder cannot be written, or another one is at work in it.
    """
    work_dir = output_dir / WORK_DIR
    try:
        with atomic.saying_where(output_dir):
            work_dir.mkdir(parents=True, exist_ok=True)
            lock = (work_dir / _LOCK_FILE).open("a")
    except OSError as error:
        raise UserError(f"cannot write to {output_dir}: {error.strerror}") from None
    with lock:
        try:
            kind = fcntl.LOCK_SH if is_task else fcntl.LOCK_EX
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another preparation is writing to {output_dir}") from None
        if not is_task:
            atomic.remove_unfinished(output_dir)
            atomic.remove_unfinished(work_dir)
        yield


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
    atomic.write_text(begun, json.dumps({"settings": settings}))
    return finished
