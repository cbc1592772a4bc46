"""The table of the errors in the notes of 2012."""

import csv
import json
import pathlib
import subprocess
import sys

from files_2012 import FOLDER, needs_files

ROOT = pathlib.Path(__file__).parents[2]
TABLE = ROOT / "docs" / "results" / "logged_2012.tsv"
TOOL = str(ROOT / "tools" / "logged_2012.py")


def call(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, TOOL, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@needs_files
def test_the_table_is_what_the_files_say(tmp_path):
    made = tmp_path / "made.tsv"
    done = call(f"--input_dir={FOLDER}", f"--output_file={made}")
    assert json.loads(done.stdout)["results"] == 61, done.stderr
    assert made.read_text() == TABLE.read_text()
    # The same numbers as the list that came with the files.
    keys = ("line", "loss", "top1_error", "top5_error")
    with (FOLDER / "logged_results.tsv").open(newline="") as given, made.open() as ours:
        theirs, found = (
            [
                (row["file"].rpartition("/")[2], *(row[key] for key in keys))
                for row in rows
            ]
            for rows in (csv.DictReader(f, delimiter="\t") for f in (given, ours))
        )
    assert found == theirs


def test_what_a_note_says_of_crops(tmp_path):
    notes = [
        "[logprob]\ncoeff=1",
        "# test multliview:\n# logprob:  1.5, 0.25, 0.125",
        "# validation center patch:\n# logprob:  1.5, 0.25, 0.125",
        "# epoch 9: killed\n# logprob:  1.5, 0.25, 0.125",
    ]
    (tmp_path / "layer-params-x.cfg").write_text("\n\n".join(notes))
    done = call(f"--input_dir={tmp_path}", f"--output_file={tmp_path / 'made.tsv'}")
    assert done.returncode == 0, done.stderr
    _, *rows = (tmp_path / "made.tsv").read_text().splitlines()
    lines = [row.split("\t")[1] for row in rows]
    assert lines == ["5", "8", "11"]
    assert [row.split("\t")[5:] for row in rows] == [
        ["ten", "test"],
        ["centre", "validation"],
        ["", ""],
    ]
    (tmp_path / "layer-params-x.cfg").unlink()
    done = call(f"--input_dir={tmp_path}", f"--output_file={tmp_path / 'made.tsv'}")
    assert done.returncode == 2
    assert "has no layer-params-*.cfg with results" in done.stderr
