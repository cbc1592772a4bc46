"""The table as TensorBoard's HPARAMS tab shows it.

A row is a group of sessions, a session a seed: the tab shows the mean over the group.
The standard error and the difference to the baseline are metrics of their own.
"""

import pathlib
import shutil

import pandas as pd
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.hparams import api
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from ablating.effects import by_seed, differences
from ablating.plan import BASELINE, MAIN_MEASURE, Plan

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
    if folder.is_dir():
        shutil.rmtree(folder)
    settings = dict.fromkeys(sorted({key for row in plan.rows for key in row.changed}))
    settings = {
        row.name: {"row": row.name}
        | {key: row.changed.get(key, "as the baseline") for key in settings}
        for row in plan.rows
    }
    columns = pd.DataFrame(settings).T
    config = api.hparams_config_pb(
        [api.HParam(key, api.Discrete(list(columns[key].unique()))) for key in columns],
        [api.Metric(tag, display_name=name) for tag, name in _METRICS.items()],
    )
    _write_summaries(folder, [config])
    values = by_seed(plan, results, MAIN_MEASURE)
    apart = differences(values)
    apart[BASELINE] = 0 * values[BASELINE]
    errors = {
        "ten_crop_top_1_standard_error": values.sem(),
        "difference_standard_error": apart.drop(columns=BASELINE).sem(),
    }
    for result in results:
        name, seed = result["row"], result["seed"]
        metrics = {tag: result[tag] for tag in _METRICS if tag in result}
        metrics["difference"] = apart.loc[seed, name]
        metrics |= {tag: error.get(name) for tag, error in errors.items()}
        start = api.hparams_pb(settings[name], trial_id=name)
        scalars = [
            scalar_pb(tag, value) for tag, value in metrics.items() if pd.notna(value)
        ]
        _write_summaries(folder / name / f"seed{seed}", [start, *scalars])


def _write_summaries(folder: pathlib.Path, summaries: list) -> None:
    writer = EventFileWriter(str(folder))
    for summary in summaries:
        writer.add_event(event_pb2.Event(step=0, summary=summary))
    writer.close()
