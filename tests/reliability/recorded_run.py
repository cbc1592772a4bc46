"""`alexnet-train` that records the bits of each weight and velocity.

python recorded_run.py [flags of alexnet-train]

After each call of the compiled loop, <model_dir>.bits gets a line of JSON: the step,
and a checksum of each tensor. A run that was killed and resumed has some steps twice.
"""

import json
import os
import pathlib
import zlib

from official.alexnet import train
from official.alexnet.training.step import TrainStep

BITS_FILE = "RECORDED_BITS"


def arm() -> None:
    """Records from now on, in the file that the environment names."""
    run, path = TrainStep.run, pathlib.Path(os.environ[BITS_FILE])

    def recorded(self, batches, count):
        steps = run(self, batches, count)
        optimizer = self._optimizer
        names = [variable.path for variable in self._model.trainable_variables]
        tensors = {f"weight {v.path}": v for v in self._model.weights}
        pairs = zip(names, optimizer.velocities, strict=True)
        tensors |= {f"velocity {name}": velocity for name, velocity in pairs}
        bits = {n: zlib.crc32(v.numpy().tobytes()) for n, v in tensors.items()}
        with path.open("a") as file:
            step = int(optimizer.iterations.numpy())
            file.write(json.dumps({"step": step, "bits": bits}) + "\n")
        return steps

    TrainStep.run = recorded


if __name__ == "__main__":
    arm()
    train.run()
