"""When a run does what: how long it is, where its loop looks up, and how fast it is."""

import time

from official.alexnet.config import TrainConfig
from official.alexnet.training.checkpoints import Progress
from official.alexnet.training.rates import Rates, Schedule


class Pace:
    """The steps of a run; `schedule` has its learning rates.

    Args:
        train: settings.
        num_examples: of the training set.
        noise_epochs: epochs with colour noise; None: all.
        is_evaluated: whether there are evaluations.
        progress: of the run.
    """

    def __init__(
        self,
        train: TrainConfig,
        num_examples: int,
        noise_epochs: float | None,
        is_evaluated: bool,
        progress: Progress,
    ):
        self._train = train
        self._epoch_steps = num_examples / train.batch_size
        self._eval_steps = max(1, round(train.epochs_between_evals * self._epoch_steps))
        self._noise_epochs = noise_epochs
        self._is_evaluated = is_evaluated
        self._progress = progress
        self.start_at(0)

    def start_at(self, step: int) -> None:
        """Takes over, from the progress, what the run did with other batch sizes."""
        self._progress.change_pace(step, self._epoch_steps)
        offset = self._progress.offset
        self.schedule = Schedule.of(self._train, self._epoch_steps, offset)
        self.total_steps = self._noise_steps = self.schedule.total_steps
        if self._noise_epochs is not None:
            self._noise_steps = self.schedule.step_of(self._noise_epochs)
        self._changes = [*self.schedule.changes(), self._noise_steps]

    def rates(self, step: int) -> Rates:
        """Learning rates of the step after `step` steps."""
        return self.schedule.rates(step, self._progress.plateau)

    def has_noise(self, step: int) -> bool:
        """Whether the step after `step` steps has colour noise."""
        return step < self._noise_steps

    def next_stop(self, step: int) -> int:
        """The step up to which the compiled loop may run without looking up."""
        train = self._train
        periods = [train.steps_per_loop, train.log_steps, train.checkpoint_steps]
        if self._is_evaluated:
            periods.append(self._eval_steps)
        stops = [step + period - step % period for period in periods]
        stops += [s for s in (*self._changes, *train.profile_steps) if s > step]
        return min([*stops, self.total_steps])

    def is_due(self, step: int, period: int) -> bool:
        """Whether it is the turn of what is done every `period` steps."""
        return step % period == 0 or step == self.total_steps

    def evaluation_is_due(self, step: int) -> bool:
        """Also where a run is resumed that was stopped during an evaluation."""
        return (
            self._is_evaluated
            and step > 0
            and self.is_due(step, self._eval_steps)
            and self._progress.evaluated != step
        )


class Clock:
    """Times the steps from `step` on alone, without evaluations and checkpoints."""

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
