"""Lists the errors in the notes of the 2012 program, as a table of tabs.

Example:
  python tools/logged_2012.py --input_dir=alexnet2012 \\
      --output_file=docs/results/logged_2012.tsv

A row is a `logprob: loss, top-1, top-5` of a layer-params file, with its file and line;
crops and images are what the note says of them, or nothing.
"""

import pathlib
import re

from absl import flags

from official.alexnet import cli, disk
from official.alexnet.errors import UserError

_RESULT = re.compile(r"logprob: +([\d.]+), ([\d.]+), ([\d.]+)")
# In this order: what a note says of crops, and of images.
_CROPS = {
    "centre": r"NOT MULTIVIEW|center patch|multiview-test=0",
    "ten": "mult[il]*view",
}
_IMAGES = {"validation": "valid", "test": "test (mult|center)"}


def rows(folder: pathlib.Path) -> list[tuple[str, ...]]:
    """File, line, loss, top-1 error, top-5 error, crops and images of each result."""
    found = []
    for file in sorted(folder.glob("layer-params-*.cfg")):
        lines = file.read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            if result := _RESULT.search(line):
                note = " ".join(lines[max(0, number - 1) : number + 1])
                said = (_first(kinds, note) for kinds in (_CROPS, _IMAGES))
                found.append((file.name, str(number + 1), *result.groups(), *said))
    return found


def _first(kinds: dict[str, str], note: str) -> str:
    return next((kind for kind, said in kinds.items() if re.search(said, note)), "")


def main() -> dict:
    """Writes the table; returns the results to print."""
    folder = pathlib.Path(cli.path("input_dir"))
    if not (found := rows(folder)):
        raise UserError(f"--input_dir={folder} has no layer-params-*.cfg with results")
    head = ("file", "line", "loss", "top1_error", "top5_error", "crops", "images")
    target = pathlib.Path(cli.path("output_file"))
    text = "".join("\t".join(row) + "\n" for row in (head, *found))
    disk.write_text(target, text)
    return {"output_file": str(target), "results": len(found)}


if __name__ == "__main__":
    flags.DEFINE_string("input_dir", None, "Of the files.", required=True)
    flags.DEFINE_string("output_file", None, "The table to write.", required=True)
    cli.run("logged_2012.py", main)
