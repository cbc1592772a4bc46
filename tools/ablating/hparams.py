"""The table as TensorBoard's HPARAMS tab shows it.

A row is a group of sessions, a session a seed: the tab shows the mean over the group.
The standard error and the difference to the baseline are metrics of their own.
"""

import pathlib
import shutil

from ablating import report, statistics
from ablating.plan import BASELINE, Plan

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
_UNCHANGED = "as the baseline"


def write(plan: Plan, results: list[dict], folder: pathlib.Path) -> None:
    """Writes event files, in place of those of an earlier call."""
    from tensorboard.plugins.hparams import api  # noqa: PLC0415

    if folder.is_dir():
        shutil.rmtree(folder)
    settings = sorted({key for row in plan.rows for key in row.changed})
    hparams = {"row": [row.name for row in plan.rows]}
    for key in settings:
        values = [row.changed.get(key, _UNCHANGED) for row in plan.rows]
        hparams[key] = list(dict.fromkeys(values))
    config = api.hparams_config_pb(
        [api.HParam(name, api.Discrete(values)) for name, values in hparams.items()],
        [api.Metric(tag, display_name=name) for tag, name in _METRICS.items()],
    )
    _write_summaries(folder, [config])
    found = report.differences(plan, results, report.MAIN_MEASURE)
    for row in plan.rows:
        own = [result for result in results if result["row"] == row.name]
        values = {"row": row.name} | {
            key: row.changed.get(key, _UNCHANGED) for key in settings
        }
        mean = statistics.estimate([result[report.MAIN_MEASURE] for result in own])
        for result in own:
            metrics = {name: result[name] for name in _METRICS if name in result}
            if mean.error is not None:
                metrics["ten_crop_top_1_standard_error"] = mean.error
            if row.name == BASELINE:
                metrics["difference"] = 0.0
            elif result["seed"] in found[row.name].by_seed:
                difference = found[row.name]
                metrics["difference"] = difference.by_seed[result["seed"]]
                if difference.own.error is not None:
                    metrics["difference_standard_error"] = difference.own.error
            start = api.hparams_pb(values, trial_id=row.name)
            scalars = [_scalar(name, value) for name, value in metrics.items()]
            session = folder / row.name / f"seed{result['seed']}"
            _write_summaries(session, [start, *scalars])


def _scalar(name: str, value: float):
    import tensorflow as tf  # noqa: PLC0415
    from tensorboard.compat.proto import summary_pb2  # noqa: PLC0415
    from tensorboard.plugins.scalar import metadata  # noqa: PLC0415

    summary = summary_pb2.Summary()
    item = summary.value.add(
        tag=name, metadata=metadata.create_summary_metadata(name, "")
    )
    proto = tf.make_tensor_proto(float(value), tf.float32)
    item.tensor.ParseFromString(proto.SerializeToString())
    return summary


def _write_summaries(folder: pathlib.Path, summaries: list) -> None:
    from tensorboard.compat.proto import event_pb2  # noqa: PLC0415
    from tensorboard.summary.writer import event_file_writer  # noqa: PLC0415

    writer = event_file_writer.EventFileWriter(str(folder))
    for summary in summaries:
        writer.add_event(event_pb2.Event(step=0, summary=summary))
    writer.close()
