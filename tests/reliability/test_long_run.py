"""Thousands of steps: memory, open files and threads stay what they were."""

import contextlib
import pathlib
import statistics
import time

import child_runs
import pytest


def sample(pid: int) -> dict[str, int]:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "rss_kib": int(values["VmRSS"].split()[0]),
        "threads": int(values["Threads"]),
        "files": len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir())),
    }


@pytest.mark.parametrize(
    ("steps", "warm_up", "most_growth"),
    [
        # Too short for a bound as tight as the long run's.
        pytest.param(200, 50, 0.10, marks=pytest.mark.slow, id="200 steps"),
        pytest.param(
            5000,
            1000,
            0.02,
            marks=[pytest.mark.slow, pytest.mark.reliability],
            id="5000 steps",
        ),
    ],
)
def test_nothing_grows(tiny_config, tmp_path, steps, warm_up, most_growth):
    config = child_runs.small_run(
        tiny_config,
        columns=2,
        train_steps=steps,
        log_steps=10,
        checkpoint_steps=50,
        epochs_between_evals=50 / 6,
        schedule="constant",
    )
    process = child_runs.start(config, tmp_path / "run")
    metrics = tmp_path / "run/metrics.jsonl"
    samples = {}
    while process.poll() is None:
        time.sleep(0.05)
        if metrics.exists():
            step = sum(1 for line in metrics.open() if '"train"' in line) * 10
            if step not in samples:
                with contextlib.suppress(LookupError, OSError):  # It has just ended.
                    samples[step] = sample(process.pid)
    assert child_runs.finish(process)[0] == 0, child_runs.log_of(tmp_path / "run")
    warm = [values for step, values in samples.items() if warm_up <= step < steps]
    assert len(warm) > 5
    # A mean over a stretch: a checkpoint being written takes some for a moment.
    part = max(len(warm) // 5, 1)
    first, last = (
        sum(values["rss_kib"] for values in group) / part
        for group in (warm[:part], warm[-part:])
    )
    growth = last / first - 1
    print(
        f"{steps} steps: RSS {first / 1024:.0f} MiB -> {last / 1024:.0f} MiB "
        f"({100 * growth:+.2f} %), files {warm[0]['files']} -> {warm[-1]['files']}, "
        f"threads {warm[0]['threads']} -> {warm[-1]['threads']}"
    )
    assert growth <= most_growth
    # Medians, for the same reason: what is lost stays open for all of the later half.
    for name in ("files", "threads"):
        half = len(warm) // 2
        early, late = (
            statistics.median_low(values[name] for values in group)
            for group in (warm[:half], warm[half:])
        )
        assert late <= early, name
