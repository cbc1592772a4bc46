"""The tools behind docs/performance.md: the plot, and the estimate's counts."""

import json
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

TOOLS = pathlib.Path(__file__).parents[2] / "tools"


def run(tool: str, *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(TOOLS / tool), *flags],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_estimate_counts_what_the_paper_net_does():
    done = run("estimate_training_time.py", "--compute_efficiency=0.5")
    assert done.returncode == 0, done.stderr
    # 724,406,816 multiply-adds forward; three products a layer, two for conv1.
    operations = 2 * (3 * 724_406_816 - 105_415_200)
    assert f"{operations / 1e9:.2f} GFLOP" in done.stdout
    assert "not measured" in done.stdout
    rows = json.loads(done.stdout.splitlines()[-1])["estimates"]
    one, two = (
        row for row in rows if row["gpu"] == "H100 SXM" and "bf" in row["dtype"]
    )
    assert one["hours"] / 2 < two["hours"] < one["hours"]


def test_plot_draws_every_row(tmp_path):
    pytest.importorskip("matplotlib")
    row = {"form": "", "dtype": "fp32", "samples_s": [1.0], "images_per_second": 40.0}
    rows = [row | {"name": "ours"}, row | {"name": "limit"}]
    source = tmp_path / "a.json"
    source.write_text(json.dumps({"suites": {"train_step": {"rows": rows}}}))
    target = tmp_path / "plot.png"
    done = run("plot_benchmark.py", f"--json={source}", f"--output={target}")
    assert done.returncode == 0, done.stderr
    assert Image.open(target).width > 500


def test_plot_names_a_file_that_is_none_of_the_benchmarks(tmp_path):
    source = tmp_path / "a.json"
    source.write_text("[")
    done = run("plot_benchmark.py", f"--json={source}", "--output=plot.png")
    assert done.returncode != 0
    assert f"--json={source} is not a file of benchmark.py" in done.stderr
