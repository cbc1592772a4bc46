"""metrics.jsonl is the truth; TensorBoard's files show it, and are mended."""

import json

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.training.recorder import Recorder

PICTURES = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)


def shown(folder) -> dict[tuple[int, str], float | None]:
    """Step and tag of all that TensorBoard finds, with the value of a scalar."""
    found = {}
    for path in folder.glob("*tfevents*"):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                assert (event.step, value.tag) not in found
                array = tf.make_ndarray(value.tensor)
                found[event.step, value.tag] = None if array.ndim else float(array)
    return found


@pytest.fixture
def run(tmp_path):
    """Two steps of training, and an evaluation after the second."""
    recorder = Recorder(tmp_path, 0)
    recorder.pictures("input_images", 0, PICTURES)
    for step in (5, 10):
        recorder.scalars("train", step, {"loss": 1 / step, "accuracy": 0.5})
    recorder.scalars("validation", 10, {"loss": 0.3})
    recorder.pictures("conv1_kernels", 10, PICTURES[:1])
    return tmp_path


TRAIN = {
    (0, "input_images"): None,
    **{(step, tag): None for step in (5, 10) for tag in ("loss", "accuracy")},
    (10, "conv1_kernels"): None,
}


def test_both_show_the_same(run):
    assert shown(run / "train").keys() == TRAIN.keys()
    assert shown(run / "train")[5, "loss"] == np.float32(0.2)
    assert shown(run / "validation") == {(10, "loss"): np.float32(0.3)}
    before = {path: path.read_bytes() for path in run.rglob("*tfevents*")}
    recorder = Recorder(run, 10)
    assert recorder.results == {"loss": 0.1, "accuracy": 0.5, "eval_loss": 0.3}
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("harm", ["removed", "cut", "other value", "later step"])
def test_files_that_differ_are_written_anew(run, harm):
    (path,) = (run / "train").glob("*tfevents*")
    whole = shown(run / "train")
    if harm == "removed":
        path.unlink()
        whole = {key: value for key, value in whole.items() if value is not None}
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-20])
        del whole[10, "conv1_kernels"]
    elif harm == "other value":
        text = (run / "metrics.jsonl").read_text()
        (run / "metrics.jsonl").write_text(text.replace("0.2", "0.7"))
        whole[5, "loss"] = float(np.float32(0.7))
    else:
        Recorder(run, 10).scalars("train", 15, {"loss": 0.05})
    Recorder(run, 10)
    assert shown(run / "train") == whole


@pytest.mark.parametrize("is_evaluated", [True, False])
def test_an_evaluation_that_was_not_saved_is_dropped_from_both(run, is_evaluated):
    Recorder(run, 10, is_evaluated)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    assert ("validation" in [row["split"] for row in rows]) == is_evaluated
    assert ((10, "conv1_kernels") in shown(run / "train")) == is_evaluated
    assert bool(shown(run / "validation")) == is_evaluated


def test_a_new_run_shows_nothing_of_what_was_there(run):
    Recorder(run, 0)
    assert shown(run / "train") == shown(run / "validation") == {}
    assert (run / "metrics.jsonl").read_text() == ""
