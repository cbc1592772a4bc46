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

from absl import flags

from official.alexnet import cli

IMAGES, EPOCHS, BATCH = 1_281_167, 90, 128


@dataclasses.dataclass(frozen=True)
class Gpu:
    """Data-sheet rates, dense: operations and bytes a second."""

    name: str
    tf32: float
    bf16: float
    memory: float


GPUS = (
    Gpu("RTX 4090", 82.6e12, 165e12, 1.01e12),
    Gpu("A100 40 GB", 156e12, 312e12, 1.56e12),
    Gpu("H100 SXM", 494e12, 989e12, 3.35e12),
)


@dataclasses.dataclass(frozen=True)
class Counts:
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


def count() -> Counts:
    """Counts from the layers of the built net."""
    from official.alexnet import AlexNet  # noqa: PLC0415

    model = AlexNet(classifier_activation=None)
    operations = activations = 0
    for layer in model.layers[1:]:
        passed = _size(layer.input.shape) + _size(layer.output.shape)
        activations += 3 * passed
        if layer.weights and hasattr(layer, "kernel"):
            *fan_in, _ = layer.kernel.shape
            macs = _size(layer.output.shape)
            for extent in fan_in:
                macs *= extent
            products = 2 if layer.name == "conv1" else 3
            operations += 2 * products * macs
    # What the readers of all columns take of the other's half.
    halves = [model.get_layer(n).output for n in ("pool2", "pool5", "relu6", "relu7")]
    exchanged = sum(_size(half.shape) for half in halves) // 2
    return Counts(operations, activations, model.count_params(), 2 * exchanged)


def _size(shape: tuple) -> int:
    size = 1
    for extent in shape[1:]:
        size *= extent
    return size


def seconds_a_step(counts: Counts, gpu: Gpu, dtype: str, num_gpus: int) -> float:
    """Seconds of one step on BATCH images."""
    values = flags.FLAGS
    width = 4 if dtype == "tf32" else 2
    rate = getattr(gpu, dtype) * values.compute_efficiency
    bandwidth = gpu.memory * values.memory_efficiency
    moved = BATCH * counts.activations * width + 8 * 4 * counts.weights
    seconds = (BATCH * counts.operations / rate + moved / bandwidth) / num_gpus
    if num_gpus == 2:
        seconds += BATCH * counts.exchanged * width / (values.link_gb_per_second * 1e9)
    return seconds


def main() -> dict:
    cli.start_tensorflow()
    counts = count()
    print(
        f"One image, forward and backward: {counts.operations / 1e9:.2f} GFLOP, "
        f"{counts.activations / 1e6:.1f} M numbers through memory; "
        f"{counts.weights:,} weights\n"
    )
    print("ESTIMATED, not measured:\n")
    print("| GPU | type | GPUs | images/s | 90 epochs, hours | cores to decode |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for gpu in GPUS:
        for dtype in ("tf32", "bf16"):
            for num_gpus in (1, 2):
                speed = BATCH / seconds_a_step(counts, gpu, dtype, num_gpus)
                hours = EPOCHS * IMAGES / speed / 3600
                cores = speed / flags.FLAGS.images_per_second_and_core
                print(
                    f"| {gpu.name} | {dtype} | {num_gpus} | {speed:,.0f} | "
                    f"{hours:.1f} | {cores:.0f} |"
                )
                rows.append(
                    {
                        "gpu": gpu.name,
                        "dtype": dtype,
                        "num_gpus": num_gpus,
                        "images_per_second": round(speed),
                        "hours": round(hours, 2),
                    }
                )
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
