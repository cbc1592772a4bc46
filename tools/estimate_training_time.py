"""A paper estimate of 90 epochs of ImageNet on GPUs: nothing here is measured.

  python tools/estimate_training_time.py

Counts a training step's operations and the bytes it moves, layer by layer, and divides
them by a GPU's data-sheet rates times an assumed efficiency:

- operations: two a multiply-add; three products a layer (output, gradient of the input,
  gradient of the weights), two for conv1;
- memory: each layer's input and output cross it once forward and twice backward; a
  weight crosses it eight times: forward, backward, gradient out, and gradient, weight
  and velocity in and the last two out again in the update;
- two GPUs: one column each, half of both, and what conv3, fc6, fc7 and fc8 read of the
  other column goes over the link, forward and back.

Nothing overlaps with anything, which is pessimistic; launch times and the host are
left out, which is optimistic.
"""

import dataclasses
import itertools
import math

from absl import flags

from official.alexnet import cli

IMAGES, EPOCHS, BATCH = 1_281_167, 90, 128
# Data sheets, dense: operations a second in each type, and bytes a second of memory.
GPUS = {
    "RTX 4090": ({"tf32": 82.6e12, "bf16": 165e12}, 1.01e12),
    "A100 40 GB": ({"tf32": 156e12, "bf16": 312e12}, 1.56e12),
    "H100 SXM": ({"tf32": 494e12, "bf16": 989e12}, 3.35e12),
}
_BYTES = {"tf32": 4, "bf16": 2}


@dataclasses.dataclass(frozen=True)
class Work:
    """One training step on one image.

    Attributes:
        operations: floating-point operations.
        activations: numbers that cross memory.
        weights: parameters, which do not grow with the batch.
        exchanged: numbers that one column takes from the other, and gives back.
    """

    operations: int
    activations: int
    weights: int
    exchanged: int


def count() -> Work:
    """Counts from the layers of the built net."""
    from official.alexnet import AlexNet  # noqa: PLC0415
    from official.alexnet.modeling import counts  # noqa: PLC0415

    model = AlexNet(classifier_activation=None)
    *rows, total = counts.count(model)
    operations = 2 * sum((2 if row.name == "conv1" else 3) * row.macs for row in rows)
    passed = [
        math.prod(tensor.shape[1:])
        for layer in model.layers[1:]
        for tensor in (layer.input, layer.output)
    ]
    # What the readers of all columns take of the other's half.
    halves = [model.get_layer(n).output for n in ("pool2", "pool5", "relu6", "relu7")]
    exchanged = sum(math.prod(half.shape[1:]) for half in halves) // 2
    return Work(operations, 3 * sum(passed), total.parameters, 2 * exchanged)


def images_per_second(work: Work, gpu: str, dtype: str, num_gpus: int) -> float:
    """Speed of steps of `BATCH` images."""
    values, width, (rates, memory) = flags.FLAGS, _BYTES[dtype], GPUS[gpu]
    moved = BATCH * work.activations * width + 8 * 4 * work.weights
    seconds = BATCH * work.operations / (rates[dtype] * values.compute_efficiency)
    seconds = (seconds + moved / (memory * values.memory_efficiency)) / num_gpus
    if num_gpus == 2:
        seconds += BATCH * work.exchanged * width / (values.link_gb_per_second * 1e9)
    return BATCH / seconds


def main() -> dict:
    cli.start_tensorflow()
    work = count()
    print(
        f"One image, forward and backward: {work.operations / 1e9:.2f} GFLOP, "
        f"{work.activations / 1e6:.1f} M numbers through memory; "
        f"{work.weights:,} weights\n"
    )
    print("ESTIMATED, not measured:\n")
    print("| GPU | type | GPUs | images/s | 90 epochs, hours | cores to decode |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for gpu, dtype, num_gpus in itertools.product(GPUS, _BYTES, (1, 2)):
        speed = images_per_second(work, gpu, dtype, num_gpus)
        hours = EPOCHS * IMAGES / speed / 3600
        decoders = speed / flags.FLAGS.images_per_second_and_core
        print(
            f"| {gpu} | {dtype} | {num_gpus} | {speed:,.0f} | {hours:.1f} | "
            f"{decoders:.0f} |"
        )
        names = {"gpu": gpu, "dtype": dtype, "num_gpus": num_gpus}
        speeds = {"images_per_second": round(speed), "hours": round(hours, 2)}
        rows.append(names | speeds)
    print()
    return {"estimates": rows}


if __name__ == "__main__":
    flags.DEFINE_float("compute_efficiency", 0.4, "Share of the peak operations.")
    flags.DEFINE_float("memory_efficiency", 0.7, "Share of the peak bandwidth.")
    flags.DEFINE_float("link_gb_per_second", 20.0, "Between two GPUs.")
    flags.DEFINE_float(
        "images_per_second_and_core", 2000, "JPEGs that a CPU core decodes."
    )
    cli.run("estimate_training_time.py", main)
