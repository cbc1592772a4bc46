"""How fast the steps are."""

import time


class Clock:
    """Times the steps alone, without evaluations and checkpoints.

    Args:
        step: the step the run is resumed from.
    """

    def __init__(self, step: int):
        self._started = time.perf_counter()
        self._seconds = 0.0
        self._first = self._last = step

    def add_steps(self, step: int) -> None:
        """Counts the steps up to `step`, and the time since `restart`."""
        self._seconds += time.perf_counter() - self._started
        self._last = step

    def restart(self) -> None:
        """What came since `add_steps` was not of the steps."""
        self._started = time.perf_counter()

    def steps_per_second(self) -> float:
        """Since it was last asked."""
        rate = (self._last - self._first) / max(self._seconds, 1e-9)
        self._first, self._seconds = self._last, 0.0
        return rate


def said(seconds: float) -> str:
    """A time as hours, minutes and seconds: 130:00:05 is more than five days."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"
