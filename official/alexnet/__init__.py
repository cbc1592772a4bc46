"""AlexNet (Krizhevsky et al. 2012) for TensorFlow and Keras, with its two columns."""

from official.alexnet import registration

__version__ = "0.1.0"
__all__ = ["AlexNet", "UserError"]

registration.register()


def __getattr__(name: str):
    # Lazily, so that the binaries answer --help without starting TensorFlow.
    if name == "AlexNet":
        from official.alexnet.training.run_weights import AlexNet  # noqa: PLC0415

        return AlexNet
    if name == "UserError":
        from official.alexnet.errors import UserError  # noqa: PLC0415

        return UserError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
