"""The table as TensorBoard's HPARAMS tab shows it.

A row is a group of sessions, a session a seed: the tab shows the mean over the group.
The standard error and the difference to the baseline are metrics of their own.
"""

import pathlib
import shutil

import pandas as pd
import tensorflow as tf
from tensorboard.plugins.hparams import api

from ablating.effects import by_seed, differences
from ablating.plan import MAIN_MEASURE, Plan

_METRICS = {
    "ten_crop_top_1_error": "top-1 error, ten crops (%)",
    "ten_crop_top_1_standard_error": "standard error of top-1, ten crops",
    "difference": "difference to the baseline, ten crops",
    "difference_standard_error": "standard error of the difference",
    "ten_crop_top_5_error": "top-5 error, ten crops (%)",
    "top_1_error": "top-1 error, one crop (%)",
    "top_5_error": "top-5 error, one crop (%)",
    "train_loss": "training loss",
    "train_error": "training error (%)",
    "parameters": "parameters",
}


def write(plan: Plan, results: list[dict], folder: pathlib.Path) -> None:
    """Writes event files, in place of those of an earlier call."""
    shutil.rmtree(folder, ignore_errors=True)
    columns = pd.DataFrame([{"row": row.name} | row.changed for row in plan.rows])
    columns = columns.fillna("as the baseline").set_index("row", drop=False)
    with tf.summary.create_file_writer(str(folder)).as_default(step=0):
        api.hparams_config(
            [api.HParam(k, api.Discrete(list(columns[k].unique()))) for k in columns],
            [api.Metric(tag, display_name=name) for tag, name in _METRICS.items()],
        )
    values = by_seed(plan, results, MAIN_MEASURE)
    apart = differences(values)
    table = pd.DataFrame(results).set_index(["row", "seed"])
    table["difference"] = apart.unstack()
    for name, spread in (("ten_crop_top_1", values), ("difference", apart)):
        error = spread.sem().reindex(table.index, level="row")
        table[f"{name}_standard_error"] = error
    for (row, seed), metrics in table.reindex(columns=list(_METRICS)).iterrows():
        own = str(folder / row / f"seed{seed}")
        with tf.summary.create_file_writer(own).as_default(step=0):
            api.hparams(columns.loc[row].to_dict(), trial_id=row)
            for tag, value in metrics.dropna().items():
                tf.summary.scalar(tag, value)
