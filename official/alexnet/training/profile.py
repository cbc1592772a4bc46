"""The profile of some steps, for TensorBoard."""

import pathlib

import tensorflow as tf


class Profile:
    """Records the steps of `--profile_steps`, wherever in them a run begins or ends.

    Args:
        folder: where TensorBoard looks for it.
        steps: the first one and the one after the last; empty: none.
    """

    def __init__(self, folder: pathlib.Path, steps: tuple[int, ...]):
        self._folder = folder
        self._steps = range(*steps) if steps else range(0)
        self._is_running = False

    def move_to(self, step: int) -> None:
        """Starts or stops where the run has come to `step`."""
        if (step in self._steps) == self._is_running:
            return
        if self._is_running:
            self.stop()
        else:
            tf.profiler.experimental.start(str(self._folder))
            self._is_running = True

    def stop(self) -> None:
        """Writes what was recorded, if anything is."""
        if self._is_running:
            tf.profiler.experimental.stop()
            self._is_running = False
