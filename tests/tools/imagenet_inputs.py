"""Small archives and folder trees, and what is read back from their records."""

import io
import os
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import tensorflow as tf
from PIL import Image

from official.alexnet.preparation import folder, locations, prepare, sources

ROOT = pathlib.Path(__file__).parents[2]
TOOL = ROOT / "tools" / "prepare_imagenet.py"
SAMPLE_TOOL = ROOT / "tools" / "make_sample_imagenet.py"
# In the order of their ids, which is not the order of the labels.
SYNSETS = ["n00000030", "n00000010", "n00000020"]
LABELS = {synset: label for label, synset in enumerate(sorted(SYNSETS))}
IDS = [3, 1, 2, 2, 1, 3, 1]


def encode(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **({"format": "JPEG", "quality": 95} | options))
    return buffer.getvalue()


def grey_picture(synset, width=20):
    """A picture that shows its class as its grey level; see `_label_seen`."""
    level = 40 + 60 * LABELS[synset]
    return encode(Image.new("RGB", (width, 16), (level, level, level)))


def label_seen(features):
    return round((np.asarray(stored_image(features)).mean() - 40) / 60)


def tar_of(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def write_archives(folder, year=2012, per_class=4):
    folder.mkdir(parents=True, exist_ok=True)
    part = "img" if year == 2012 else "images"
    classes = {
        f"{synset}.tar": tar_of(
            {
                f"{synset}_{i}.JPEG": grey_picture(synset, 20 + i)
                for i in range(per_class)
            }
        )
        for synset in SYNSETS
    }
    (folder / f"ILSVRC{year}_{part}_train.tar").write_bytes(tar_of(classes))
    pictures = {
        f"ILSVRC{year}_val_{number:08d}.JPEG": grey_picture(SYNSETS[identifier - 1])
        for number, identifier in enumerate(IDS, 1)
    }
    (folder / f"ILSVRC{year}_{part}_val.tar").write_bytes(tar_of(pictures))
    truth = "".join(f"{identifier}\n" for identifier in IDS)
    (folder / f"ILSVRC{year}_validation_ground_truth.txt").write_text(truth)
    words = "".join(f"{s} thing {s[-2:]}, item\n" for s in SYNSETS)
    (folder / "by_id.txt").write_text(words)
    return folder


def write_tree(folder, per_class=6, validation="val"):
    rng = np.random.default_rng(0)
    for split, count in (("train", per_class), (validation, 2)):
        for name in ("dog", "cat"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                blobs = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
                image = Image.fromarray(blobs).resize((300 + i, 256))
                (folder / split / name / f"{i}.jpg").write_bytes(encode(image))
    return folder


def prepare_here(input_dir, output_dir, shards=(2, 1, 1), **options):
    """Prepares in this process."""
    parts = ("synsets", "devkit", "validation_ground_truth")
    given = {name: options.pop(name) for name in parts if name in options}
    source = locations.locate(input_dir, given)
    folder.reject_foreign(output_dir)
    if isinstance(source, locations.Tree):
        listing = sources.list_tree(source)
    else:
        listing = sources.list_archives(source, output_dir / ".prepare")
    num_shards = dict(zip(("train", "validation", "test"), shards, strict=False))
    defaults = {"seed": 0, "max_bad_images": 0, "num_workers": 1}
    return prepare.prepare(
        listing, output_dir, num_shards=num_shards, **(defaults | options)
    )


def environment():
    """A user's, who silences nothing."""
    kept = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return kept | {"PYTHONPATH": str(ROOT)}


def start_tool(tool, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, str(tool), *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_tool(tool, *arguments, **options):
    process = start_tool(tool, *arguments, **options)
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def read_examples(output_dir, split):
    examples = []
    for path in sorted(output_dir.glob(f"{split}-?????-of-?????")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            examples.append(tf.train.Example.FromString(record).features.feature)
    return examples


def bytes_feature(features, key):
    return features[key].bytes_list.value[0]


def text_feature(features, key):
    return bytes_feature(features, key).decode()


def int_feature(features, key):
    return features[key].int64_list.value[0]


def stored_image(features):
    return Image.open(io.BytesIO(bytes_feature(features, "image/encoded")))


def files_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
