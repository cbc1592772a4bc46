"""Where the files of the 2012 program are, which this repository does not hold."""

import os
import pathlib

import pytest

_BESIDE = pathlib.Path(__file__).parents[2] / "shared" / "reference" / "alexnet2012"
FOLDER = pathlib.Path(os.environ.get("ALEXNET_2012_FILES", _BESIDE))
NETS = (
    *("145", "145-half", "146-2009", "146-2012-2009", "146-2012-2011", "147", "148"),
    *("149", "150", "153", "166", "167", "177", "178"),
)
needs_files = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason=f"the 2012 program's files are not in {FOLDER}: set ALEXNET_2012_FILES",
)


def layers_of(net: str) -> str:
    """Path of a net's layers."""
    return str(FOLDER / f"layers-{net}.cfg")
