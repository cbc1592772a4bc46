"""The settings of a run: frozen dataclasses, written to YAML.

Later sources win: the defaults here, `--config_file`, flags (see `config_files`).
"""

import dataclasses

from official.alexnet import fields, plain_yaml
from official.alexnet.errors import UserError
from official.alexnet.fields import free, net, run, start
from official.alexnet.machine import RuntimeConfig
from official.alexnet.modeling import options
from official.alexnet.modeling.variants import VARIANTS, Variant
from official.alexnet.rate_rows import RateRow

_OPTIONS = (
    *("width", "input_size", "activation", "normalization"),
    *("dropout", "pool_size", "pool_stride", "remove"),
)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The net; see `official.alexnet.AlexNet`."""

    variant: str | Variant = net(  # noqa: RUF009 (a row is frozen)
        "paper",
        "`paper`: the text's net; `original`: the 2012 source's, which gave the "
        "published errors. Changed as the paper compares them: `one_gpu` (footnote 2: "
        "half the kernels), `conv6` (one layer more), `no_lrn`, `pool2x2` (windows "
        "that do not overlap), and `original_one_gpu` and so on; "
        "`original_conv6_bottleneck`: for 21,843 classes. `caffe`, `caffenet`: BVLC's. "
        "One tower: `owt` (torchvision's), `cuda_convnet2`. One of "
        f"{', '.join(VARIANTS)}, or a .cfg file of the 2012 program.",
    )
    num_classes: int = net(1000, "Number of classes.", above=0)
    num_columns: int = free(
        1,
        "1: the grouped form, a replica on one device; 2: two columns, each on a "
        "device of its own.",
    )
    init: str = start(
        "published",
        "Initial weights: `published` (the variant's own), `source` (the 2012 "
        "source's: 0.03 from conv3 to the last convolution) or `unit_variance` "
        "(measured on a batch of the training set: every layer's output has variance "
        "1 and biases are 0).",
        ("published", "source", "unit_variance"),
    )
    width: float = net(
        1.0, "Multiplies the number of kernels and hidden units.", above=0
    )
    input_size: int | None = net(
        None,
        "Side of the crops the net reads, in pixels. Where none is given: the "
        "variant's own, 224, or 227 for caffe and caffenet.",
        most=256,
    )
    activation: str | None = net(
        None,
        "Nonlinearity of all layers. Where none is named: the variant's own, relu.",
        options.ACTIVATIONS,
    )
    normalization: str | None = net(
        None,
        "`lrn`, `batch_norm` (of each convolution's output) or `none`. Where none is "
        "named: the variant's own.",
        options.NORMALIZATIONS,
    )
    dropout: float | None = net(
        None, "Rate of dropout. Where none is given: the variant's own, 0.5."
    )
    pool_size: int | None = net(
        None,
        "Side of the pooling windows; the variant's own: 3, or 2 for pool2x2.",
        above=0,
    )
    pool_stride: int | None = net(
        None,
        "Distance of the pooling windows; less than --pool_size: they overlap. Where "
        "none is given: the variant's own, 2.",
        above=0,
    )
    remove: tuple[str, ...] = net(
        (),
        "Convolutional layers to leave out, such as conv3,conv4. Their pooling stays, "
        "and the layer after them reads what they read.",
    )

    def net(self) -> Variant:
        """The net these settings describe, as a row of the table of variants.

        Raises:
            UserError: they describe none.
        """
        return options.change(options.find(self.variant), **self.options())

    def options(self) -> dict:
        """What `AlexNet` and `options.change` take besides a variant, by name."""
        values = {name: getattr(self, name) for name in _OPTIONS}
        return values | {"init": "source" if self.init == "source" else "published"}

    @property
    def image_size(self) -> int:
        """Side of the crops the net reads, in pixels."""
        return self.input_size or options.find(self.variant).input_size

    def check(self) -> None:
        """The net can be built."""
        net = self.net()
        if self.num_columns not in (1, net.num_columns):
            raise UserError(
                f"--num_columns={self.num_columns}: the variant {net.name} takes "
                + ("1 only" if net.num_columns == 1 else f"1 or {net.num_columns}")
            )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The images, and what is done to them."""

    data_dir: str | None = free(
        None,
        "Directory of TFRecords: what tools/prepare_imagenet.py wrote, any classic "
        "ImageNet TFRecords, or a TFDS directory.",
        is_path=True,
    )
    tfds_name: str | None = free(
        None, "TFDS dataset by name, such as imagenet2012; --data_dir is its root."
    )
    tfds_download: bool = free(
        False, "Let TFDS download and prepare --tfds_name if it is not there."
    )
    statistics: str | None = free(
        None,
        "statistics.npz with the mean image and colour PCA. Where none is named: the "
        "one in --data_dir, or measured on training images.",
        is_path=True,
    )
    use_synthetic_data: bool = free(
        False, "Random images instead of a data set, to measure speed."
    )
    augment: bool = free(
        True, "Random crops and flips while training; otherwise the centre crop."
    )
    color_noise: str = free(
        "eigenvalues",
        "Colour noise of section 4.1: `eigenvalues` (the paper's formula), "
        "`standard_deviations` (the 2012 source, which divides the noisy images by "
        "1 + sigma) or `none`.",
        ("eigenvalues", "standard_deviations", "none"),
    )
    color_noise_sigma: float = free(
        0.1, "Standard deviation of the colour noise.", least=0
    )
    color_noise_epochs: float | None = free(
        None, "Epochs with colour noise; where no number is given: all.", least=0
    )
    input_scale: str = net(
        "none",
        "`none`: grey levels 0..255 minus the mean image, as published; "
        "`unit_variance`: those divided by their standard deviation; `torchvision`: "
        "by 255 times (0.229, 0.224, 0.225), channel by channel.",
        ("none", "unit_variance", "torchvision"),
    )
    shuffle_buffer: int = free(
        8192, "Records held in memory to shuffle; shards are shuffled besides.", above=0
    )
    label_base: str = free(
        "auto",
        "Which stored label is class 0. `auto`: as a prepared set's manifest, TFDS, a "
        "numbered labels.txt or, read once, all labels of all splits say.",
        ("auto", "0", "1"),
    )

    def check(self, needed: bool) -> None:
        """There is one source of images, or none where none is needed."""
        named = self.data_dir is not None or self.tfds_name is not None
        if needed and not named and not self.use_synthetic_data:
            sources = "--data_dir, --tfds_name or --use_synthetic_data"
            raise UserError(f"no data: give {sources}")
        if named and self.use_synthetic_data:
            raise UserError(
                "--use_synthetic_data would leave --data_dir and --tfds_name unread: "
                "give one or the other (--nouse_synthetic_data)"
            )
        if self.tfds_download and self.tfds_name is None:
            raise UserError("--tfds_download needs --tfds_name, such as imagenet2012")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Section 5 of the paper, and when to look at what it does."""

    batch_size: int = free(128, "Images a step, all replicas together.", above=0)
    train_epochs: float = free(90, "Passes over the training set.", above=0)
    train_steps: int | None = free(None, "Steps; instead of --train_epochs.", above=0)
    learning_rate: float = free(0.01, "Initial learning rate.", above=0)
    momentum: float = free(0.9, "Momentum.", least=0)
    weight_decay: float = free(0.0005, "Weight decay, inside the velocity.", least=0)
    decay_biases: bool = free(
        True, "Weight decay on biases (the paper's rule; the 2012 source: no)."
    )
    schedule: str = free(
        "plateau",
        "What the learning rate follows where --rates say nothing of `all`: `plateau`: "
        "divided by 10 when the validation error stops improving; `dexp`: lowered by "
        "--dexp; `caffe`: divided by 10 every --stepsize steps; `constant`.",
        ("plateau", "dexp", "caffe", "constant"),
    )
    rates: tuple[str, ...] = free(
        (),
        "Learning rates from an epoch on, each as EPOCH WHAT RATE with commas between "
        "them: '30 all 0.001,0 biases x2,72 conv1 0'. EPOCH may be a part of the run: "
        "50%. WHAT: all, then kernels or biases, then a layer or a weight such as "
        "conv1/kernel; the later of these wins, and of the same the later epoch. x2: "
        "twice what it has otherwise. 0: it does not change at all, without gradient, "
        "momentum and decay.",
    )
    dexp: tuple[float, ...] = free(
        (250, 4),
        "factor,levels: that many equal parts of the run, from the learning rate in "
        "the first down to 1/factor of it in the last, each by the same ratio.",
    )
    stepsize: int = free(
        100_000, "Steps between divisions of schedule `caffe`.", above=0
    )
    init_from: str | None = start(
        None,
        "Start from the weights of another run (its model_dir or a checkpoint) or of "
        "a weight file, layer by layer by name; momentum starts at 0.",
        is_path=True,
    )
    init_layers: tuple[str, ...] = start(
        (),
        "Layers to take from --init_from; the others start anew. Where none are "
        "named: all, but fc8 where it has other classes.",
    )
    plateau_patience: int = free(
        3, "Evaluations without a lower error before `plateau` divides.", above=0
    )
    plateau_reductions: int = free(3, "How often `plateau` divides at most.", least=0)
    epochs_between_evals: float = free(1, "Epochs between evaluations.", above=0)
    eval_crops: int = free(1, "Crops an image: 1 (centre) or 10 (section 4.1).")
    skip_eval: bool = free(False, "Train without evaluating.")
    log_steps: int = free(
        20, "Steps between lines of progress and of metrics.jsonl.", above=0
    )
    checkpoint_steps: int = free(
        1000, "Steps between checkpoints; evaluations add theirs.", above=0
    )
    max_to_keep: int = free(
        3, "Checkpoints kept, besides the best evaluation's in best/.", above=0
    )
    loss_upper_bound: float = free(
        1e6, "Stop when the loss of a step is above this, or NaN.", above=0
    )
    steps_per_loop: int = free(10, "Steps in one call of the compiled loop.", above=0)
    profile_steps: tuple[int, ...] = free(
        (), "first,last: profile these steps for TensorBoard."
    )
    seed: int = run(
        0, "Of weights, dropout, shuffling, crops and colour noise.", least=0
    )

    def check(self) -> None:
        """The loop and its learning rates are known at every step."""
        if self.eval_crops not in (1, 10):
            raise UserError(f"--eval_crops should be 1 or 10, not {self.eval_crops}")
        if self.schedule == "plateau" and self.skip_eval:
            raise UserError(
                "--schedule=plateau follows the validation error: it cannot go with "
                "--skip_eval; use --schedule=constant"
            )
        first, last = self.profile_steps if len(self.profile_steps) == 2 else (0, 1)
        if len(self.profile_steps) not in (0, 2) or not 0 <= first < last:
            raise UserError("--profile_steps takes a first and a last step, as 10,12")
        factor, levels = self.dexp if len(self.dexp) == 2 else (0, 0)
        if factor <= 0 or levels < 2 or levels % 1:
            raise UserError(
                "--dexp takes a factor and a number of levels, 2 or more, such as "
                f"250,4, not {fields.show(self.dexp)}"
            )
        for text in self.rates:
            RateRow.parse(text)
        if self.init_layers and self.init_from is None:
            raise UserError("--init_layers needs --init_from, which it takes layers of")


_THIS_MACHINE = RuntimeConfig()


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    runtime: RuntimeConfig = _THIS_MACHINE

    def to_yaml(self) -> str:
        return plain_yaml.write(dataclasses.asdict(self))


def check(config: Config, *, reads_data: bool = True) -> None:
    """Checks what the types do not say.

    Args:
        config: the settings.
        reads_data: whether they are for something that reads images.

    Raises:
        UserError: naming the flag to change.
    """
    for section in vars(config).values():
        for field in dataclasses.fields(section):
            fields.check_bounds(field, getattr(section, field.name))
    config.model.check()
    config.data.check(reads_data)
    config.train.check()
    config.runtime.check(config.model.num_columns)
