"""TensorBoard's file of one split, which holds all that it was given."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from official.alexnet.data import atomic, framing
from official.alexnet.errors import NoRoom, UserError


class Events:
    """Writes events, and looks whether they have arrived.

    TensorFlow drops an event that the disk has no room for and says nothing.

    Args:
        folder: where to write a new file; made if it is not there.
    """

    def __init__(self, folder: pathlib.Path):
        pattern = f"events.out.tfevents.*.{os.getpid()}.*"
        earlier = set(folder.glob(pattern))
        try:
            with atomic.saying_where(folder):
                self._writer = tf.summary.create_file_writer(str(folder))
        except UserError:
            for empty in set(folder.glob(pattern)) - earlier:
                empty.unlink()
            raise
        (self._file,) = set(folder.glob(pattern)) - earlier
        self._whole = 0
        # The first event says of what version the file is.
        self._missing = 1

    @contextlib.contextmanager
    def writing(self, step: int, count: int) -> Iterator[None]:
        """Takes `count` events of a step from `tf.summary` in the body.

        Raises:
            UserError: they cannot be written; the file is as it was before.
        """
        self._missing += count
        try:
            with atomic.saying_where(self._file):
                with self._writer.as_default(step=step):
                    yield
                self._writer.flush()
            self._check()
        except UserError:
            self._undo()
            raise

    def close(self) -> None:
        with atomic.saying_where(self._file):
            self._writer.close()

    def _check(self) -> None:
        # An event cut in two is one that is missing.
        with contextlib.suppress(UserError):
            for start, length in framing.spans(self._file, self._whole):
                self._whole = start + length + framing.FOOTER_BYTES
                self._missing -= 1
        if self._missing:
            raise NoRoom(
                f"{self._file}: no space left on the disk, or a limit on the size of "
                f"files; {atomic.FREE_SOME}"
            )

    def _undo(self) -> None:
        with contextlib.suppress(tf.errors.OpError):
            self._writer.close()
        with contextlib.suppress(OSError):
            os.truncate(self._file, self._whole)


def drop_later(folder: pathlib.Path, step: int, is_evaluated: bool = True) -> None:
    """Keeps the events in a folder's files up to a step; at step 0 there are none.

    Args:
        folder: `train` or `validation` of a run.
        step: the last one to keep.
        is_evaluated: whether those of an evaluation at `step` itself are kept.

    Raises:
        UserError: the disk is full or read-only; the files are as they were.
    """

    def is_kept(event: tf.compat.v1.Event) -> bool:
        if event.HasField("file_version"):  # The first one; it is of no step.
            return True
        if event.step > step or step == 0:
            return False
        return is_evaluated or event.step < step or not _is_of_evaluation(event, folder)

    for path in sorted(folder.glob("events.out.tfevents.*")):
        kept, is_whole = _chosen(path, is_kept)
        # The first one says of what version the file is.
        if len(kept) <= 1:
            path.unlink()
        elif not is_whole:
            with (
                atomic.atomic_write(path) as temporary,
                tf.io.TFRecordWriter(str(temporary)) as writer,
            ):
                for event in kept:
                    writer.write(event)


def _is_of_evaluation(event: tf.compat.v1.Event, folder: pathlib.Path) -> bool:
    """The scalars of `validation`, and the picture of the kernels in `train`."""
    tags = [value.tag for value in event.summary.value]
    return folder.name == "validation" or any(tag.endswith("_kernels") for tag in tags)


def _chosen(path: pathlib.Path, is_kept: Callable) -> tuple[list[bytes], bool]:
    """A file's events that are kept, and whether they are all it holds."""
    kept, is_whole = [], True
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            if is_kept(event):
                kept.append(record)
            else:
                is_whole = False
    except tf.errors.DataLossError:  # Cut short when the process was killed.
        is_whole = False
    return kept, is_whole
