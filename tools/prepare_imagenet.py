r"""Turns ImageNet as downloaded, or a folder of pictures, into TFRecords.

From the archives of ILSVRC-2012 (they are read in place, never unpacked):

  python tools/prepare_imagenet.py --input_dir=~/archives --output_dir=~/imagenet

with ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and
ILSVRC2012_devkit_t12.tar.gz in --input_dir. ILSVRC-2010 goes the same way, with
ILSVRC2010_images_{train,val,test}.tar (or {train,val,test}.tar),
ILSVRC2010_devkit-1.0.tar.gz and ILSVRC2010_test_ground_truth.txt. From your own
pictures:

  python tools/prepare_imagenet.py --input_dir=pictures --output_dir=records \
      --train_shards=16 --validation_shards=4

with pictures/train/<class>/*.jpg and pictures/val/<class>/*.jpg, or WebDataset tars
train/*.tar and val/*.tar: of each key a .jpg and a .cls, or a .json with a `label`.

As in 2012, each picture becomes RGB, its shorter side 256, its centre 256x256 a JPEG
of quality 95 (chroma 4:2:0); EXIF orientation is ignored; the training list is
shuffled once. --output_dir gets train-?????-of-?????, validation-?????-of-?????,
statistics.npz (mean image and colour PCA of the stored training images, decoded),
labels.txt and manifest.json. Labels follow the sorted WordNet ids (or folder names),
the order of Caffe's, TensorFlow's and TFDS's label lists, counted from 1 in the
records.

Stopped or killed, the same command resumes and ends with the same files, bit for bit;
with --task=i/n, many processes and machines share the work. It also writes shards that
were lost, and with --remake damaged ones, which tools/validate_records.py names.
The last line on stdout is one JSON object with the results.
"""

import multiprocessing
import sys
from collections.abc import Callable

from absl import flags

from official.alexnet import cli, prepare
from official.alexnet.data import image_files

_PARTS = {
    "train_archive": "tar of one tar per class, nXXXXXXXX.tar.",
    "validation_archive": "Flat tar of ILSVRC20??_val_????????.JPEG.",
    "devkit": (
        "The devkit as downloaded, .tar.gz: holds the validation ground truth and, in "
        "meta.mat, which class has which id."
    ),
    "validation_ground_truth": (
        "Text, one line per validation image in the order of their numbers: its "
        "WordNet id, or the devkit's id of its class (1, 2, ...), which needs --devkit "
        "or --synsets to be understood. Wins over the devkit's."
    ),
    "synsets": (
        "Text of lines `nXXXXXXXX words`: line i says which class has id i in ground "
        "truth files of ids. For ILSVRC-2012 that is the order of ILSVRC2012_ID, NOT "
        "that of Caffe's synset_words.txt; not needed with --devkit. Also gives "
        "classes their words, for a folder tree or a ground truth of WordNet ids in "
        "any order."
    ),
    "test_archive": "Flat tar of the test images (2010), for an extra split `test`.",
    "test_ground_truth": "As --validation_ground_truth, for --test_archive.",
}


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    flags.DEFINE_string(
        "input_dir",
        None,
        "Folder with the archives under the names they were downloaded by, or with "
        "train/<class>/ and val/<class>/ (or validation/<class>/) folders of "
        f"{', '.join(image_files.SUFFIXES)} pictures; others are counted. Or with "
        "WebDataset tars in train/ and val/, and the names of their classes, from 0 "
        "on, in classnames.txt or --synsets.",
    )
    flags.DEFINE_string("output_dir", None, "Folder for the results.", required=True)
    for name, text in _PARTS.items():
        default = "" if name == "synsets" else " Default: found in --input_dir."
        flags.DEFINE_string(name, None, text + default)
    flags.DEFINE_integer("train_shards", 1024, "Number of training files.", 1, 99999)
    flags.DEFINE_integer(
        "validation_shards", 128, "Number of validation files.", 1, 99999
    )
    flags.DEFINE_integer("test_shards", 128, "Number of test files.", 1, 99999)
    flags.DEFINE_integer(
        "seed", 0, "Of the one shuffle of the training list.", 0, 2**32 - 1
    )
    flags.DEFINE_integer(
        "max_bad_images",
        0,
        "How many unreadable images may be left out (each is named) before the run "
        "stops. The complete ILSVRC sets have none, hence the default.",
        0,
    )
    flags.DEFINE_list(
        "remake",
        [],
        "Shards to write once more, such as train-00003-of-01024, with the other flags "
        "as they were; missing shards are written anyway. Default: none.",
    )
    flags.DEFINE_integer(
        "num_workers", None, "Processes. Default: one for each core.", 1
    )
    flags.DEFINE_string(
        "task",
        None,
        "i/n, such as 0/8: write every n-th shard from shard i (0 to n - 1) on, and "
        "nothing else. Any number of tasks may write to one folder at once; a last "
        "call without --task writes what is missing and the other files.",
    )


def main(engine: Callable | None = None) -> dict:
    """Prepares what the flags say; returns the results to print."""
    values = flags.FLAGS
    names = ("train_shards", "validation_shards", "test_shards", "seed")
    names += ("max_bad_images", "num_workers", "remake", "task")
    given = {name: values[name].value for name in names if name in values}
    given |= {name: values[name].value for name in _PARTS if values[name].value}
    try:
        return prepare(
            values.input_dir or None, values.output_dir, engine=engine, **given
        )
    except KeyboardInterrupt:
        # At once: half a shard does not count.
        for worker in multiprocessing.active_children():
            worker.terminate()
        print(
            "prepare_imagenet: stopped; the same command resumes here", file=sys.stderr
        )
        sys.exit(130)


if __name__ == "__main__":
    define_flags()
    cli.run("prepare_imagenet", main)
