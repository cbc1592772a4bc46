r"""As tools/prepare_imagenet.py, its shards written by Apache Beam, wherever that runs.

  python tools/prepare_imagenet_beam.py --input_dir=/shared/archives \
      --output_dir=/shared/imagenet -- --runner=DirectRunner \
      --direct_running_mode=multi_processing --direct_num_workers=8

Flags after `--` are Beam's own. Workers need this package, and see --input_dir and
--output_dir under the same names. The files are those of one machine, bit for bit;
stopped, the same command resumes. Beam comes with pip install 'official-alexnet[beam]'.
"""

import importlib.util
import re
import sys
from collections.abc import Iterator

import prepare_imagenet
from absl import flags

from official.alexnet import cli
from official.alexnet.errors import UserError
from official.alexnet.preparation import prepare, shards


def main() -> dict:
    """Prepares what the flags say; returns the results to print."""
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError("no Apache Beam: pip install 'official-alexnet[beam]'")
    return prepare_imagenet.main(run_pipeline)


def run_pipeline(
    todo: prepare.Todo,
) -> Iterator[tuple[shards.ShardJob, shards.ShardResult]]:
    """Has all shards written, then reads what their workers noted of each."""
    import apache_beam as beam  # noqa: PLC0415

    try:
        with beam.Pipeline(argv=beam_flags) as pipeline:
            # Shuffled, or a runner may give all to one worker.
            jobs = pipeline | beam.Create(todo) | beam.Reshuffle()
            jobs | beam.MapTuple(shards.write_shard)
    except RuntimeError as error:  # It holds a worker's traceback as text.
        if found := re.search(r"(?:UserError|NoRoom): (.+)", str(error)):
            raise UserError(found[1]) from None
        raise
    for job, _ in todo:
        if not (result := shards.read_notes(job)):
            raise UserError(f"{job.file}: workers do not write to this --output_dir")
        yield job, result


if __name__ == "__main__":
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    sys.argv, beam_flags = sys.argv[:end], sys.argv[end + 1 :]
    prepare_imagenet.define_flags()
    del flags.FLAGS.num_workers, flags.FLAGS.task  # Beam's business.
    cli.run("prepare_imagenet_beam", main)
