"""Who is compared with: each peer is optional, and its absence is said aloud."""

import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarking.settings import Settings
from benchmarking.timing import Contender, Row
from official.alexnet.errors import UserError

# Name of a peer: how tables call it, and the packages it needs.
PEERS = {
    "keras": ("plain Keras", ()),
    "torch": ("PyTorch", ("torch",)),
    "onnxruntime": ("ONNX Runtime", ("onnx", "onnxruntime")),
    "openvino": ("OpenVINO", ("onnx", "openvino")),
    "simplejpeg": ("libjpeg-turbo", ("simplejpeg",)),
}


def choose(names: Sequence[str]) -> tuple[str, ...]:
    """The peers that `--peers` names.

    Args:
        names: `all`, `none`, or peers.

    Returns:
        Their names, in the order of `PEERS`.

    Raises:
        UserError: a name is no peer's.
    """
    if list(names) == ["all"]:
        return tuple(PEERS)
    if list(names) == ["none"]:
        return ()
    for name in names:
        if name not in PEERS:
            raise UserError(
                f"--peers: no peer is called {name!r}; there are {', '.join(PEERS)}, "
                "or all, or none"
            )
    return tuple(peer for peer in PEERS if peer in names)


def absence(peer: str, is_installed: Callable[[str], bool] | None = None) -> str | None:
    """Why a peer cannot be measured; None if it can.

    Args:
        peer: name out of `PEERS`.
        is_installed: whether a package can be imported.
    """
    is_installed = is_installed or (
        lambda package: importlib.util.find_spec(package) is not None
    )
    missing = [package for package in PEERS[peer][1] if not is_installed(package)]
    if not missing:
        return None
    verb = "is" if len(missing) == 1 else "are"
    return (
        f"skipped: {' and '.join(missing)} {verb} not installed "
        "(pip install 'official-alexnet[bench]')"
    )


def import_torch():
    """The module `torch`, kept from Triton.

    PyTorch's builds for GPUs bring Triton, and `torch.optim` loads it: beside
    TensorFlow that ends the process with a segmentation fault. Nothing here compiles
    for a GPU.
    """
    sys.modules.setdefault("triton", None)
    return importlib.import_module("torch")


def enter(
    settings: Settings, makers: Mapping[str, Callable[[], Iterable[Contender]]]
) -> tuple[list[Contender], list[Row]]:
    """Makes the contenders of the peers that were chosen and are installed.

    Args:
        settings: with the chosen peers.
        makers: for each peer of a suite, what makes its contenders.

    Returns:
        The contenders, and a row of words for each peer that is absent.
    """
    contenders, skipped = [], []
    for peer, make in makers.items():
        if peer not in settings.peers:
            continue
        reason = absence(peer)
        if reason is None:
            contenders += make()
        else:
            print(f"{PEERS[peer][0]}: {reason}", flush=True)
            skipped.append(Row(PEERS[peer][0], note=reason))
    return contenders, skipped
