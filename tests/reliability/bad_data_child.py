"""Puts bad inputs through each stage, in a process of its own: it might not survive.

    python bad_data_child.py FOLDER COUNT

COUNT inputs in all. The last line on stdout is one JSON object: stage -> kind ->
outcome -> how many. Anything that is not as it should be ends it with a traceback.
"""

import collections
import dataclasses
import io
import json
import pathlib
import sys
import tarfile
import time
import warnings

import bad_inputs
import damaged_files
import numpy as np
import tensorflow as tf
from PIL import Image

from official.alexnet.config import Config, ModelConfig
from official.alexnet.data import framing, pipeline, reading, schemas, validation
from official.alexnet.data.lanes import Share
from official.alexnet.data.records import Records
from official.alexnet.errors import UserError
from official.alexnet.preparation import conversion, prepare, sources
from official.alexnet.preparation.locations import Archives
from official.alexnet.serving.signatures import ServedAlexNet
from official.alexnet.training import building

SYNSETS = ("n00000001", "n00000002", "n00000003")
GREY = {"jpeg grey", "png grey", "png grey+alpha", "png 16-bit grey"}

Table = dict[str, collections.Counter]


def pillow_opens(encoded: bytes) -> bool:
    """Whether Pillow, asked by itself, decodes a JPEG or PNG of an allowed size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")).load()
    except Exception:
        return False
    return True


def expected_color(number: int, kind: str) -> np.ndarray:
    """Mean colour of a picture, by how it was drawn."""
    image = bad_inputs.picture(number)
    image = image.convert("L").convert("RGB") if kind in GREY else image
    return np.asarray(image).mean((0, 1))


def check_color(image: np.ndarray, number: int, kind: str, tolerance: float) -> None:
    found = image.mean((0, 1))
    expected = expected_color(number, kind)
    assert np.abs(found - expected).max() < tolerance, (number, kind, found, expected)


def through_prepare(folder: pathlib.Path, count: int) -> Table:
    """All of them in the training archive; some good ones to validate on."""
    members = {synset: {} for synset in SYNSETS}
    kinds, should_be_bad = {}, set()
    for number, kind, expected, encoded in bad_inputs.pictures(count, seed=1):
        synset = SYNSETS[number % 3]
        name = f"{synset}_{number}.JPEG"
        members[synset][name] = encoded
        kinds[f"{synset}/{name}"] = kind
        if expected == "bad" or (expected == "either" and not pillow_opens(encoded)):
            should_be_bad.add(f"{synset}/{name}")
    write_tar(
        folder / "train.tar",
        {f"{synset}.tar": tar_of(images) for synset, images in members.items()},
    )
    good = bad_inputs.encode(bad_inputs.picture(0))
    names = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in (1, 2, 3)]
    write_tar(folder / "val.tar", dict.fromkeys(names, good))
    (folder / "truth.txt").write_text("".join(f"{s}\n" for s in SYNSETS))
    archives = Archives(folder / "train.tar", folder / "val.tar", folder / "truth.txt")
    output = folder / "prepared"
    listing = sources.list_archives(archives, output / ".prepare")
    options = {"num_shards": {"train": 4, "validation": 1}, "seed": 0, "num_workers": 1}
    try:
        prepare.prepare(listing, output, max_bad_images=0, **options)
    except UserError as error:
        assert "--max_bad_images=0" in str(error)
        assert any(name in str(error) for name in should_be_bad)
    else:
        raise AssertionError("bad images were let through")
    manifest = prepare.prepare(listing, output, max_bad_images=count, **options)
    table = collections.defaultdict(collections.Counter)
    found_bad = {bad["name"] for bad in manifest["bad_images"]}
    assert found_bad == should_be_bad
    assert all(bad["reason"] for bad in manifest["bad_images"])
    for name in found_bad:
        table[kinds[name]]["skipped"] += 1
    for path in sorted(output.glob("train-?????-of-?????")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            name = features["image/filename"].bytes_list.value[0].decode()
            synset, _, number = name.removesuffix(".JPEG").partition("_")
            label = features["image/class/label"].int64_list.value[0]
            assert label == 1 + SYNSETS.index(synset)
            kind = kinds[f"{synset}/{name}"]
            stored = Image.open(
                io.BytesIO(schemas.encoded_image(record, schemas.CLASSIC))
            )
            assert (stored.size, stored.mode) == ((256, 256), "RGB")
            if bad_inputs.PICTURES[kind][0] == "good":
                # One pixel stands for all of a picture, or a narrow strip of them.
                check_color(np.asarray(stored), int(number), kind, 12)
            table[kind]["accepted"] += 1
    accepted = sum(counter["accepted"] for counter in table.values())
    assert accepted == manifest["splits"]["train"]["num_examples"]
    assert accepted + len(found_bad) == count
    return table


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def write_tar(path: pathlib.Path, members: dict[str, bytes]) -> None:
    path.write_bytes(tar_of(members))


def feature(value) -> tf.train.Feature:
    if isinstance(value[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
    if isinstance(value[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=value))
    return tf.train.Feature(float_list=tf.train.FloatList(value=value))


def example(image: list, label: list, names=("image/encoded", "image/class/label")):
    features = {
        name: feature(value)
        for name, value in zip(names, (image, label), strict=True)
        if value
    }
    features = tf.train.Features(feature=features)
    return tf.train.Example(features=features).SerializeToString()


# kind -> how it is made of a picture, its label and the number of classes.
RECORDS = {
    "no Example": lambda jpeg, label, classes: b"\xff" * 40,
    "empty record": lambda jpeg, label, classes: b"",
    "other schema": lambda jpeg, label, classes: example(
        [jpeg], [label], ("image", "label")
    ),
    "no label": lambda jpeg, label, classes: example([jpeg], []),
    "two labels": lambda jpeg, label, classes: example([jpeg], [label, label]),
    "label is a float": lambda jpeg, label, classes: example([jpeg], [float(label)]),
    "label is text": lambda jpeg, label, classes: example([jpeg], [b"7"]),
    "no image": lambda jpeg, label, classes: example([], [label]),
    "two images": lambda jpeg, label, classes: example([jpeg, jpeg], [label]),
    "image is a number": lambda jpeg, label, classes: example([7], [label]),
    "label 0": lambda jpeg, label, classes: example([jpeg], [0]),
    "label too large": lambda jpeg, label, classes: example([jpeg], [classes + 1]),
    "label 2^40": lambda jpeg, label, classes: example([jpeg], [2**40 + label]),
    "label negative": lambda jpeg, label, classes: example([jpeg], [-label]),
}


def bad_records(count: int):
    """Yields (number, kind, expected, record); a good one's label is its number + 1."""
    kinds = list(RECORDS)
    for number, kind, expected, encoded in bad_inputs.pictures(count, seed=2):
        if number % 5 == 4:
            kind = kinds[number // 5 % len(kinds)]  # noqa: PLW2901
            jpeg = bad_inputs.encode(bad_inputs.picture(number))
            yield number, kind, "bad", RECORDS[kind](jpeg, number + 1, count)
        else:
            yield number, kind, expected, example([encoded], [number + 1])


def through_input(folder: pathlib.Path, count: int) -> dict[str, Table]:
    """Each by itself as training and evaluation load it; and all as they come."""
    all_records = list(bad_records(count))
    shards, batch = 8, 10
    paths = [folder / f"train-{i:05d}-of-{shards:05d}" for i in range(shards)]
    parts = np.array_split(np.arange(count), shards)
    sizes = tuple(map(len, parts))
    for path, part in zip(paths, parts, strict=True):
        with tf.io.TFRecordWriter(str(path)) as writer:
            for number in part:
                writer.write(all_records[number][3])
    records = Records(tuple(map(str, paths)), schemas.CLASSIC, 1, sizes, count)
    places = [(file, i) for file, size in enumerate(sizes) for i in range(size)]
    share = Share.of(batch)
    datasets = {
        "train": pipeline.training_dataset(records, share, seed=3, shuffle_buffer=100),
        "eval": pipeline.evaluation_dataset(records, share),
    }
    tables = {}
    for stage, dataset in datasets.items():
        try:
            list(dataset.take(count // batch))
        except tf.errors.OpError as error:
            text = str(reading.as_user_error(error, records))
            assert any(f"{path}: record " in text for path in paths), text
        else:
            raise AssertionError("bad records were let through")
        size = 224 if stage == "train" else 256
        load = tf.function(pipeline._loader(records, size, 256))
        crop = tf.constant([[16, 16]]) * (stage == "train"), tf.constant([False])
        table = collections.defaultdict(collections.Counter)
        for number, kind, expected, record in all_records:
            file, place = places[number]
            tag = file * reading._RECORDS_A_FILE + place
            try:
                found = load(tf.constant([tag]), tf.constant([record]), *crop)
            except tf.errors.OpError as error:
                assert expected != "good", (number, kind)
                text = str(reading.as_user_error(error, records))
                assert text.startswith(f"{paths[file]}: record {place} "), text
                assert "could not be read" not in text, (number, kind)
                table[kind]["rejected"] += 1
                continue
            assert expected != "bad", (number, kind)
            assert found["label"] == [number]
            if expected == "good":
                image = found["image"][0].numpy()
                check_color(image, number, kind, 16 if stage == "train" else 12)
            if expected == "either":
                encoded = schemas.encoded_image(record, schemas.CLASSIC)
                assert stage == "train" or pillow_opens(encoded), (number, kind)
            table[kind]["accepted"] += 1
        tables[stage] = table
    return tables


def check_refused(dataset: tf.data.Dataset, records: Records, kind: str) -> None:
    try:
        list(dataset)
    except tf.errors.OpError as error:
        text = str(reading.as_user_error(error, records))
        assert records.files[0] in text
        lost = "it is said to hold" in text
        cut = "truncated record" in text or "cut short" in text
        assert lost or cut or "cannot be read" in text, text
        assert lost or cut or "cut" not in kind, text
    else:
        raise AssertionError(f"{kind}: nothing was noticed")


def through_files(folder: pathlib.Path, count: int) -> dict[str, Table]:
    """Damaged files, before the readers and before tools/validate_records.py."""
    path = folder / "train-00000-of-00001"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(6):
            small = bad_inputs.picture(number).resize((16, 16))
            writer.write(example([bad_inputs.encode(small)], [number + 1]))
    contents = path.read_bytes()
    spans = list(framing.spans(path))
    records = Records((str(path),), schemas.CLASSIC, 1, (6,), 6)
    drawn = {"seed": 3, "crop_size": 32, "shuffle_buffer": 6}
    reader = reading.read_files(tf.data.Dataset.range(1), records)
    # Both read with it; they take a tenth of a second to start.
    datasets = [
        pipeline.training_dataset(records, Share.of(6), **drawn).take(1),
        pipeline.evaluation_dataset(records, Share.of(6)),
    ]
    manifest = {"num_examples": 6, "bytes": len(contents), "sha256": "unknown"}
    job = validation.Job(path, schemas.CLASSIC)
    assert not validation.check_shard(job).problems
    assert len(list(reader)) == 6
    for dataset in datasets:
        assert len(next(dataset.as_numpy_iterator())["label"]) == 6
    tables = {
        stage: collections.defaultdict(collections.Counter)
        for stage in ("read", "validate")
    }
    variants = damaged_files.variants(contents, spans, count)
    for number, (kind, damaged) in enumerate(variants):
        path.write_bytes(damaged)
        if kind in ("length of its own", "tail"):
            # Found when records are counted, before either opens the file.
            try:
                framing.count_records(path)
                raise AssertionError("a length beyond the file was believed")
            except UserError as error:
                assert f"{path}: cut short or damaged in record" in str(error)
        else:
            check_refused(reader, records, kind)
            for dataset in datasets if number % 25 == 0 else []:
                check_refused(dataset, records, kind)
        # A shard cut between records is whole: only a manifest knows.
        checked = job
        if kind in ("cut between records", "no bytes"):
            checked = dataclasses.replace(job, manifest=manifest)
        assert validation.check_shard(checked).problems, kind
        for table in tables.values():
            table[f"file: {kind}"]["rejected"] += 1
    return tables


def through_serving(folder: pathlib.Path, count: int) -> Table:
    """Each beside a good picture, through one loaded SavedModel."""
    config = Config(model=ModelConfig(num_classes=10, width=0.125, input_size=64))
    saved = ServedAlexNet(
        building.build_model(config.model, config.runtime),
        np.float32([[[128.0] * 3]]),
        1.0,
    )
    tf.saved_model.save(saved, str(folder / "saved"), saved.signatures())
    loaded = tf.saved_model.load(str(folder / "saved"))
    classify = loaded.signatures["serving_default"]
    of_pixels = loaded.signatures["image_tensor"]
    neighbour = bad_inputs.encode(bad_inputs.picture(77))
    usual = classify(tf.constant([neighbour]))["logits"].numpy()[0]
    table = collections.defaultdict(collections.Counter)
    for number, kind, expected, encoded in bad_inputs.pictures(count, seed=5):
        try:
            logits = classify(tf.constant([neighbour, encoded]))["logits"].numpy()
        except tf.errors.InvalidArgumentError as error:
            assert expected != "good", (number, kind, error.message)
            assert "image 1 of the batch " in error.message, error.message
            table[kind]["rejected"] += 1
            continue
        assert expected != "bad", (number, kind)
        assert pillow_opens(encoded), (number, kind)
        np.testing.assert_allclose(logits[0], usual, atol=1e-4)
        if expected == "good":
            bgr = conversion._to_bgr(Image.open(io.BytesIO(encoded)))
            square = conversion.resize_and_crop(bgr)[..., ::-1]
            wanted = of_pixels(tf.constant(square[None]))["logits"].numpy()[0]
            np.testing.assert_allclose(
                logits[1], wanted, atol=0.02 * np.abs(wanted).max(), err_msg=kind
            )
        table[kind]["accepted"] += 1
    after = classify(tf.constant([neighbour]))["logits"].numpy()[0]
    np.testing.assert_array_equal(after, usual)
    return table


def main(folder: pathlib.Path, count: int) -> None:
    results = {}
    for name, stage, share in (
        ("prepare", through_prepare, 0.25),
        ("input", through_input, 0.3),
        ("files", through_files, 0.25),
        ("serving", through_serving, 0.2),
    ):
        start = time.process_time()
        (folder / name).mkdir()
        found = stage(folder / name, round(count * share))
        results[name] = found if name in ("input", "files") else {name: found}
        print(f"{name}: {time.process_time() - start:.1f} s", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
