"""`alexnet-train` that records the bits of each weight and velocity.

python recorded_run.py [flags of alexnet-train]

After each call of the compiled loop, <model_dir>.bits gets a line of JSON: the step,
and a checksum of each tensor. A run that was killed and resumed has some steps twice.
"""

import json
import os
import pathlib
import zlib

from official.alexnet.train import run
from official.alexnet.training.step import TrainStep

BITS_FILE = "RECORDED_BITS"


def arm() -> None:
    """Records from now on, in the file that the environment names."""
    path = pathlib.Path(os.environ[BITS_FILE])

    def recorded(self, loop, batches, count):
        steps = loop(batches, count)
        optimizer = self.optimizer
        names = [variable.path for variable in self.model.trainable_variables]
        tensors = {f"weight {v.path}": v for v in self.model.weights}
        pairs = zip(names, optimizer.velocities, strict=True)
        tensors |= {f"velocity {name}": velocity for name, velocity in pairs}
        bits = {n: zlib.crc32(v.numpy().tobytes()) for n, v in tensors.items()}
        with path.open("a") as file:
            step = int(optimizer.iterations.numpy())
            file.write(json.dumps({"step": step, "bits": bits}) + "\n")
        return steps

    around_each_loop(recorded)


def around_each_loop(call) -> None:
    """Has `call(step, loop, batches, count)` take the place of the loop's calls."""
    set_rates = TrainStep.set_rates

    def wrapped(self, *args, **kwargs):
        before = getattr(self, "loop", None)
        set_rates(self, *args, **kwargs)
        if self.loop is not before:  # It is traced anew.
            self.loop = _Wrapped(self, self.loop, call)

    TrainStep.set_rates = wrapped


class _Wrapped:
    def __init__(self, step: TrainStep, loop, call):
        self._step, self._loop, self._call = step, loop, call
        self.get_concrete_function = loop.get_concrete_function

    def __call__(self, batches, count):
        return self._call(self._step, self._loop, batches, count)


if __name__ == "__main__":
    arm()
    run()
