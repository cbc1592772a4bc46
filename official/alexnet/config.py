"""The settings of a run: frozen dataclasses, written to YAML.

Later sources win: the defaults here, `--config_file`, `--params_override`, flags (see
`config_files`).
"""

import dataclasses
import functools

from official.alexnet import checks, plain_yaml
from official.alexnet.errors import UserError
from official.alexnet.modeling import options
from official.alexnet.modeling.variants import VARIANTS, Variant, find_variant


def _field(change: str, default, help: str, choices: tuple[str, ...] | None = None):
    """A setting, and what becomes of another value when a run goes on."""
    return dataclasses.field(
        default=default, metadata={"change": change, "help": help, "choices": choices}
    )


_net = functools.partial(_field, "net")  # Refused: it says what the weights mean.
_run = functools.partial(_field, "run")  # Refused: a checkpoint holds a part of it.
_start = functools.partial(_field, "start")  # The run's stays: step 0 has read it.
_free = functools.partial(_field, "free")  # Taken from then on.


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The net; see `official.alexnet.AlexNet`."""

    variant: str = _net(
        "paper",
        "`paper`: the text's net; `original`: the 2012 source's, which gave the "
        "published errors. Changed as the paper compares them: `one_gpu` (footnote 2: "
        "half the kernels), `conv6` (one layer more), `no_lrn`, `pool2x2` (windows "
        "that do not overlap), and `original_one_gpu` and so on; "
        "`original_conv6_bottleneck`: for 21,843 classes. `caffe`, `caffenet`: BVLC's. "
        "One tower: `owt` (torchvision's), `cuda_convnet2`.",
        tuple(VARIANTS),
    )
    num_classes: int = _net(1000, "Number of classes.")
    num_columns: int = _free(
        1,
        "1: the grouped form, a replica on one device; 2: two columns, each on a "
        "device of its own.",
    )
    init: str = _start(
        "published",
        "Initial weights: `published` (the variant's own), `source` (the 2012 "
        "source's: 0.03 from conv3 to the last convolution) or `unit_variance` "
        "(measured on a batch of the training set: every layer's output has variance "
        "1 and biases are 0).",
        ("published", "source", "unit_variance"),
    )
    width: float = _net(1.0, "Multiplies the number of kernels and hidden units.")
    input_size: int | None = _net(
        None,
        "Side of the crops the net reads, in pixels. Where none is given: the "
        "variant's own, 224, or 227 for caffe and caffenet.",
    )
    activation: str | None = _net(
        None,
        "Nonlinearity of all layers. Where none is named: the variant's own, relu.",
        options.ACTIVATIONS,
    )
    normalization: str | None = _net(
        None,
        "`lrn`, `batch_norm` (of each convolution's output) or `none`. Where none is "
        "named: the variant's own.",
        options.NORMALIZATIONS,
    )
    dropout: float | None = _net(
        None, "Rate of dropout. Where none is given: the variant's own, 0.5."
    )
    pool_size: int | None = _net(
        None,
        "Side of the pooling windows. Where none is given: the variant's own, 3, or 2 "
        "for pool2x2.",
    )
    pool_stride: int | None = _net(
        None,
        "Distance of the pooling windows; less than --pool_size: they overlap. Where "
        "none is given: the variant's own, 2.",
    )
    remove: tuple[str, ...] = _net(
        (),
        "Convolutional layers to leave out, such as conv3,conv4. Their pooling stays, "
        "and the layer after them reads what they read.",
    )

    def net(self) -> Variant:
        """The net these settings describe, as a row of the table of variants.

        Raises:
            UserError: they describe none.
        """
        return options.change(
            find_variant(self.variant),
            width=self.width,
            init="source" if self.init == "source" else "published",
            input_size=self.input_size,
            activation=self.activation,
            normalization=self.normalization,
            dropout=self.dropout,
            pool_size=self.pool_size,
            pool_stride=self.pool_stride,
            remove=self.remove,
        )

    @property
    def image_size(self) -> int:
        """Side of the crops the net reads, in pixels."""
        return self.input_size or find_variant(self.variant).input_size


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The images, and what is done to them."""

    data_dir: str | None = _free(
        None,
        "Directory of TFRecords: what tools/prepare_imagenet.py wrote, any classic "
        "ImageNet TFRecords, or a TFDS directory.",
    )
    tfds_name: str | None = _free(
        None, "TFDS dataset by name, such as imagenet2012; --data_dir is its root."
    )
    tfds_download: bool = _free(
        False, "Let TFDS download and prepare --tfds_name if it is not there."
    )
    statistics: str | None = _free(
        None,
        "statistics.npz with the mean image and colour PCA. Where none is named: the "
        "one in --data_dir, or measured on training images.",
    )
    use_synthetic_data: bool = _free(
        False, "Random images instead of a data set, to measure speed."
    )
    augment: bool = _free(
        True, "Random crops and flips while training; otherwise the centre crop."
    )
    color_noise: str = _free(
        "eigenvalues",
        "Colour noise of section 4.1: `eigenvalues` (the paper's formula), "
        "`standard_deviations` (the 2012 source, which divides the noisy images by "
        "1 + sigma) or `none`.",
        ("eigenvalues", "standard_deviations", "none"),
    )
    color_noise_sigma: float = _free(0.1, "Standard deviation of the colour noise.")
    color_noise_epochs: float | None = _free(
        None, "Epochs with colour noise; where no number is given: all."
    )
    input_scale: str = _net(
        "none",
        "`none`: grey levels 0..255 minus the mean image, as published; "
        "`unit_variance`: those divided by their standard deviation; `torchvision`: "
        "by 255 times (0.229, 0.224, 0.225), channel by channel.",
        ("none", "unit_variance", "torchvision"),
    )
    shuffle_buffer: int = _free(
        8192, "Records held in memory to shuffle; shards are shuffled besides."
    )
    label_base: str = _free(
        "auto",
        "Which stored label is class 0. `auto`: as a prepared set's manifest, TFDS, a "
        "numbered labels.txt or, read once, all labels of all splits say.",
        ("auto", "0", "1"),
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Section 5 of the paper, and when to look at what it does."""

    batch_size: int = _free(128, "Images a step, all replicas together.")
    train_epochs: float = _free(90, "Passes over the training set.")
    train_steps: int | None = _free(None, "Steps; instead of --train_epochs.")
    learning_rate: float = _free(0.01, "Initial learning rate.")
    momentum: float = _free(0.9, "Momentum.")
    weight_decay: float = _free(0.0005, "Weight decay, inside the velocity.")
    bias_learning_rate: float = _free(
        1.0, "Learning rate of biases as a multiple (the 2012 source: 2)."
    )
    decay_biases: bool = _free(
        True, "Weight decay on biases (the paper's rule; the 2012 source: no)."
    )
    bias_schedule: str = _free(
        "same",
        "Learning rate of biases over time: `same`: always that multiple of the "
        "kernels'; otherwise that multiple of --learning_rate, kept (`constant`), "
        "divided by 10 at --bias_learning_rate_steps (`steps`), or lowered by "
        "--bias_dexp (`dexp`).",
        ("same", "constant", "steps", "dexp"),
    )
    bias_learning_rate_steps: tuple[float, ...] = _free(
        (), "Epochs at which --bias_schedule=steps divides by 10."
    )
    bias_dexp: tuple[float, ...] = _free(
        (10, 2), "--dexp for biases; the 2013 and 2014 source's."
    )
    schedule: str = _free(
        "plateau",
        "`plateau`: divide the learning rate by 10 when the validation error stops "
        "improving; `steps`: at --learning_rate_steps; `dexp`: lower it by --dexp; "
        "`caffe`: divide it by 10 every --stepsize steps; `constant`.",
        ("plateau", "steps", "dexp", "caffe", "constant"),
    )
    learning_rate_steps: tuple[float, ...] = _free(
        (), "Epochs at which schedule `steps` changes the learning rate."
    )
    learning_rates: tuple[float, ...] = _free(
        (),
        "Learning rates from --learning_rate_steps on, one for each; where none are "
        "given it is divided by 10 each time.",
    )
    dexp: tuple[float, ...] = _free(
        (250, 4),
        "factor,levels: that many equal parts of the run, from the learning rate in "
        "the first down to 1/factor of it in the last, each by the same ratio.",
    )
    stepsize: int = _free(100_000, "Steps between divisions of schedule `caffe`.")
    layer_learning_rates: tuple[str, ...] = _free(
        (),
        "Learning rates of single layers or weights as multiples, from an epoch on if "
        "one is given: fc8=10,conv1/kernel=0.1@67,conv1=0@72. 0: the layer does not "
        "change at all, without gradient, momentum and decay.",
    )
    freeze_layers: tuple[str, ...] = _free(
        (), "Layers that stay as they are: conv1,conv2 is conv1=0,conv2=0 above."
    )
    init_from: str | None = _start(
        None,
        "Start from the weights of another run (its model_dir or a checkpoint) or of "
        "a weight file, layer by layer by name; momentum starts at 0.",
    )
    init_layers: tuple[str, ...] = _start(
        (),
        "Layers to take from --init_from; the others start anew. Where none are "
        "named: all, but fc8 where it has other classes.",
    )
    plateau_patience: int = _free(
        3, "Evaluations without a lower error before `plateau` divides."
    )
    plateau_reductions: int = _free(3, "How often `plateau` divides at most.")
    epochs_between_evals: float = _free(1, "Epochs between evaluations.")
    eval_crops: int = _free(1, "Crops an image: 1 (centre) or 10 (section 4.1).")
    skip_eval: bool = _free(False, "Train without evaluating.")
    log_steps: int = _free(20, "Steps between lines of progress and of metrics.jsonl.")
    checkpoint_steps: int = _free(
        1000, "Steps between checkpoints; one follows every evaluation as well."
    )
    max_to_keep: int = _free(
        3, "Checkpoints kept; that of the best evaluation is kept besides, in best/."
    )
    loss_upper_bound: float = _free(
        1e6, "Stop when the loss of a step is above this, or no number."
    )
    steps_per_loop: int = _free(10, "Steps in one call of the compiled loop.")
    profile_steps: tuple[int, ...] = _free(
        (), "first,last: profile these steps for TensorBoard."
    )
    seed: int = _run(0, "Of weights, dropout, shuffling, crops and colour noise.")


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
    """The machine."""

    distribution_strategy: str = _free(
        "off",
        "`off` and `one_device`: one replica; `mirrored`: as many as the devices of "
        "this machine allow; `multi_worker_mirrored`: those of --worker_hosts.",
        ("off", "one_device", "mirrored", "multi_worker_mirrored"),
    )
    num_gpus: int | None = _free(
        None,
        "GPUs of this machine to use; each replica takes --num_columns of them; 0 for "
        "the CPU. Where no number is given: all.",
    )
    logical_cpus: int | None = _free(
        None,
        "Split the CPU into this many devices: two columns or several replicas run "
        "on a machine without GPUs.",
    )
    worker_hosts: str | None = _free(
        None, "host:port of every worker, with commas; instead of TF_CONFIG."
    )
    task_index: int = _free(0, "Which of --worker_hosts this process is.")
    worker_timeout: float = _free(
        120,
        "Seconds to wait for the other workers to come up, and later for a sign of "
        "life from each, before all stop with status 69.",
    )
    dtype: str = _free(
        "fp32",
        "Type of the products: `fp32`; `bf16`, which recent CPUs and GPUs run faster; "
        "`fp16`, with loss scaling, for GPUs. Weights, velocity, LRN and loss are "
        "float32 in all.",
        ("fp32", "fp16", "bf16"),
    )
    enable_xla: bool = _free(
        False,
        "Compile the step with XLA; only one column on one replica. XLA draws other "
        "dropout masks and colour noise from the same seed.",
    )
    enable_op_determinism: bool = _free(
        False,
        "Have TensorFlow take only kernels that give the same bits twice. A CPU does "
        "without it; a GPU gets slower.",
    )
    run_eagerly: bool = _free(False, "Run step by step without a graph, to debug.")


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def to_yaml(self) -> str:
        return plain_yaml.write(_plain(dataclasses.asdict(self)))


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


_MORE_THAN_0 = (
    "num_classes",
    "width",
    "pool_size",
    "pool_stride",
    "shuffle_buffer",
    "batch_size",
    "train_epochs",
    "train_steps",
    "learning_rate",
    "stepsize",
    "plateau_patience",
    "epochs_between_evals",
    "log_steps",
    "checkpoint_steps",
    "max_to_keep",
    "loss_upper_bound",
    "steps_per_loop",
    "logical_cpus",
    "worker_timeout",
)
_AT_LEAST_0 = (
    "color_noise_sigma",
    "color_noise_epochs",
    "momentum",
    "weight_decay",
    "bias_learning_rate",
    "plateau_reductions",
    "seed",
    "num_gpus",
    "task_index",
)


def check(config: Config, *, reads_data: bool = True) -> None:
    """Checks what the types do not say.

    Args:
        config: the settings.
        reads_data: whether they are for something that reads images.

    Raises:
        UserError: naming the flag to change.
    """
    model, data, train, runtime = (
        config.model,
        config.data,
        config.train,
        config.runtime,
    )
    values = {
        k: v for section in vars(config).values() for k, v in vars(section).items()
    }
    for name in _MORE_THAN_0:
        if values[name] is not None and values[name] <= 0:
            raise UserError(f"--{name} should be more than 0, not {values[name]}")
    for name in _AT_LEAST_0:
        if values[name] is not None and values[name] < 0:
            raise UserError(f"--{name} should be 0 or more, not {values[name]}")
    checks.check_net(model)
    checks.check_data(data, reads_data)
    checks.check_loop(train)
    checks.check_schedule(train)
    checks.check_layers(train)
    checks.check_machine(runtime, model.num_columns)
