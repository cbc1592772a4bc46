"""Times contenders in turn, A B C A B C ..., so that all see the same machine.

Shared machines drift by more than the differences of interest: only ratios of
samples taken in turn in one run mean something.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way of doing the work of a suite; what it needs was made before.

    Attributes:
        name: who does it; `ours`, or a peer's name.
        run: does a sample of work and returns when that is finished. If it returns a
            mapping, those are the seconds of the sample's parts by name, and their
            sum counts instead of the clock.
        images: images in a sample.
        dtype: `fp32`, `bf16`, or empty where there is nothing to choose.
        form: how the peer is used, where there are several ways.
        calls: steps or batches in a sample.
        prepare: called before each sample, not timed.
        rounds: takes part in the first so many rounds only, without warm-up.
        against: name of the row its ratio is taken to.
        note: words for the table.
    """

    name: str
    run: Callable[[], object]
    images: int
    dtype: str = ""
    form: str = ""
    calls: int = 1
    prepare: Callable[[], object] | None = None
    rounds: int | None = None
    against: str = "ours"
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of a contender.

    Attributes:
        name, dtype, form, images, calls, against, note: the contender's.
        samples: seconds of each sample; none if it was skipped.
        parts: seconds of each sample's parts, by name.
    """

    name: str
    dtype: str = ""
    form: str = ""
    images: int = 1
    calls: int = 1
    against: str = "ours"
    note: str = ""
    samples: tuple[float, ...] = ()
    parts: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)

    @property
    def median(self) -> float:
        """Median seconds of a sample; with parts, the sum of their medians."""
        if self.parts:
            return sum(map(statistics.median, self.parts.values()))
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Slowest sample less the quickest, as a share of the median."""
        return (max(self.samples) - min(self.samples)) / self.median

    @property
    def seconds_per_image(self) -> float:
        return self.median / self.images


def interleave(
    contenders: Sequence[Contender],
    rounds: int,
    warmup: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    settle: Callable[[], object] | None = None,
    report: Callable[[str], object] = lambda line: None,
) -> list[Row]:
    """Takes one sample of each contender in turn, round after round.

    Args:
        contenders: in the order of a round.
        rounds: samples of each.
        warmup: rounds before, not counted.
        clock: seconds.
        settle: called before each sample, so that no contender's threads still work
            while the next is timed; by default waits until this process is idle.
        report: told of each round.

    Returns:
        A row for each contender, in their order.
    """
    settle = settle or wait_until_idle
    samples: list[list[float]] = [[] for _ in contenders]
    parts: list[dict[str, list[float]]] = [{} for _ in contenders]
    for number in range(-warmup, rounds):
        report(
            f"warm-up {number + warmup + 1} of {warmup}"
            if number < 0
            else f"round {number + 1} of {rounds}"
        )
        for i, contender in enumerate(contenders):
            if contender.rounds is not None and not 0 <= number < contender.rounds:
                continue
            settle()
            if contender.prepare:
                contender.prepare()
            started = clock()
            result = contender.run()
            seconds = clock() - started
            if number < 0:
                continue
            if isinstance(result, Mapping):
                seconds = sum(result.values())
                for name, value in result.items():
                    parts[i].setdefault(name, []).append(value)
            samples[i].append(seconds)
    return [
        Row(
            contender.name,
            contender.dtype,
            contender.form,
            contender.images,
            contender.calls,
            contender.against,
            contender.note,
            tuple(samples[i]),
            {name: tuple(values) for name, values in parts[i].items()},
        )
        for i, contender in enumerate(contenders)
    ]


def wait_until_idle(longest: float = 10.0) -> None:
    """Waits until this process's threads rest: buffers are full, no thread spins.

    Args:
        longest: seconds after which it returns all the same.
    """
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline:
        before = time.process_time()
        time.sleep(0.02)
        if time.process_time() - before < 0.002:
            return


def fastest(
    forms: Mapping[str, Callable[[], object]],
    clock: Callable[[], float] = time.perf_counter,
) -> str:
    """Which of several forms takes the least time, by the better of two runs."""
    times = {}
    for name, run in forms.items():
        run()
        taken = []
        for _ in range(2):
            started = clock()
            run()
            taken.append(clock() - started)
        times[name] = min(taken)
    return min(times, key=times.__getitem__)
