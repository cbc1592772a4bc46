"""The sample archives: their layout, their bytes, and that colour tells nothing."""

import collections
import importlib.util
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "make_sample_imagenet.py"
TRAIN, VALIDATION = 24, 10


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sample = _load(TOOL)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    sample.write_archives(folder, 10, TRAIN, VALIDATION, seed=0)
    return folder


def _members(file):
    with tarfile.open(fileobj=file) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}


def _train(folder):
    """Synset -> file name -> bytes."""
    outer = _members((folder / "ILSVRC2012_img_train.tar").open("rb"))
    return {name: _members(io.BytesIO(data)) for name, data in outer.items()}


def test_training_archive_is_a_tar_of_one_tar_per_class(archives):
    train = _train(archives)
    assert len(train) == 10
    for name, pictures in train.items():
        synset = re.fullmatch(r"(n\d{8})\.tar", name).group(1)
        assert set(pictures) == {f"{synset}_{i}.JPEG" for i in range(1, TRAIN + 1)}


def test_validation_archive_is_flat_and_has_a_ground_truth_line_each(archives):
    names = _members((archives / "ILSVRC2012_img_val.tar").open("rb"))
    total = 10 * VALIDATION
    assert set(names) == {f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, total + 1)}
    truth = (archives / "ILSVRC2012_validation_ground_truth.txt").read_text().split()
    assert collections.Counter(map(int, truth)) == dict.fromkeys(
        range(1, 11), VALIDATION
    )
    devkit = _members((archives / "ILSVRC2012_devkit_t12.tar.gz").open("rb"))
    folder = "ILSVRC2012_devkit_t12/data"
    assert set(devkit) == {
        f"{folder}/meta.mat",
        f"{folder}/ILSVRC2012_validation_ground_truth.txt",
    }
    assert b"Created on" not in devkit[f"{folder}/meta.mat"]  # The same bytes each day.
    assert devkit[f"{folder}/ILSVRC2012_validation_ground_truth.txt"].split() == [
        line.encode() for line in truth
    ]


def test_synset_words_are_in_label_order_and_match_the_training_archive(archives):
    lines = (archives / "synset_words.txt").read_text().splitlines()
    synsets = [line.split(" ")[0] for line in lines]
    assert synsets == sorted(synsets)
    assert {f"{synset}.tar" for synset in synsets} == set(_train(archives))
    assert len({line.split(" ", 1)[1] for line in lines}) == 10


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_ids_are_never_in_label_order(num_classes, seed):
    identifiers = sample._identifiers(num_classes, seed)
    assert sorted(identifiers) == list(range(1, num_classes + 1))
    assert identifiers != sorted(identifiers)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        sample.write_archives(tmp_path / name, 3, 3, 2, seed)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    name = "ILSVRC2012_img_train.tar"
    assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes()


def test_no_two_pictures_are_alike(archives):
    pictures = [data for tar in _train(archives).values() for data in tar.values()]
    pictures += _members((archives / "ILSVRC2012_img_val.tar").open("rb")).values()
    assert len(set(pictures)) == 10 * (TRAIN + VALIDATION)


def test_the_awkward_ones_are_there(archives):
    pictures = [data for tar in _train(archives).values() for data in tar.values()]
    images = [Image.open(io.BytesIO(data)) for data in pictures]
    sides = [sorted(image.size) for image in images]
    for count, what in (
        (sum(i.mode == "L" for i in images), "greyscale"),
        (sum(i.mode == "CMYK" for i in images), "CMYK"),
        (sum(i.format == "PNG" for i in images), "PNG"),
        (sum(i.getexif().get(274) == 6 for i in images), "EXIF"),
        (sum(b < 256 for _, b in sides), "both sides under 256"),
        (sum(b > 3 * a for a, b in sides), "long and narrow"),
    ):
        assert 0.03 * len(images) <= count <= 0.2 * len(images), what
    plain = sum(i.mode == "RGB" and i.format == "JPEG" for i in images)
    assert plain > 0.7 * len(images)


def test_mean_colour_does_not_tell_the_class(archives):
    """The nearest class centroid in mean colour stays near chance, 1 in 10."""
    colours, labels = [], []
    for label, pictures in enumerate(_train(archives).values()):
        for data in pictures.values():
            image = Image.open(io.BytesIO(data)).convert("RGB")
            colours.append(np.asarray(image).mean((0, 1)))
            labels.append(label)
    colours, labels = np.array(colours), np.array(labels)
    known = np.arange(len(labels)) % 2 == 0
    centroids = np.stack(
        [colours[known & (labels == label)].mean(0) for label in range(10)]
    )
    distances = np.linalg.norm(colours[~known][:, None] - centroids, axis=-1)
    accuracy = np.mean(distances.argmin(1) == labels[~known])
    assert accuracy < 0.25


def test_texture_does_tell_the_class():
    """Magnitudes of frequencies, which forget colour and place, tell most of them."""

    def features(label, number):
        rng = np.random.default_rng([label, number])
        image = sample.draw(rng, label, 128, 128).convert("L").resize((64, 64))
        grey = np.asarray(image, np.float64)
        spectrum = np.abs(np.fft.fft2(grey - grey.mean()))
        spectrum = np.fft.fftshift(spectrum)[8:57, 8:57].reshape(7, 7, 7, 7)
        blocks = np.log1p(spectrum.mean((1, 3)).ravel())
        return blocks - blocks.mean()

    known = np.array([[features(c, i) for i in range(20)] for c in range(10)])
    unseen = np.array([[features(c, i) for i in range(20, 28)] for c in range(10)])
    distances = np.linalg.norm(
        unseen[:, :, None, None] - known[None, None], axis=-1
    ).min(-1)
    assert np.mean(distances.argmin(-1) == np.arange(10)[:, None]) > 0.75


def _run(*arguments):
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(TOOL.parents[1]), "PATH": "/usr/bin:/bin"},
    )


def test_command_line(tmp_path):
    done = _run(
        f"--output_dir={tmp_path / 'a'}",
        "--num_classes=2",
        "--train_per_class=3",
        "--validation_per_class=1",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "num_train": 6,
        "num_validation": 2,
        "num_classes": 2,
        "output_dir": str(tmp_path / "a"),
    }
    (tmp_path / "file").write_text("")
    for arguments, message in (
        (["stray"], "stray"),
        (["--num_classes=99"], "num_classes"),
        ([f"--output_dir={tmp_path / 'file' / 'a'}"], "Not a directory"),
    ):
        done = _run(f"--output_dir={tmp_path / 'b'}", *arguments)
        assert done.returncode != 0
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "b").exists()


def test_archives_that_are_there_are_not_written_over(tmp_path):
    (tmp_path / "ILSVRC2012_img_train.tar").write_text("138 GB")
    command = [sys.executable, str(TOOL), f"--output_dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not empty: name a new directory" in done.stderr
    assert (tmp_path / "ILSVRC2012_img_train.tar").read_text() == "138 GB"


@pytest.mark.parametrize("name", ["exported", "archives"])
def test_the_demo_takes_no_folder_of_others(tmp_path, name):
    (tmp_path / name).mkdir()
    command = [
        sys.executable,
        str(TOOL.with_name("demo.py")),
        f"--output_dir={tmp_path}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "holds what is no demo's: name a new one" in done.stderr
    assert (tmp_path / name).is_dir()
