"""A plan of two rows whose runs take seconds, and results as runs leave them."""

from ablating import plan as plans
from ablating import report

TINY = """
title: A tiny plan
baseline:
  model: {num_classes: 3, width: 0.0625, input_size: 64, init: unit_variance}
  data: {input_scale: unit_variance}
  train:
    {batch_size: 8, train_steps: 2, schedule: constant, log_steps: 1,
     checkpoint_steps: 1, steps_per_loop: 1}
changes:
  no_dropout:
    settings: {model: {dropout: 0}}
    paper: {effect: worse, section: section 4.2, says: it overfits, top_1: 2}
"""


def tiny_plan() -> plans.Plan:
    return plans.parse(TINY, "tiny", "tiny.yaml")


def result(row, seed, error, **changes):
    values = dict.fromkeys(report.COLUMNS, 1.0) | {
        "row": row,
        "seed": seed,
        "ten_crop_top_1_error": error,
        "parameters": 1234,
        "log_steps": 1,
        "commit": "abc",
        "versions": {"tensorflow": "2"},
    }
    return values | changes
