"""Killed anywhere and started again, a run ends as one that was never killed."""

import dataclasses
import shutil
import signal

import child_runs
import pytest

# The place of each kill and the step it comes at: a run of 18 or 60 steps, 6 an epoch,
# evaluated after each, with a checkpoint every 4.
SHORT = [("step", 3), ("write", 12)]
LONG = [
    ("step", 2),
    ("write", 4),
    ("evaluation", 6),
    ("best", 6),
    ("step", 9),
    ("index", 12),
    ("step", 18),  # In an epoch's last step
    ("evaluation", 18),
    ("data", 20),
    ("step", 24),
    ("state", 24),
    ("step", 27),
    ("write", 30),
    ("evaluation", 30),
    ("step", 36),  # Between the checkpoint and here it has logged.
    ("drop", 36),
    ("metrics", 35),
    ("index", 36),
    ("write", 40),
    ("evaluation", 42),
    ("step", 48),
    ("data", 52),
    ("step", 60),  # The last step of all
]


@pytest.mark.parametrize(
    ("columns", "kills", "steps"),
    [
        pytest.param(1, SHORT, 18, marks=pytest.mark.slow, id="2 kills"),
        *(
            pytest.param(
                columns,
                LONG,
                60,
                marks=[pytest.mark.slow, pytest.mark.reliability],
                id=f"{len(LONG)} kills, {columns} column(s)",
            )
            for columns in (1, 2)
        ),
    ],
)
def test_killed_again_and_again_it_ends_with_the_same_bits(
    tiny_config, records_dir, tmp_path, columns, kills, steps
):
    config = child_runs.small_run(tiny_config, columns, train_steps=steps)
    # The short form is that of `test_determinism` as well.
    runtime = dataclasses.replace(config.runtime, enable_op_determinism=kills == SHORT)
    config = dataclasses.replace(config, runtime=runtime)
    child_runs.train(config, tmp_path / "whole")
    data_dir = records_dir
    for number, (place, step) in enumerate(kills):
        if number == len(kills) // 2:
            # From here on the records are elsewhere.
            data_dir = tmp_path / "moved"
            shutil.copytree(records_dir, data_dir)
        script = (str(child_runs.KILLED_RUN), place, str(step), str(number))
        process = child_runs.start(
            config, tmp_path / "parts", f"--data_dir={data_dir}", script=script
        )
        status, _ = child_runs.finish(process)
        log = child_runs.log_of(tmp_path / "parts")
        assert status == -signal.SIGKILL, (place, step, log[-3000:])
    child_runs.train(config, tmp_path / "parts", f"--data_dir={data_dir}")
    child_runs.assert_same_run(tmp_path / "whole", tmp_path / "parts")
    left = [path.name for path in (tmp_path / "parts").rglob(".*")]
    assert left == [".lock"]
