"""The settings of the machine, which the device grid is laid out by."""

import dataclasses

from official.alexnet.errors import UserError
from official.alexnet.fields import free

MULTI_WORKER = "multi_worker_mirrored"


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
    """The machine."""

    distribution_strategy: str = free(
        "off",
        "`off` and `one_device`: one replica; `mirrored`: as many as the devices of "
        "this machine allow; `multi_worker_mirrored`: those of all machines.",
        ("off", "one_device", "mirrored", MULTI_WORKER),
    )
    launcher: str = free(
        "auto",
        "Who says which workers there are, and which this process is. `auto`: "
        "--worker_hosts or TF_CONFIG, else the scheduler that is found, where the "
        "strategy needs one; `none`: --worker_hosts alone. A scheduler that is named "
        "sets the strategy, too. `mpi` needs --worker_hosts on several machines.",
        ("auto", "none", "slurm", "mpi", "kubernetes", "skypilot", "sagemaker"),
    )
    num_gpus: int | None = free(
        None,
        "GPUs to use, --num_columns a replica; 0: the CPU. Without a number: all. "
        "With --logical_gpus their parts count.",
        least=0,
    )
    logical_gpus: int | None = free(
        None,
        "Split each GPU into this many devices: two columns on one card. 0: they stay "
        "whole.",
        least=0,
    )
    gpu_memory_mb: int | None = free(
        None,
        "MB of memory that each GPU device may take. Without a number a whole GPU's "
        "grows as it is needed, and a part of one has 3072, as a card of 2012.",
        above=0,
    )
    logical_cpus: int | None = free(
        None,
        "Split the CPU into this many devices: two columns or several replicas run "
        "on a machine without GPUs. 0: it stays whole.",
        least=0,
    )
    worker_hosts: str | None = free(
        None, "host:port of every worker, with commas; instead of TF_CONFIG."
    )
    worker_port: int | None = free(
        None,
        "Port of worker 0 where a scheduler gives the hosts; worker i has the i-th "
        "after it. Without one: 20000 and the last four digits of Slurm's job.",
        above=0,
        most=65535,
    )
    task_index: int = free(0, "Which of --worker_hosts this process is.", least=0)
    worker_timeout: float = free(
        120,
        "Seconds without a sign of life from a worker before all stop, status 69.",
        above=0,
    )
    dtype: str = free(
        "fp32",
        "Type of the products: `fp32`; `bf16`, which recent CPUs and GPUs run faster; "
        "`fp16`, with loss scaling, for GPUs. Weights, velocity, LRN and loss are "
        "float32 in all.",
        ("fp32", "fp16", "bf16"),
    )
    exchange_dtype: str | None = free(
        None,
        "Type of what the columns exchange, and of the gradients that come back: "
        "`fp16`, with loss scaling, halves the bytes. Where none is named: as it is.",
        ("fp16", "bf16"),
    )
    enable_xla: bool = free(
        False,
        "Compile the step with XLA; only one column on one replica. XLA draws other "
        "dropout masks and colour noise from the same seed.",
    )
    enable_op_determinism: bool = free(
        False,
        "Have TensorFlow take only kernels that give the same bits twice. A CPU does "
        "without it; a GPU gets slower.",
    )

    @property
    def names_launcher(self) -> bool:
        """Whether a scheduler is named, which then says more than the strategy."""
        return self.launcher not in ("auto", "none")

    @property
    def hosts(self) -> list[str]:
        """Those of --worker_hosts."""
        return [host.strip() for host in (self.worker_hosts or "").split(",") if host]

    @property
    def scales_loss(self) -> bool:
        """Small gradients would vanish in float16."""
        return "fp16" in (self.dtype, self.exchange_dtype)

    def check(self, num_columns: int) -> None:
        """The strategy's settings go together."""
        if self.exchange_dtype and num_columns == 1:
            raise UserError("--exchange_dtype needs --num_columns=2: one has no other")
        if self.enable_xla and num_columns > 1:
            raise UserError(
                "--enable_xla drops device names, and with them the columns: use it "
                "with --num_columns=1"
            )
        several = self.distribution_strategy == MULTI_WORKER or self.names_launcher
        if self.enable_xla and (several or self.distribution_strategy == "mirrored"):
            raise UserError(
                "--enable_xla works on one replica: use --distribution_strategy=off or "
                "one_device"
            )
        if self.num_gpus and self.logical_cpus:
            raise UserError(
                "--num_gpus and --logical_cpus cannot go together: give one (that of "
                "a --config_file is taken back with --logical_cpus=0)"
            )
        for flag in ("logical_gpus", "gpu_memory_mb"):
            if getattr(self, flag) and (self.logical_cpus or self.num_gpus == 0):
                other = "logical_cpus" if self.logical_cpus else "num_gpus=0"
                raise UserError(f"--{flag} and --{other} cannot go together: give one")
        if self.worker_hosts is not None and not several:
            raise UserError(
                f"--worker_hosts needs --distribution_strategy={MULTI_WORKER}"
            )
        if self.worker_hosts == "":
            raise UserError("--worker_hosts is empty: list host:port of every worker")
        if self.task_index and self.worker_hosts is None:
            raise UserError("--task_index needs --worker_hosts; TF_CONFIG has its own")
        if self.task_index and self.names_launcher:
            raise UserError(f"--task_index: --launcher={self.launcher} has its own")
