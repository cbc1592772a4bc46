"""Cases of a parametrised test of which a few are quick ones, and the others slow."""

from collections.abc import Collection, Iterable

import pytest


def slow_but(quick: Collection, cases: Iterable) -> list:
    """The cases, with the mark `slow` on all that are not in `quick`."""
    return [
        case if case in quick else pytest.param(*_values(case), marks=pytest.mark.slow)
        for case in cases
    ]


def _values(case) -> tuple:
    return case if isinstance(case, tuple) else (case,)
