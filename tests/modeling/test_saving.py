"""What Keras's own files carry over: with them training goes on to the same bits."""

import io
import zipfile

import h5py
import keras
import numpy as np
import pytest

from official.alexnet import AlexNet
from official.alexnet.training.optimizer import PaperSGD

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(0, 60, (6, 64, 64, 3)).astype("float32")
LABELS = np.arange(6) % 3


def compiled(num_columns: int = 1) -> keras.Model:
    model = AlexNet(num_classes=3, width=0.125, input_size=64, num_columns=num_columns)
    model.compile(PaperSGD(), "sparse_categorical_crossentropy", jit_compile=False)
    return model


def train(model: keras.Model, epochs: int = 1, **kwargs) -> None:
    """Two steps an epoch."""
    settings = {"batch_size": 3, "shuffle": False, "verbose": 0}
    model.fit(IMAGES, LABELS, epochs=epochs, **settings, **kwargs)


def states(model: keras.Model) -> dict[str, list[int]]:
    drops = [layer for layer in model.layers if layer.name.startswith("drop")]
    return {drop.name: drop.seed_generator.state.numpy().tolist() for drop in drops}


def through_a_model_file(model: keras.Model, folder) -> keras.Model:
    model.save(folder / "net.keras")
    return keras.models.load_model(folder / "net.keras")


def through_a_weights_file(model: keras.Model, folder) -> keras.Model:
    model.save_weights(folder / "net.weights.h5")
    other = compiled(2 if "conv1a" in [layer.name for layer in model.layers] else 1)
    # Else Keras leaves the optimizer's part of the file unread.
    other.optimizer.build(other.trainable_variables)
    other.load_weights(folder / "net.weights.h5")
    return other


@pytest.mark.parametrize(
    ("carry", "num_columns"),
    [
        (through_a_model_file, 2),
        pytest.param(through_a_weights_file, 1, marks=pytest.mark.slow),
        pytest.param(through_a_model_file, 1, marks=pytest.mark.slow),
        pytest.param(through_a_weights_file, 2, marks=pytest.mark.slow),
    ],
)
def test_training_goes_on_to_the_same_bits(tmp_path, carry, num_columns):
    model = compiled(num_columns)
    train(model)
    other = carry(model, tmp_path)
    assert states(other) == states(model)
    assert [count for _, count in states(model).values()] == [2] * 2 * num_columns
    train(model)
    train(other)
    assert states(other) == states(model)
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_fit_that_was_cut_off_goes_on_to_the_same_bits(tmp_path):
    """By keras.callbacks.BackupAndRestore, in the middle of the third epoch."""

    class CutOff(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations == 5:
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    never = compiled()
    train(never, epochs=4)
    with pytest.raises(KeyboardInterrupt):
        train(compiled(), epochs=4, callbacks=[backup(), CutOff()])
    again = compiled()
    train(again, epochs=4, callbacks=[backup()])
    assert states(again) == states(never)
    for ours, theirs in zip(never.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_file_of_before_is_read(tmp_path):
    """It holds no state of dropout: the masks start anew, as they did."""
    model = compiled()
    train(model)
    model.save(tmp_path / "net.keras")
    with (
        zipfile.ZipFile(tmp_path / "net.keras") as new,
        zipfile.ZipFile(tmp_path / "old.keras", "w") as old,
    ):
        for name in new.namelist():
            content = io.BytesIO(new.read(name))
            if name == "model.weights.h5":
                with h5py.File(content, "r+") as file:
                    for drop in ("dropout", "dropout_1"):
                        del file[f"layers/{drop}/vars/seed_generator"]
            old.writestr(name, content.getvalue())
    loaded = keras.models.load_model(tmp_path / "old.keras")
    assert states(loaded) == states(compiled())
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))
