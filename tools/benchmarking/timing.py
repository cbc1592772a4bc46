"""Times contenders in turn, A B C A B C ..., so that all see the same machine.

Shared machines drift by more than the differences of interest: only ratios of
samples taken in the same round of one run mean something.
"""

import dataclasses
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarking.settings import PEERS, wait_until_idle


@dataclasses.dataclass
class Row:
    """One way of doing the work of a suite, and its samples.

    Attributes:
        name: who does it; `ours`, or a peer's name.
        run: does a sample of work and returns when that is finished. If it returns a
            float, those are the seconds of the sample, and the clock does not count.
            None: there is nothing to run, and the note says why.
        images: images in a sample.
        dtype: `fp32`, `bf16`, or empty where there is nothing to choose.
        form: how the peer is used, where there are several ways.
        calls: steps or batches in a sample.
        prepare: called before each sample, not timed.
        against: name of the row its ratio is taken to.
        note: words for the table.
        samples: seconds of each sample.
    """

    name: str
    run: Callable[[], object] | None = None
    images: int = 1
    dtype: str = ""
    form: str = ""
    calls: int = 1
    prepare: Callable[[], object] | None = None
    against: str = "ours"
    note: str = ""
    samples: list[float] = dataclasses.field(default_factory=list)

    @property
    def key(self) -> str:
        """Name and dtype, by which bars know it."""
        return f"{self.name} {self.dtype}".strip()

    @property
    def seconds_per_image(self) -> float:
        return statistics.median(self.samples) / self.images

    def ratios(self, other: "Row") -> list[float]:
        """Time an image over the other's, round by round."""
        scale = other.images / self.images
        pairs = zip(self.samples, other.samples, strict=True)
        return [scale * mine / theirs for mine, theirs in pairs]


def spread(values: Sequence[float]) -> float:
    """Largest value less the smallest, as a share of the median."""
    return (max(values) - min(values)) / statistics.median(values)


def interleave(
    rows: Sequence[Row],
    rounds: int,
    warmup: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    settle: Callable[[], object] = wait_until_idle,
    report: Callable[[str], object] = lambda line: None,
) -> None:
    """Takes one sample of each row in turn, round after round.

    Args:
        rows: in the order of a round; their samples are filled in.
        rounds: samples of each.
        warmup: rounds before, not counted.
        clock: seconds.
        settle: called before each sample, so that no contender's threads still work
            while the next is timed.
        report: told of each round.
    """
    for number in range(-warmup, rounds):
        report(
            f"warm-up {number + warmup + 1} of {warmup}"
            if number < 0
            else f"round {number + 1} of {rounds}"
        )
        for row in rows:
            if row.run is None:
                continue
            settle()
            if row.prepare:
                row.prepare()
            started = clock()
            result = row.run()
            seconds = clock() - started
            if number >= 0:
                row.samples.append(result if isinstance(result, float) else seconds)


def absence(peer: str) -> str | None:
    """Why a peer cannot be measured; None if it can."""
    find = importlib.util.find_spec
    missing = [package for package in PEERS[peer][1] if find(package) is None]
    how = "(pip install 'official-alexnet[bench]')"
    return f"skipped: without {' and '.join(missing)} {how}" if missing else None


def enter(
    chosen: Sequence[str],
    makers: Mapping[str, Callable[..., Iterable[Row]]],
    dtype: str = "",
    *arguments,
) -> list[Row]:
    """The rows of the peers that were chosen, or a row of words for an absent one.

    Args:
        chosen: names out of `PEERS`.
        makers: for each peer of a suite, what makes its rows.
        dtype: of the rows.
        *arguments: for what makes them.
    """
    rows = []
    for peer, make in makers.items():
        if peer not in chosen:
            continue
        title, reason = PEERS[peer][0], absence(peer)
        if reason is None:
            made = make(*arguments)
        else:
            print(f"{title}: {reason}", flush=True)
            made = [Row(title, note=reason)]
        rows += [dataclasses.replace(row, dtype=dtype) for row in made]
    return rows
