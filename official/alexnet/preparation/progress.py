"""What a preparation has done so far, so that a second run can go on from there."""

import contextlib
import dataclasses
import fcntl
import json
import pathlib
import zipfile
from collections.abc import Iterator

import numpy as np

from official.alexnet.data import atomic
from official.alexnet.data.statistics import STATISTICS_FILE, StatisticsAccumulator
from official.alexnet.errors import UserError
from official.alexnet.preparation.sources import Entry

# Everything that is not a result lives in this folder of the output directory.
WORK_DIR = ".prepare"
MANIFEST_FILE = "manifest.json"
LABELS_FILE = "labels.txt"
RESULT_FILES = (STATISTICS_FILE, LABELS_FILE, MANIFEST_FILE)
_PROGRESS_FILE = "progress.npz"
_LOCK_FILE = "lock"


@dataclasses.dataclass(frozen=True)
class ShardJob:
    """A shard to write.

    Attributes:
        file: its final name, such as `train-00000-of-01024`.
        temporary: where to write it.
        entries: its images, in order.
        synsets: class name by label.
        words: class words by label.
        with_statistics: whether its images count for the statistics.
    """

    file: str
    temporary: pathlib.Path
    entries: list[Entry]
    synsets: tuple[str, ...]
    words: tuple[str, ...]
    with_statistics: bool


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """A shard as written.

    Attributes:
        record: its line of the manifest: file, num_examples, bytes, sha256.
        bad_images: name and reason of each image left out.
        statistics: sums over its images; None if it does not count.
    """

    record: dict
    bad_images: list[dict]
    statistics: StatisticsAccumulator | None


class Progress:
    """Finished shards and the exact sums over their images, kept on the disk.

    Attributes:
        settings: what was asked for; a run with others is refused.
        shards: file name -> its record in the manifest.
        bad_images: file name -> the images left out of it.
        statistics: sums over the finished training shards.
    """

    def __init__(self, output_dir: pathlib.Path, settings: dict) -> None:
        self.settings = settings
        self.shards: dict[str, dict] = {}
        self.bad_images: dict[str, list[dict]] = {}
        self.statistics = StatisticsAccumulator()
        self._output_dir = output_dir
        self._path = output_dir / WORK_DIR / _PROGRESS_FILE

    def begin(self, jobs: list[ShardJob]) -> None:
        """Reads what an earlier run left; the first run writes down its settings.

        Args:
            jobs: all shards of the set.

        Raises:
            UserError: it had other settings, or cannot be read.
        """
        if self._path.exists():
            earlier = self._load()
        elif (self._output_dir / MANIFEST_FILE).exists():
            # A finished set that was copied without its hidden folder.
            earlier = self._load_manifest(jobs)
        else:
            self.save()
            return
        if earlier != self.settings:
            changed = sorted(
                key
                for key in earlier.keys() | self.settings.keys()
                if earlier.get(key) != self.settings.get(key)
            )
            raise UserError(
                f"{self._output_dir} was begun with other settings "
                f"({', '.join(changed)}); choose another --output_dir"
            )

    def _load(self) -> dict:
        """Reads the state of an earlier run; returns its settings."""
        try:
            with np.load(self._path, allow_pickle=False) as file:
                state = json.loads(str(file["state"]))
                self.statistics.pixel_sums[:] = file["pixel_sums"]
                self.statistics.products[:] = file["products"]
            self.statistics.num_images = state["num_images"]
            self.shards, self.bad_images = state["shards"], state["bad_images"]
            return state["settings"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            raise UserError(
                f"{self._path} is damaged; prepare into a new --output_dir"
            ) from None

    def _load_manifest(self, jobs: list[ShardJob]) -> dict:
        """Reads what a finished run says of itself; returns its settings."""
        path = self._output_dir / MANIFEST_FILE
        if not (self._output_dir / STATISTICS_FILE).is_file():
            raise UserError(
                f"{self._output_dir} has lost {STATISTICS_FILE}, and {WORK_DIR}/ that "
                "could make it again; prepare into a new --output_dir"
            )
        try:
            manifest = json.loads(path.read_text("utf-8"))
            for split in manifest["splits"].values():
                self.shards |= {shard["file"]: shard for shard in split["shards"]}
            reasons = {bad["name"]: bad for bad in manifest["bad_images"]}
            for job in jobs:
                names = [entry.name for entry in job.entries if entry.name in reasons]
                self.bad_images[job.file] = [reasons[name] for name in names]
            return manifest["settings"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{path} is damaged; prepare into a new --output_dir"
            ) from None

    def save(self) -> None:
        """Writes the state; a crash leaves the state before or after, whole."""
        state = {
            "settings": self.settings,
            "shards": self.shards,
            "bad_images": self.bad_images,
            "num_images": self.statistics.num_images,
        }
        with (
            atomic.atomic_write(self._path) as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(
                file,
                state=np.array(json.dumps(state)),
                pixel_sums=self.statistics.pixel_sums,
                products=self.statistics.products,
            )

    def is_done(self, file: str) -> bool:
        """Whether a shard is finished and still there, as far as its size tells."""
        path = self._output_dir / file
        return (
            file in self.shards
            and path.is_file()
            and path.stat().st_size == self.shards[file]["bytes"]
        )

    def finish(self, result: ShardResult, temporary: pathlib.Path) -> None:
        """Moves a written shard into place and counts it.

        Killed between the two, the next run writes the same shard once more.

        Args:
            result: the shard as written.
            temporary: where it is.

        Raises:
            UserError: a shard lost since an earlier run came out otherwise.
        """
        file = result.record["file"]
        known = self.shards.get(file)
        if known and known != result.record:
            raise UserError(
                f"{self._output_dir / file} was lost, and comes out otherwise now "
                "(another Pillow?); prepare into a new --output_dir"
            )
        with atomic.saying_where(self._output_dir / file):
            atomic.move_into_place(temporary, self._output_dir / file)
        if known:
            return
        self.shards[file] = result.record
        self.bad_images[file] = result.bad_images
        if result.statistics:
            self.statistics.merge(result.statistics)
        self.save()


@contextlib.contextmanager
def exclusive(output_dir: pathlib.Path) -> Iterator[pathlib.Path]:
    """Keeps a second run out of a folder while this one works in it.

    Args:
        output_dir: the folder; made if it is not there.

    Yields:
        The folder for temporary files; what killed runs left of them is gone.

    Raises:
        UserError: the folder cannot be written, or another run is at work in it.
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
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another run is writing to {output_dir}") from None
        leftovers = set(work_dir.glob("*.tmp"))
        for name in RESULT_FILES:
            leftovers |= set(output_dir.glob(f".{name}.*.tmp"))
        for leftover in leftovers:
            leftover.unlink()
        yield work_dir
