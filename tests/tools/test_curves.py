"""The learning curves of tools/visualize.py are the lines of metrics.jsonl."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from visualizing import curves

from official.alexnet.errors import UserError


def test_curves_are_the_lines_of_metrics(run_dir):
    pytest.importorskip("matplotlib")
    history = curves.read("run", str(run_dir))
    figure = curves.draw([history])
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(figure.axes) == 3
    for panel, (key, factor) in zip(
        figure.axes,
        (("loss", 1), ("accuracy", 100), ("top_5_accuracy", 100)),
        strict=True,
    ):
        for split in ("train", "validation"):
            (line,) = (
                line for line in panel.lines if line.get_label() == f"run, {split}"
            )
            wanted = [
                (row["step"], factor * row[key])
                for row in rows
                if row["split"] == split
            ]
            np.testing.assert_allclose(line.get_xydata(), wanted)
    # 48 images in batches of 8.
    assert history.steps_per_epoch == 6
    (above,) = figure.axes[0].child_axes
    assert above.get_xlabel() == "epoch"
    np.testing.assert_allclose(above._functions[0](12), 2)
    ((step, rate),) = history.rate_changes()
    assert step == 6
    np.testing.assert_allclose(rate, 0.001, rtol=1e-6)
    assert [list(line.get_xdata()) for line in figure.axes[0].lines].count([6, 6]) == 1


@pytest.mark.parametrize("steps", [[6, 12], [4, 6, 12, 18], [6, 12, 15]])
def test_an_epoch_is_the_usual_distance_of_evaluations(run_dir, tmp_path, steps):
    """Also of a run that was made longer, and at its end."""
    shutil.copy(run_dir / "params.yaml", tmp_path)
    rows = [{"step": step, "split": "validation"} for step in steps]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
    assert curves.read("run", str(tmp_path)).steps_per_epoch == 6


def test_a_torn_last_line_is_passed_over(run_dir, tmp_path):
    text = (run_dir / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(text + text.splitlines()[0][:40])
    assert curves.read("torn", str(tmp_path)).rows == curves.read("", str(run_dir)).rows
    (tmp_path / "metrics.jsonl").write_text("{\n" + text)
    with pytest.raises(UserError, match="line 1 is not one that training writes"):
        curves.read("torn", str(tmp_path))
    (tmp_path / "metrics.jsonl").write_text('{"step": 3')
    with pytest.raises(UserError, match="is empty"):
        curves.read("torn", str(tmp_path))


def test_runs_with_other_epochs_are_drawn_over_steps_alone():
    pytest.importorskip("matplotlib")
    rows = [
        {"step": step, "split": "validation", "loss": 1.0, "accuracy": 0.5}
        for step in (10, 20)
    ]
    histories = [curves.History("a", rows, 10.0), curves.History("b", rows, 20.0)]
    panel = curves.draw(histories).axes[0]
    assert panel.get_xlabel() == "step"
    assert not panel.child_axes
    assert [list(line.get_xdata()) for line in panel.lines] == [[10, 20], [10, 20]]
    histories[1] = dataclasses.replace(histories[1], steps_per_epoch=10.0)
    (above,) = curves.draw(histories).axes[0].child_axes
    assert above.get_xlabel() == "epoch"
