"""The settings of a benchmark, and the sizes that follow from them."""

import dataclasses

SUITES = (
    *("train_step", "inference", "input", "lrn", "end_to_end", "scaling"),
    "normalization",
)
DTYPES = ("fp32", "bf16")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured, and how often.

    Attributes:
        batch_size: images a step.
        rounds: samples of each contender.
        warmup: rounds before those, not counted.
        peers: names out of `peers.PEERS`.
        dtypes: `fp32`, `bf16` or both.
        threads: threads of every contender; the process is bound to as many cores.
        data_dir: records to read; None: pictures are drawn.
        small: a narrow net on small crops and few images, to try the benchmark out.
    """

    batch_size: int = 128
    rounds: int = 5
    warmup: int = 2
    peers: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = DTYPES
    threads: int = 1
    data_dir: str | None = None
    small: bool = False

    @property
    def width(self) -> float:
        """Of the net: 1 is the published one."""
        return 0.125 if self.small else 1.0

    @property
    def input_size(self) -> int:
        """Side of a crop in pixels."""
        return 64 if self.small else 224

    @property
    def num_classes(self) -> int:
        """Size of the net's output."""
        return 1000

    @property
    def batches(self) -> int:
        """Batches in a sample of an input pipeline: over 2,000 images."""
        return 4 if self.small else -(-4096 // self.batch_size)

    @property
    def drawn_pictures(self) -> int:
        """Pictures drawn where no records are given."""
        return 64 if self.small else 1024

    @property
    def record_counts(self) -> tuple[int, int]:
        """Records of the small and of the large set of the suite `scaling`."""
        return (128, 1024) if self.small else (10_000, 1_000_000)

    @property
    def steps(self) -> int:
        """Steps in a segment of the suite `end_to_end`."""
        return 2

    @property
    def fresh_starts(self) -> int:
        """Processes started to time the way to the first batch."""
        return 1 if self.small else 3
