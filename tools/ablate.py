r"""Trains a net with one thing changed at a time, and tells what each change does.

  python tools/ablate.py --plan=imagenette_small --data_dir=imagenette \
      --output_dir=runs/ablation --seeds=0,1,2

A plan is a YAML file: a baseline's settings, and rows that change some of them. Every
row is trained with every seed, each in a process of its own, all rows with the first
seed before any with the second. Given again, the command resumes where it was stopped:
finished runs are not repeated, others continue from their checkpoints. A run that fails
is reported, and the others are trained.

Writes into --output_dir, after each run: results.csv, table.md (means, differences to
the baseline and what the paper says), plot.png, metrics.jsonl.gz (all lines of all
runs), and hparams/ for the HPARAMS tab of
  tensorboard --logdir=runs/ablation/hparams
Needs matplotlib, pandas and SciPy: pip install 'official-alexnet[plots]'.
"""

import contextlib
import pathlib
import signal
import time

from ablating import plan as plans
from ablating import runs
from absl import flags

from official.alexnet import cli, disk
from official.alexnet.errors import UserError

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    text = "YAML file, or one of those that come along: paper, imagenette_small."
    flags.DEFINE_string("plan", None, text, required=True)
    text = "Where all runs and the results go."
    flags.DEFINE_string("output_dir", "runs/ablation", text)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds, in this order.")
    flags.DEFINE_list("only", [], "Rows to run, and the baseline. Default: all.")
    text = "Directory of TFRecords. Default: the plan's."
    flags.DEFINE_string("data_dir", None, text)


def main() -> dict:
    plan = plans.load(cli.path("plan"))
    chosen = plans.choose(plan, FLAGS.only)
    output_dir = pathlib.Path(cli.path("output_dir", of_checkpoints=True))
    data_dir = cli.path("data_dir")
    todo = runs.runs_of(chosen, _seeds(), output_dir, data_dir)
    # SIGTERM ends the tool as Ctrl-C does: the child first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with disk.locked(output_dir, f"--output_dir={output_dir}"):
        finished, failures = _execute(todo, plan, output_dir, data_dir)
    if failures:
        raise UserError(
            f"{len(failures)} run(s) failed, the others are in {output_dir}: "
            + "; ".join(f"{name} ({text})" for name, text in failures.items())
        )
    files = {"table": "table.md", "csv": "results.csv", "plot": "plot.png"}
    written = {key: str(output_dir / name) for key, name in files.items()}
    return {"plan": plan.name, "finished_runs": finished} | written


def _execute(todo: list[runs.Run], plan, output_dir, data_dir) -> tuple[int, dict]:
    """Runs what is left; returns how many are finished, and what failed, and how."""
    cli.start_tensorflow()  # TensorBoard imports it.
    import tensorflow as tf  # noqa: PLC0415

    # The runs need them; what has started already is another's to decide.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
    try:
        from ablating import report  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            f"the results need {error.name}: pip install 'official-alexnet[plots]'"
        ) from error

    def write() -> int:
        if finished := report.collect(plan, output_dir, data_dir):
            report.write(plan, finished, output_dir)
        return len(finished)

    for run in todo:
        runs.prepare(run)
    write()  # Earlier runs of other settings are refused now, not after hours.
    left = [run for run in todo if run.results() is None]
    print(f"{len(todo) - len(left)} of {len(todo)} runs are finished", flush=True)
    failures, started = {}, time.perf_counter()
    for done, run in enumerate(left, start=1):
        print(f"{time.strftime('%H:%M:%S')} {run.name} ...", flush=True)
        try:
            results = runs.execute(run)
        except runs.RunFailed as error:
            failures[run.name] = str(error)
            print(f"{run.name} failed: {error}", flush=True)
            continue
        write()
        seconds = (time.perf_counter() - started) / done * (len(left) - done)
        print(
            f"{run.name}: top-1 error {results['top_1_error']:.1f} % with one crop, "
            f"{results['ten_crop_top_1_error']:.1f} % with ten | "
            f"{len(left) - done} runs left, about {seconds / 60:.0f} minutes",
            flush=True,
        )
    return write(), failures


def _seeds() -> list[int]:
    texts = FLAGS.seeds
    if not texts or not all(text.strip().isdecimal() for text in texts):
        raise UserError(f"--seeds={','.join(texts)} should be whole numbers, as 0,1,2")
    return list(dict.fromkeys(map(int, texts)))


if __name__ == "__main__":
    define_flags()
    cli.run("ablate.py", main)
