r"""Trains a net with one thing changed at a time, and tells what each change does.

  python tools/ablate.py --plan=imagenette_small --data_dir=imagenette \
      --output_dir=runs/ablation --seeds=0,1,2

A plan is a YAML file: a baseline's settings, and rows that change some of them. Every
row is trained with every seed, each in a process of its own, all rows with the first
seed before any with the second. Given again, the command goes on where it was stopped:
finished runs are not repeated, others continue from their checkpoints. A run that fails
is reported, and the others go on.

Writes into --output_dir, after each run: results.csv, table.md (means, differences to
the baseline and what the paper says), plot.png, and hparams/ for the HPARAMS tab of
  tensorboard --logdir=runs/ablation/hparams
Needs matplotlib: pip install 'official-alexnet[plots]'.
"""

import pathlib
import shlex
import signal
import time

from ablating import hparams, plot, report, runs
from ablating import plan as plans
from absl import flags

from official.alexnet import cli
from official.alexnet.errors import UserError


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    flags.DEFINE_string(
        "plan",
        None,
        "YAML file, or one of those that come along: paper, imagenette_small.",
        required=True,
    )
    flags.DEFINE_string(
        "output_dir", "runs/ablation", "Where all runs and the results go."
    )
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds, in this order.")
    flags.DEFINE_list("only", [], "Rows to run, and the baseline. Default: all.")
    flags.DEFINE_string(
        "data_dir", None, "Directory of TFRecords. Default: the plan's."
    )
    flags.DEFINE_string(
        "report_dir",
        None,
        "Write the results here as well, with the metrics of all runs and a README.md "
        "whose text around them is kept.",
    )
    flags.DEFINE_bool(
        "report",
        False,
        "Run nothing: write what is finished in --output_dir, where runs may go on, "
        "to --report_dir.",
    )
    flags.DEFINE_bool("list", False, "Run nothing: print the rows.")


def main() -> dict:
    values = flags.FLAGS
    plan = plans.load(cli.path("plan"))
    chosen = plans.choose(plan, values.only)
    output_dir = pathlib.Path(cli.path("output_dir", of_checkpoints=True))
    if values.list:
        return _list(chosen)
    if values.report and not values.report_dir:
        raise UserError("--report needs --report_dir, to write to")
    plot.check_available()
    failures, data_dir = {}, cli.path("data_dir")
    if values.report:
        data_dir = data_dir or report.given_data_dir(plan, output_dir)
    else:
        todo = runs.runs_of(chosen, _seeds(), output_dir, data_dir)
        signal.signal(signal.SIGTERM, _interrupt)
        with runs.locked(output_dir) as lock:
            cli.start_tensorflow()
            failures = _execute(todo, plan, output_dir, data_dir, lock)
    results = report.collect(plan, output_dir, data_dir)
    if not results and not failures:
        raise UserError(f"--output_dir={output_dir} has no finished run of this plan")
    if results and values.report_dir:
        folder = pathlib.Path(cli.path("report_dir"))
        _write(plan, results, folder)
        report.write_page(plan, results, folder, output_dir)
    if failures:
        raise UserError(
            f"{len(failures)} run(s) failed, the others are in {output_dir}: "
            + "; ".join(f"{name} ({text})" for name, text in failures.items())
        )
    written = pathlib.Path(cli.path("report_dir") or output_dir)
    return {
        "plan": plan.name,
        "finished_runs": len(results),
        "table": str(written / "table.md"),
        "csv": str(written / "results.csv"),
        "plot": str(written / "plot.png"),
    }


def _execute(
    todo: list[runs.Run],
    plan: plans.Plan,
    output_dir: pathlib.Path,
    data_dir: str | None,
    lock: int,
) -> dict[str, str]:
    """Runs what is not finished; returns what failed, and how."""
    for run in todo:
        runs.prepare(run)
    # Earlier runs of other settings are refused now, not after hours.
    finished = report.collect(plan, output_dir, data_dir)
    if finished:
        _write_all(plan, finished, output_dir)
    left = [run for run in todo if run.results() is None]
    print(f"{len(todo) - len(left)} of {len(todo)} runs are finished", flush=True)
    failures, started = {}, time.perf_counter()
    for done, run in enumerate(left, start=1):
        print(f"{time.strftime('%H:%M:%S')} {run.name} ...", flush=True)
        try:
            results = runs.execute(run, lock)
        except runs.RunFailed as error:
            failures[run.name] = str(error)
            print(f"{run.name} failed: {error}", flush=True)
            continue
        finished = report.collect(plan, output_dir, data_dir)
        _write_all(plan, finished, output_dir)
        seconds = (time.perf_counter() - started) / done * (len(left) - done)
        print(
            f"{run.name}: top-1 error {results['top_1_error']:.1f} % with one crop, "
            f"{results['ten_crop_top_1_error']:.1f} % with ten | "
            f"{len(left) - done} runs left, about {seconds / 60:.0f} minutes",
            flush=True,
        )
    return failures


def _write_all(plan: plans.Plan, results: list[dict], output_dir: pathlib.Path) -> None:
    _write(plan, results, output_dir)
    hparams.write(plan, results, output_dir / plans.HPARAMS_DIR)


def _write(plan: plans.Plan, results: list[dict], folder: pathlib.Path) -> None:
    report.write(plan, results, folder)
    plot.draw(plan, results, folder / "plot.png")


def _list(plan: plans.Plan) -> dict:
    """Prints each row with its settings and what the paper says."""
    for row in plan.rows:
        settings = " ".join(
            shlex.quote(f"{key}={value}") for key, value in row.changed.items()
        )
        claim = f" | {row.claim.section}: {row.claim.says}" if row.claim else ""
        print(f"{row.name:<20} {settings}{claim}")
    return {"plan": plan.name, "rows": len(plan.rows)}


def _seeds() -> list[int]:
    texts = flags.FLAGS.seeds
    if not texts or not all(text.strip().isdecimal() for text in texts):
        raise UserError(f"--seeds={','.join(texts)} should be whole numbers, as 0,1,2")
    return list(dict.fromkeys(int(text) for text in texts))


def _interrupt(*_) -> None:
    """SIGTERM ends the tool as Ctrl-C does: the child first."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    define_flags()
    cli.run("ablate.py", main)
