"""The settings of a run: frozen dataclasses, written to YAML.

Later sources win: the defaults here, `--config_file`, flags (see `config_files`).
"""

import dataclasses
import typing

from official.alexnet import fields, plain_yaml
from official.alexnet.errors import UserError
from official.alexnet.fields import free, net, run, start
from official.alexnet.machine import RuntimeConfig
from official.alexnet.modeling import options
from official.alexnet.modeling.variants import VARIANTS, Variant
from official.alexnet.rate_rows import RateRow


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The net; see `official.alexnet.AlexNet`. None: as the variant has it."""

    variant: str | Variant = net(  # noqa: RUF009 (a row is frozen)
        "paper",
        "`paper`: the text's net; `original`: the 2012 source's, which gave the "
        "published errors. Changed as the paper compares them: `one_gpu` (footnote 2: "
        "half the kernels), `conv6` (one layer more), `no_lrn`, `pool2x2` (windows do "
        "not overlap); `original_conv6_bottleneck`: for 21,843 classes. `caffe`, "
        "`caffenet`: BVLC's. One tower: `owt` (torchvision's), `cuda_convnet2`. One of "
        f"{', '.join(VARIANTS)}, or a .cfg file of the 2012 program.",
    )
    num_classes: int = net(1000, "Number of classes.", above=0)
    num_columns: int = free(
        1, "1: the grouped form, on one device; 2: two columns, each on its own device."
    )
    init: str = start(
        "published",
        "Initial weights: `published` (the variant's own), `source` (the 2012 "
        "source's: 0.03 from conv3 to the last convolution) or `unit_variance` "
        "(measured on a batch of the training set: every layer's output has variance "
        "1 and biases are 0).",
        ("published", "source", "unit_variance"),
    )
    width: float = net(1.0, "Multiplies numbers of kernels and hidden units.", above=0)
    input_size: int | None = net(
        None, "Side of the crops, in pixels; none: the variant's own.", most=256
    )
    activation: str | None = net(
        None, "Nonlinearity; none: the variant's own, relu.", options.ACTIVATIONS
    )
    normalization: str | None = net(
        None,
        "`batch_norm` is of each convolution's output; not given: the variant's own.",
        options.NORMALIZATIONS,
    )
    dropout: float | None = net(None, "Rate of dropout; none: the variant's own, 0.5.")
    pool_size: int | None = net(
        None, "Side of the pooling windows; none: the variant's own.", above=0
    )
    pool_stride: int | None = net(
        None, "Distance of these windows; none: the variant's own, 2.", above=0
    )
    remove: tuple[str, ...] = net(
        (), "Convolutional layers to leave out, as conv3,conv4; their pooling stays."
    )

    def net(self) -> Variant:
        """The net as a row of the table of variants; a UserError where it is none."""
        return options.change(options.find(self.variant), **self.options())

    def options(self) -> dict:
        """What `AlexNet` and `options.change` take besides a variant, by name."""
        others = ("variant", "num_classes", "num_columns")
        values = {k: v for k, v in vars(self).items() if k not in others}
        return values | {"init": "source" if self.init == "source" else "published"}

    @property
    def image_size(self) -> int:
        """Side of the crops the net reads, in pixels."""
        return self.input_size or options.find(self.variant).input_size

    def check(self) -> None:
        """The net can be built."""
        net = self.net()
        if self.num_columns not in (1, net.num_columns):
            most = "1 only" if net.num_columns == 1 else f"1 or {net.num_columns}"
            what = f"--num_columns={self.num_columns}: the variant {net.name}"
            raise UserError(f"{what} takes {most}")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The images, and what is done to them."""

    data_dir: str | None = free(
        None,
        "Directory of TFRecords: what tools/prepare_imagenet.py wrote, classic "
        "ImageNet TFRecords, or a TFDS directory.",
        is_path=True,
    )
    tfds_name: str | None = free(
        None, "TFDS dataset by name, such as imagenet2012; --data_dir is its root."
    )
    tfds_download: bool = free(False, "Let TFDS download --tfds_name if need be.")
    statistics: str | None = free(
        None,
        "statistics.npz, mean image and colour PCA; none: --data_dir's, or measured.",
        is_path=True,
    )
    use_synthetic_data: bool = free(False, "Random images, to measure speed.")
    augment: bool = free(True, "Random crops and flips in training, or the centre.")
    color_noise: str = free(
        "eigenvalues",
        "Colour noise of section 4.1: the paper's formula; or that of the 2012 source, "
        "which divides the noisy images by 1 + sigma.",
        ("eigenvalues", "standard_deviations", "none"),
    )
    color_noise_sigma: float = free(0.1, "Standard deviation of the noise.", least=0)
    color_noise_epochs: float | None = free(
        None, "Epochs with noise; none: all.", least=0
    )
    input_scale: str = net(
        "none",
        "`none`: grey levels 0..255 minus the mean image, as published; "
        "`unit_variance`: those divided by their standard deviation; `torchvision`: "
        "by 255 times (0.229, 0.224, 0.225), channel by channel.",
        ("none", "unit_variance", "torchvision"),
    )
    shuffle_buffer: int = free(8192, "Records, of some 40 kB, to draw from.", above=0)
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
    decay_biases: bool = free(True, "Weight decay on biases; the 2012 source: no.")
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
        "conv1/kernel; the later of these wins, then the later epoch. x2: twice what "
        "the kinds before give. 0: it does not change, without gradient and decay.",
    )
    dexp: tuple[float, ...] = free(
        (250, 4),
        "factor,levels: that many equal parts of the run, from the learning rate in "
        "the first down to 1/factor of it in the last, each by the same ratio.",
    )
    stepsize: int = free(100_000, "Steps between divisions of `caffe`.", above=0)
    init_from: str | None = start(
        None,
        "Weights to start from by layers' names: a run's (its model_dir or a "
        "checkpoint) or a weight file's; momentum starts at 0.",
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
    log_steps: int = free(20, "Steps between lines of log and metrics.jsonl.", above=0)
    checkpoint_steps: int = free(1000, "Steps between checkpoints.", above=0)
    max_to_keep: int = free(3, "Checkpoints kept, besides best/.", above=0)
    loss_upper_bound: float = free(1e6, "Stop above this loss, or at NaN.", above=0)
    steps_per_loop: int = free(10, "Steps in one call of the compiled loop.", above=0)
    profile_steps: tuple[int, ...] = free(
        (), "first,last: steps to profile for TensorBoard."
    )
    seed: int = run(0, "Of all that is drawn at random.", least=0, most=2**32 - 1)

    def check(self) -> None:
        """The loop and its learning rates are known at every step."""
        if self.eval_crops not in (1, 10):
            raise UserError(f"--eval_crops should be 1 or 10, not {self.eval_crops}")
        if self.schedule == "plateau" and self.skip_eval:
            raise UserError(
                "--schedule=plateau follows the validation error: it cannot go with "
                "--skip_eval; use --schedule=constant"
            )
        steps = self.profile_steps
        if steps and not (len(steps) == 2 and 0 <= steps[0] < steps[1]):
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


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    runtime: RuntimeConfig = RuntimeConfig()  # noqa: RUF009 (it is frozen)

    def to_yaml(self) -> str:
        return plain_yaml.write(dataclasses.asdict(self))

    def replace(self, **settings) -> typing.Self:
        """The settings with others, by their names alone."""
        config = self
        for name, value in settings.items():
            section, _ = SETTINGS[name]
            values = dataclasses.replace(getattr(config, section), **{name: value})
            config = dataclasses.replace(config, **{section: values})
        return config


# The section and the field of each setting by its name, which no two sections share.
SETTINGS = {
    field.name: (section.name, field)
    for section in dataclasses.fields(Config)
    for field in dataclasses.fields(section.default)
}


def check(config: Config, *, reads_data: bool = True) -> None:
    """Checks what the types do not say; a UserError names the flag to change.

    For what `reads_data`, the settings say where.
    """
    for name, (section, field) in SETTINGS.items():
        fields.check_bounds(field, getattr(getattr(config, section), name))
    config.model.check()
    config.data.check(reads_data)
    config.train.check()
    config.runtime.check(config.model.num_columns)
