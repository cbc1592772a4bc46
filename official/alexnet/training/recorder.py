"""What a run records: metrics.jsonl is the truth, TensorBoard's files are its view."""

import contextlib
import json
import os
import pathlib
import platform
import threading
import time
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from official.alexnet import disk
from official.alexnet.run_files import METRICS_FILE

_EVENTS = "events.out.tfevents"
# The first event of a file says of what version it is.
_VERSION = tf.compat.v1.Event(file_version="brain.Event:2")
_SCALARS, _IMAGES = "scalars", "images"
_DATA_CLASS = {_SCALARS: 1, _IMAGES: 3}  # DATA_CLASS_SCALAR, DATA_CLASS_BLOB_SEQUENCE


class Recorder:
    """Records scalars and pictures of one run.

    `metrics.jsonl` holds the scalars, one JSON object a line; TensorBoard shows them
    from `model_dir/train` and `model_dir/validation`, with pictures. What an earlier
    process recorded of later steps than it saved is dropped, and files of TensorBoard
    that do not show just what metrics.jsonl holds are written anew. A full or
    read-only disk is a UserError, and what was there is intact.

    Args:
        model_dir: where to write.
        step: the step the run resumes from; 0 for a new one.
        is_evaluated: whether what an evaluation there has written is kept; otherwise
            it will be written anew.

    Attributes:
        results: the last values of each split, as the binaries print them.
    """

    def __init__(self, model_dir: pathlib.Path, step: int, is_evaluated: bool = True):
        self._metrics = model_dir / METRICS_FILE
        last = {"train": step, "validation": step if is_evaluated else step - 1}
        rows = kept_rows(self._metrics, last)
        self.results = {}
        self._files = {}
        for split in last:
            folder = model_dir / split
            with disk.saying_where(folder):
                folder.mkdir(parents=True, exist_ok=True)
            disk.remove_unfinished(folder)
            own = [row for row in rows if row["split"] == split]
            for row in own:
                self.results |= named(split, _values(row))
            _show(folder, own, step, is_evaluated)
            self._files[split] = new_file(folder)

    def scalars(self, split: str, step: int, values: dict[str, float]) -> None:
        """Records values of one step of the split `train` or `validation`."""
        line = json.dumps({"step": step, "split": split, **values})
        disk.append(self._metrics, (line + "\n").encode())
        add_scalars(self._files[split], step, values)

    def pictures(self, name: str, step: int, pictures: np.ndarray) -> None:
        """Records (count, height, width, 3) uint8 pictures of the split `train`."""
        height, width = pictures.shape[1:3]
        encoded = [tf.io.encode_png(picture).numpy() for picture in pictures]
        tensor = tf.make_tensor_proto([str(width), str(height), *encoded], tf.string)
        _append(self._files["train"], [_event(step, name, tensor, _IMAGES)])


def named(split: str, values: dict[str, float]) -> dict[str, float]:
    """Values of a split as the binaries print them: `eval_` before the validation's."""
    prefix = "eval_" if split == "validation" else ""
    return {f"{prefix}{name}": value for name, value in values.items()}


def new_file(folder: pathlib.Path) -> pathlib.Path:
    """A new file of TensorBoard's in a folder, to add to."""
    now = f"{int(time.time())}.{platform.node()}.{os.getpid()}"
    path = folder / f"{_EVENTS}.{now}.v2"
    # A start that is repeated within a second finds its own file.
    if not path.exists():
        _append(path, [_VERSION])
    return path


def add_scalars(path: pathlib.Path, step: int, values: dict[str, float]) -> None:
    """Adds one step's values to a file of TensorBoard's."""
    _append(path, [_scalar(step, name, value) for name, value in values.items()])


def _values(row: dict) -> dict[str, float]:
    return {k: v for k, v in row.items() if k not in ("step", "split")}


def kept_rows(path: pathlib.Path, last: dict[str, float]) -> list[dict]:
    """Keeps the rows of a metrics.jsonl up to the last step of their split.

    Returns them; rows of splits that `last` does not name go.
    """
    if not path.exists():
        return []
    rows = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        # A kill may have cut a line short.
        with contextlib.suppress(ValueError, LookupError, TypeError):
            row = json.loads(line)
            if row["step"] <= last[row["split"]]:
                rows.append(row)
    disk.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _show(
    folder: pathlib.Path, rows: list[dict], step: int, is_evaluated: bool
) -> None:
    """Makes a split's files show the rows, and the pictures up to a step."""
    missing = {(row["step"], k): v for row in rows for k, v in _values(row).items()}

    def is_shown(event: tf.compat.v1.Event) -> bool:
        *others, value = event.summary.value or [None]
        if value is None or others:  # Another program's.
            return True
        if value.metadata.plugin_data.plugin_name == _SCALARS:
            truth = missing.get((event.step, value.tag), np.nan)
            if tf.make_ndarray(value.tensor) != np.float32(truth):
                return False
            del missing[event.step, value.tag]
            return True
        # The kernels' picture is of an evaluation; a run from step 0 draws all anew.
        is_redrawn = value.tag.endswith("_kernels") and not is_evaluated
        return step > 0 and event.step <= step - is_redrawn

    paths, kept, is_view = sorted(folder.glob(f"{_EVENTS}.*")), [], True
    for path in paths:
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(record)
                if event.HasField("file_version"):
                    continue
                if is_shown(event):
                    kept.append(event)
                else:
                    is_view = False
        except tf.errors.DataLossError:  # Cut short when the process was killed.
            is_view = False
    if is_view and not missing:
        return
    kept += [_scalar(step, name, value) for (step, name), value in missing.items()]
    kept.sort(key=lambda event: event.step)
    whole = folder / f"{_EVENTS}.{int(time.time())}.{platform.node()}.v2"
    if kept:
        with disk.atomic_write(whole) as temporary:
            temporary.write_bytes(_framed([_VERSION, *kept]))
    for path in paths:
        if path != whole or not kept:
            path.unlink()


def _scalar(step: int, name: str, value: float) -> tf.compat.v1.Event:
    tensor = tf.make_tensor_proto(value, tf.float32)
    return _event(step, name, tensor, _SCALARS)


def _event(step: int, name: str, tensor, plugin: str) -> tf.compat.v1.Event:
    event = tf.compat.v1.Event(wall_time=time.time(), step=step)
    value = event.summary.value.add(tag=name, tensor=tensor)
    value.metadata.plugin_data.plugin_name = plugin
    value.metadata.data_class = _DATA_CLASS[plugin]
    return event


def _append(path: pathlib.Path, events: Iterable[tf.compat.v1.Event]) -> None:
    # Not by `tf.summary`, which drops what a disk has no room for and says nothing.
    disk.append(path, _framed(events))


def _framed(events: Iterable[tf.compat.v1.Event]) -> bytes:
    path = f"ram://events-{threading.get_ident()}"
    with tf.io.TFRecordWriter(path) as writer:
        for event in events:
            writer.write(event.SerializeToString())
    with tf.io.gfile.GFile(path, "rb") as file:
        framed = file.read()
    tf.io.gfile.remove(path)  # Or the next one would be added to it.
    return framed


class Profile:
    """Records the steps from the first to before the last of `--profile_steps`.

    A run may begin or end within them. TensorBoard looks for it in `folder`.
    """

    def __init__(self, folder: pathlib.Path, steps: tuple[int, ...]):
        self._folder = folder
        self._steps = range(*steps) if steps else ()
        self._is_running = False

    def move_to(self, step: int) -> None:
        """Starts or stops where the run has come to `step`."""
        if step not in self._steps:
            self.stop()
        elif not self._is_running:
            tf.profiler.experimental.start(str(self._folder))
            self._is_running = True

    def stop(self) -> None:
        """Writes what was recorded, if anything is."""
        if self._is_running:
            self._is_running = False  # It may fail, and is called again then.
            tf.profiler.experimental.stop()
